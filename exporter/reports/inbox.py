"""Receives progress reports over a Unix socket, for jobs that share no directory with the exporter.

Any user on the node can send. So each datagram has a maximum size, counts against the rate limit of
its sender (identified by the kernel), and is validated before it is stored. When the store is full,
reports of new jobs are rejected; stored jobs can still report.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from exporter.reports.files import StoredReport
from exporter.reports.permissions import ReportPermissions
from exporter.reports.report import Key, Reason, ReportRejected, parse
from fleetmedic.kernel.errors import UserError
from fleetmedic.progress.sender import MAX_DATAGRAM

MAX_REPORTS = 1000
MAX_OF_A_USER = 512
PER_SECOND, BURST = 100.0, 200.0  # per user; eight ranks send sixteen reports a second
ALL_PER_SECOND, ALL_BURST = 2000.0, 4000.0
MAX_SENDERS = 1024
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_MAX_PATH = 107


class DatagramTokenBucket:
    """A token bucket for the rate limit: `rate` datagrams per second, and `burst` at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._at = burst, now

    def take(self, now: float) -> bool:
        """Take a token: return whether one more datagram is allowed at monotonic time `now`."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def full(self, now: float) -> bool:
        """Return whether the bucket is full at monotonic time `now`, so that it can be removed."""
        return self._left + (now - self._at) * self._rate >= self._burst


class Inbox:
    """The latest report of each reporter. Only the receiving thread may call `take`; `reports` is
    thread-safe."""

    def __init__(self, permissions: ReportPermissions, count: Callable[[Reason], None]) -> None:
        self._permissions = permissions
        self._count = count
        self._lock = threading.Lock()
        self._reports: dict[Key, tuple[StoredReport, int]] = {}
        self._senders: dict[int, DatagramTokenBucket] = {}

    def reports(self) -> list[StoredReport]:
        """Return the latest stored progress report of each reporter."""
        with self._lock:
            return [stored for stored, _ in self._reports.values()]

    def forget(self, keys: set[Key]) -> None:
        """Remove the stored reports of these reporters, because the reports have expired."""
        with self._lock:
            for key in keys:
                self._reports.pop(key, None)

    def take(self, data: bytes, uid: int | None, now: float) -> None:
        """Process one datagram received at Unix time `now`. `uid` is None if the kernel did not
        report the sender."""
        try:
            self._store(data, uid, now)
        except ReportRejected as error:
            self._count(error.reason)

    def _store(self, data: bytes, uid: int | None, now: float) -> None:
        if uid is None:
            raise ReportRejected("owner", "unknown sender")
        if not self._within_rate(uid, time.monotonic()):
            raise ReportRejected(
                "rate", f"more than {PER_SECOND:.0f} reports per second from one user"
            )
        if len(data) > MAX_DATAGRAM:
            raise ReportRejected("size", f"more than {MAX_DATAGRAM} bytes")
        report = parse(data)
        with self._lock:
            if report.key not in self._reports:
                mine = sum(1 for _, other in self._reports.values() if other == uid)
                if mine >= MAX_OF_A_USER or len(self._reports) >= MAX_REPORTS:
                    raise ReportRejected("limit", "too many reporters")
            self._permissions.check(report.key, uid)
            self._reports[report.key] = (StoredReport(report, now), uid)

    def _within_rate(self, uid: int, now: float) -> bool:
        bucket = self._senders.get(uid)
        if bucket is None:
            if len(self._senders) >= MAX_SENDERS:
                self._senders = {u: b for u, b in self._senders.items() if not b.full(now)}
            if len(self._senders) >= MAX_SENDERS:
                raise ReportRejected("limit", "too many senders")
            bucket = self._senders[uid] = DatagramTokenBucket(PER_SECOND, BURST, now)
        return bucket.take(now)


class Receiver:
    """Receives datagrams on a socket in a separate thread, and passes each to `take`."""

    def __init__(self, path: Path, take: Callable[[bytes, int | None, float], None]) -> None:
        self._take = take
        self._socket = bind(path)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the receiving thread, unless it already runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        everybody = DatagramTokenBucket(ALL_PER_SECOND, ALL_BURST, time.monotonic())
        room = socket.CMSG_SPACE(_CREDENTIALS.size)
        while True:
            while not everybody.take(time.monotonic()):
                time.sleep(0.05)  # the kernel's queue fills up, and further reports are lost
            data, ancillary, _, _ = self._socket.recvmsg(MAX_DATAGRAM + 1, room)
            self._take(data, _uid(ancillary), time.time())


def _uid(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            return int(_CREDENTIALS.unpack_from(data)[1])
    return None


def check(path: Path) -> None:
    """Check that a socket can be created at the path. Raises UserError."""
    what = f"--progress.socket {path}"
    if len(os.fsencode(path)) > _MAX_PATH:
        raise UserError(f"{what}: expected a socket path of at most {_MAX_PATH} bytes.")
    if not path.parent.is_dir():
        raise UserError(f"{what}: the directory {path.parent} does not exist; create it.")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{what}: cannot use this path ({error.strerror}).") from None
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{what}: the path exists and is not a socket; specify another path.")


def bind(path: Path) -> socket.socket:
    """Create the socket, to which any user can send. A socket left by a dead process is replaced.

    Raises UserError, for example if another process listens on the path.
    """
    check(path)
    try:
        if path.exists():
            _remove_dead(path)
        with ExitStack() as undo:
            bound = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            bound.bind(os.fspath(path))
            path.chmod(0o666)
            undo.pop_all()
    except OSError as error:
        raise UserError(
            f"--progress.socket {path}: cannot create the socket ({error.strerror})."
        ) from None
    return bound


def _remove_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise UserError(
        f"--progress.socket {path}: another process listens on this path; specify another path."
    )
