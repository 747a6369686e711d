"""Starts processes through the fork server (see fork_server)."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parent.parent)
START_WITHIN = 15.0


class ForkedProcess:
    """A process that the fork server forked. The kernel reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = False
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError as error:  # the process has ended, or the kernel lacks this call
            self._ended = error.errno == errno.ESRCH

    def ended(self) -> bool:
        """Return whether the forked process has ended."""
        if not self._ended:
            if self._descriptor is not None:
                self._ended = bool(select.select([self._descriptor], [], [], 0)[0])
            else:
                self._ended = not self.signal(0)
        return self._ended

    def wait(self, seconds: float) -> bool:
        """Wait until the process ends, at most `seconds`. Returns False if the process still runs."""
        until = time.monotonic() + seconds
        while not self.ended() and (left := until - time.monotonic()) > 0:
            if self._descriptor is not None:
                select.select([self._descriptor], [], [], left)
            else:
                time.sleep(min(left, 0.01))
        return self.ended()

    def signal(self, number: int) -> bool:
        """Send a signal to the process. Returns False if the process has ended."""
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            elif not self._ended:
                os.kill(self.pid, number)
        except OSError:
            return False
        return not self._ended

    def close(self) -> None:
        """Close the handle (pidfd) of the process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor, self._ended = None, True


class ForkClient:
    """The client of the fork server. Starts the server when needed, and again after it ended.

    Only one thread may use it. When this thread ends, the kernel kills the fork server and all
    processes forked by it.
    """

    def __init__(self, modules: list[str]) -> None:
        self._modules = modules
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(
        self, module: str, words: list[str], descriptors: tuple[int, int, int]
    ) -> ForkedProcess:
        """Run `module.main` with the arguments `words` in a new process. Raises OSError.

        `descriptors` are its input, output and heartbeat.
        """
        request = "\0".join((module, *words)).encode()
        try:
            control = self._ready()
            socket.send_fds(control, [request], list(descriptors))
            answer = control.recv(64)
        except OSError:
            self.stop()
            raise
        pid = int(answer or b"-1")
        if pid < 0:
            self.stop()
            raise OSError(errno.EAGAIN, "cannot start a process")
        return ForkedProcess(pid)

    def stop(self) -> None:
        """Kill the fork server and all processes forked by it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ready(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self.stop()
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(START_WITHIN)
            path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH", ""))))
            here, number = str(os.getpid()), str(theirs.fileno())
            with theirs:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "exporter.reading.fork_server",
                        here,
                        number,
                        *self._modules,
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": path},
                    pass_fds=(theirs.fileno(),),
                )
            self._control = ours
        return self._control
