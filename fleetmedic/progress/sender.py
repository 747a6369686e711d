"""Send a job's progress reports to the exporter on its node, by file, by socket, or both."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable

from fleetmedic.progress.process import pid_namespace, start_ticks

MIN_SECONDS = 0.5
MAX_DATAGRAM = 16_384
Place = str | os.PathLike[str] | None


def environment(name: str, default: str = "") -> str:
    """Return the environment variable FLEETMEDIC_`name`."""
    return os.environ.get(f"FLEETMEDIC_{name}", default)


class Sender:
    """Sends the reports of one reporter. `stem` is the name of its file without `.json`.

    If `send` fails, the report is lost and the job continues. If the job cannot write its file, for
    example because the disk, a quota or its file descriptors are exhausted, the earlier report of a
    training job is deleted: otherwise the job would seem to make no steps.
    """

    def __init__(self, stem: str, directory: Place, address: Place) -> None:
        folder = os.fspath(directory or environment("PROGRESS_DIR"))
        self._path = os.path.join(folder, f"{stem}.json") if stem and folder else ""  # noqa: PTH118
        self._address = os.fspath(address or environment("PROGRESS_SOCKET")) if stem else ""
        self._process: tuple[int, int, int] = (0, 0, 0)
        self.on = bool(self._path or self._address)

    def before(self) -> dict[str, object]:
        """Return the report of an earlier process from the report file; empty without a report."""
        if not self._path:
            return {}
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - light to import
                found = json.loads(file.read(65_536) or b"")  # a pipe without a writer reads empty
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def send(self, report: dict[str, object]) -> None:
        """Send the report with the identity of this process. A report is sent completely or not at all."""
        if not self.on:
            return
        try:
            text = json.dumps(report | self._identity(), allow_nan=False)
        except (ValueError, TypeError):
            return
        if self._address:
            self._over_socket(text.encode())
        if self._path:
            self._into_file(text, training="kind" not in report)

    def _identity(self) -> dict[str, object]:
        """Return the identity of this process, so that the exporter notices its end.

        A pid is unique only within its pid namespace and together with the start time.
        """
        if self._process[0] != os.getpid():
            self._process = (os.getpid(), pid_namespace(), start_ticks(os.getpid()))
        pid, namespace, began = self._process
        return {"pid": pid, "pid_ns": namespace, "pid_start": began}

    def _over_socket(self, data: bytes) -> None:
        """Send the report to the socket.

        It is opened by name each time, so that a restarted exporter is found.
        """
        if len(data) > MAX_DATAGRAM:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(data, self._address)
        except (OSError, ValueError):
            return

    def _into_file(self, text: str, *, training: bool) -> None:
        """Write the report file atomically.

        Other users may write to the directory, so their links and pipes are not opened.
        """
        beside = f"{self._path}.{os.getpid()}.tmp"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)  # noqa: PTH108
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(beside, flags, 0o644)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
            os.replace(beside, self._path)  # noqa: PTH105
        except ValueError:
            return
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside)  # noqa: PTH108
            if training:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)  # noqa: PTH108


class ThrottledSender:
    """Sends `report()` after each change, at most once in MIN_SECONDS. The last change is always sent."""

    def __init__(self, sender: Sender, report: Callable[[], dict[str, object]]) -> None:
        self._sender = sender
        self._report = report
        self._sent = 0.0
        self.renew()
        _THROTTLED.add(self)

    def renew(self) -> None:
        """Reinitialise the sender after a fork: the new process inherits held locks, but no threads."""
        self.state = threading.Lock()  # protects the data that `report` reads
        self._sending = threading.Lock()
        self._changed = threading.Event()
        self._runs = False

    def changed(self, *, at_once: bool = False) -> None:
        """Send the changed report: immediately, or within MIN_SECONDS."""
        if not self._sender.on:
            return
        if at_once or not 0 <= time.monotonic() - self._sent < MIN_SECONDS:
            self._send()
            return
        self._changed.set()
        if not self._runs:
            self._runs = True
            try:
                threading.Thread(target=self._run, name="progress", daemon=True).start()
            except RuntimeError:  # thread limit reached: the next change tries again
                self._runs = False

    def _run(self) -> None:
        while self._changed.wait():
            time.sleep(max(0.0, MIN_SECONDS - (time.monotonic() - self._sent)))
            if self._changed.is_set():
                self._send()

    def _send(self) -> None:
        with self._sending:
            self._changed.clear()
            self._sent = time.monotonic()
            self._sender.send(self._report())


_THROTTLED: weakref.WeakSet[ThrottledSender] = weakref.WeakSet()


def _forked() -> None:
    for sender in _THROTTLED:
        sender.renew()


os.register_at_fork(after_in_child=_forked)
