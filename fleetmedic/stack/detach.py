"""Run a stack in the background, and return when it is ready.

The child process sends its messages to the parent through a pipe, and also writes them to
logs/up.log in the state directory.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.directory_lock import announce
from fleetmedic.stack.identity import identity
from fleetmedic.stack.lifecycle import Stack, StackOptions, require_ours
from fleetmedic.stack.service_supervisor import Report, without_mark
from fleetmedic.terminal.disk_errors import explain, unusable


def run_detached(options: StackOptions, report: Report, timeout: float) -> None:
    """Start the stack in the background and return when it is ready. `report` is called with the
    messages of the startup.

    Raises UserError if the stack does not become ready. In that case, no process is left running.
    """
    read, write = os.pipe()
    require_ours(options.state_dir)
    folder = options.state_dir / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / "up.log").open("ab")
    except OSError as error:
        raise unusable(folder, error) from None
    settings = {**asdict(options), "state_dir": str(options.state_dir)}
    with log:
        child = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "fleetmedic.stack.detach",
                str(write),
                str(timeout),
                json.dumps(settings),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            pass_fds=(write,),
            env=without_mark(),
        )
        try:
            announce(options.state_dir, identity(child.pid))
        except OSError as error:
            child.terminate()
            raise unusable(options.state_dir, error) from None
    os.close(write)
    with os.fdopen(read) as lines:
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            if "error" in said:
                raise UserError(said["error"])
            if "ready" in said:
                return
            report(said["text"])
    raise UserError(f"the stack exited before it was ready. See {folder}/up.log.")


class _MessageWriter:
    """Writes messages to the log, and to the parent process as long as it reads them."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()

    def write(self, **what: str) -> None:
        print(*what.values(), flush=True)
        with self._lock:
            try:
                if self._handle >= 0:
                    os.write(self._handle, (json.dumps(what) + "\n").encode())
            except OSError:
                self.close()

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


def main(handle: int, timeout: float, settings: dict[str, Any]) -> int:
    """Run the stack in the child process until SIGTERM; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    messages = _MessageWriter(handle)
    stack: Stack | None = None
    try:
        stack = Stack(StackOptions(**{**settings, "state_dir": Path(settings["state_dir"])}))
        stack.prepare(lambda text: messages.write(text=text))
        stack.start()
        stack.wait_ready(timeout)
        messages.write(ready="the stack is ready")
        messages.close()
        stack.watch()
    except (UserError, OSError, sqlite3.Error) as error:
        if stack is not None:
            stack.stop()  # before the parent reports the error: no process may be left running
        sentence = str(error) if isinstance(error, UserError) else explain(error)
        if sentence is None:
            raise
        messages.write(error=sentence)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if stack is not None:
            stack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])))
