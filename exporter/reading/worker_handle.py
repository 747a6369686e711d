"""Handles of child processes for the supervisor: start, read messages, send commands, end, reap."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec

from exporter.reading.fork_client import ForkClient
from exporter.reading.heartbeat import Beat, HeartbeatReader
from exporter.reading.protocol import Message, decode

_MAX_BATCH = 16_000_000
GRACE = 2.0


class ChildHandle:
    """A child process with a heartbeat. Only one thread may use it."""

    def __init__(self, fork_client: ForkClient, module: str, words: list[str]) -> None:
        self._heartbeat = HeartbeatReader()
        theirs_in, self._commands = os.pipe()
        self._output, theirs_out = os.pipe()
        try:
            given = (theirs_in, theirs_out, self._heartbeat.descriptor)
            self._process = fork_client.start(module, words, given)
        except OSError:
            os.close(self._commands)
            os.close(self._output)
            self._heartbeat.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
            self._heartbeat.close_descriptor()
        os.set_blocking(self._output, False)
        os.set_blocking(self._commands, False)
        self._buffer = b""
        self._terminated: float | None = None
        self._killed: float | None = None
        self.ended = self.closed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor of the output, so that the handle can be used in a selector."""
        return self._output

    def beat(self) -> Beat:
        """Return the process's current heartbeat."""
        return self._heartbeat.read()

    def lines(self) -> list[bytes]:
        """Return the complete output lines that have arrived. Sets `ended` at the end of the output."""
        while True:
            try:
                data = os.read(self._output, 262_144)
            except BlockingIOError:
                break
            if not data:
                self.ended = True
                break
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        self.ended |= len(self._buffer) > _MAX_BATCH
        return lines

    def send_command(self, text: str) -> None:
        """Send a command. A process that no longer reads commands is replaced soon, so errors are
        ignored."""
        try:
            os.write(self._commands, text.encode() + b"\n")
        except OSError:
            pass  # the process has ended or hangs: its replacement starts with the command applied

    def state(self) -> str:
        """Return the process's state letter in /proc; empty if the process does not exist."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return ""
        return stat.rpartition(")")[2].split()[0]

    def terminate(self) -> None:
        """Send SIGTERM. The process has default signal handlers, so this also ends a hang in user
        space."""
        self._terminated = time.monotonic()
        self._process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the process."""
        self._killed = time.monotonic()
        self._process.signal(signal.SIGKILL)

    def poll(self, now: float) -> bool:
        """Return whether the process has ended. Sends SIGKILL if it still runs GRACE seconds after
        `terminate`."""
        if self._process.ended():
            return True
        if self._killed is None and self._terminated is not None:
            self._kill_after_grace(now - self._terminated)
        return False

    def _kill_after_grace(self, waited: float) -> None:
        if waited > GRACE:
            self.kill()

    def stuck(self, now: float) -> bool:
        """Return whether the process survived SIGKILL, because it is stuck in the kernel."""
        return self._killed is not None and now - self._killed > GRACE / 2

    def reap(self, wait: float) -> bool:
        """Wait until the process ends, at most `wait` seconds. Returns False if the process still runs."""
        return self._process.wait(wait)

    def close(self) -> None:
        """Close the pipes and the heartbeat of the process."""
        self.closed = True
        os.close(self._output)
        os.close(self._commands)
        self._heartbeat.close()
        self._process.close()


class WorkerHandle(ChildHandle):
    """A worker process and its messages. The arguments are those of worker.main."""

    def __init__(
        self,
        fork_client: ForkClient,
        mode: str,
        plan: str,
        counts: tuple[int, int],
        every: str,
        source: list[str],
    ) -> None:
        made_for = ",".join(map(str, counts))
        super().__init__(
            fork_client, "exporter.reading.worker", [mode, plan, made_for, every, *source]
        )

    def messages(self) -> list[Message]:
        """Return the messages that have arrived. An invalid line sets `ended`."""
        found: list[Message] = []
        try:
            for line in self.lines():
                found.extend(decode(line))
        except msgspec.DecodeError:
            self.ended = True
        return found
