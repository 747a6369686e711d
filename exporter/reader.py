"""One worker process as the supervisor sees it: started, listened to, asked to end, reaped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from exporter.protocol import Begin, Message, decode

_MAX_LINE = 1_000_000
_ROOT = str(Path(__file__).resolve().parent.parent)


class Reader:
    """A worker process and the messages it sends. Used by one thread, which must outlive it.

    `pending` is the announced call that has not come back, `heard` the monotonic time of the latest
    sign of life.
    """

    def __init__(self, mode: str, slots: list[int], every: str, source: list[str]) -> None:
        path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH", ""))))
        chosen = ",".join(map(str, slots))
        command = [sys.executable, "-P", "-m", "exporter.worker"]
        self._process = subprocess.Popen(
            [*command, str(os.getpid()), mode, chosen, every, *source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._orders = self._process.stdin
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._buffer = b""
        self.pending: Begin | None = Begin(None, "open")
        self.started = self.heard = time.monotonic()
        self.ended = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """For selectors."""
        return self._output.fileno()

    def messages(self) -> list[Message]:
        """What has arrived; sets `ended` at the end of the output. A line that is none ends it too."""
        while True:
            try:
                data = os.read(self._output.fileno(), 65_536)
            except BlockingIOError:
                break
            if not data:
                self.ended = True
                break
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        found: list[Message] = []
        try:
            found.extend(decode(line) for line in lines)
        except msgspec.DecodeError:
            self.ended = True
        self.ended |= len(self._buffer) > _MAX_LINE
        if found:
            self.heard = time.monotonic()
            self.pending = found[-1] if isinstance(found[-1], Begin) else None
        return found

    def include(self, slot: int) -> None:
        """Order the worker to take a GPU back into its rounds."""
        try:
            self._orders.write(f"include {slot}\n".encode())
            self._orders.flush()
        except OSError:
            pass  # it has ended: the next one starts with the GPU in its rounds

    def runs(self) -> bool:
        """Whether it computes, or waits for a processor, rather than sleeps inside a call."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "R"

    def exit_code(self) -> int | None:
        """Its exit code; None while it lives."""
        return self._process.poll()

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end. Its signals have their default actions, so a hang in user space ends too."""
        try:
            self._process.send_signal(number)
        except OSError:
            pass  # it is dead already

    def reap(self, wait: float) -> bool:
        """Wait for its end; False when it is still there (stuck inside the kernel)."""
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Let go of its pipes."""
        for pipe in (self._output, self._orders):
            try:
                pipe.close()
            except OSError:
                pass  # what was still to be written has no reader
