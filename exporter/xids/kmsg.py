"""Follows the kernel log: /dev/kmsg, a FIFO, or a file with the same records.

A record is `priority,sequence,microseconds,flags;text`. The read position is stored as boot and
sequence number, and for a file also as inode and offset, so that a restart neither loses nor
repeats a record. Invalid lines are counted and skipped; no content of the log stops the reader.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 4_000_000
MAX_RECORDS = 20_000
MAX_LINE = 65_536
PIPE_BYTES = 1_048_576  # the kernel's maximum for unprivileged users: about 10,000 records
_HEAD = re.compile(rb"(\d{1,6}),(\d{1,20}),(\d{1,20}),[^;]{0,200};")


@dataclass(frozen=True, slots=True)
class KmsgRecord:
    """One record: its sequence number, microseconds since boot, and text.

    `junk` is the number of invalid lines before it.
    """

    sequence: int
    microseconds: int
    text: str
    junk: int = 0

    @property
    def first_of_boot(self) -> bool:
        """Return whether this is the first record of a boot."""
        return self.text.startswith("Linux version ")


@dataclass(frozen=True, slots=True)
class Position:
    """The next read position in a regular file. `inode` is 0 for a device or FIFO.

    `torn`: the position is within an overlong line, whose rest is skipped.
    """

    inode: int = 0
    offset: int = 0
    torn: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one read of the kernel log.

    `junk` is the number of invalid lines after the last record. `gone`: the data cannot be read
    again. `full`: there may be more data.
    """

    records: list[KmsgRecord]
    position: Position
    junk: int = 0
    gone: bool = False
    full: bool = False


def parse(line: bytes) -> KmsgRecord | None:
    """Parse a line of the kernel log; None if the line is invalid.

    Continuation lines, which begin with a space, are invalid.
    """
    match = _HEAD.match(line)
    if match is None:
        return None
    text = line[match.end() : match.end() + 4096].decode(errors="replace").replace("\0", "\ufffd")
    return KmsgRecord(int(match[2]), int(match[3]), text)


class KmsgReader:
    """Reads new records of the kernel log. Never blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._inode = 0
        self._rest = b""
        self._torn = False
        self.malformed = 0

    def read(self, position: Position) -> Batch:
        """Return the records after `position`, and the next position. Raises OSError."""
        status = self._path.stat()
        if stat.S_ISREG(status.st_mode):
            return self._read_file(status.st_ino, position)
        self._open(status.st_ino)
        device = stat.S_ISCHR(status.st_mode)
        lines = self._device_lines() if device else self._fifo_lines()
        return self._batch(lines, Position(), gone=not device, full=len(lines) >= MAX_RECORDS)

    def close(self) -> None:
        """Close the kernel log."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._inode, self._rest, self._torn = None, 0, b"", False

    def _open(self, inode: int) -> int:
        """Return the descriptor of the log, reopened if the file was replaced."""
        if self._fd is not None and self._inode == inode:
            return self._fd
        self.close()
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._inode = status.st_ino
        if stat.S_ISFIFO(status.st_mode):
            with contextlib.suppress(OSError):  # with a smaller pipe, writers only block earlier
                fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return self._fd

    def _read_file(self, inode: int, position: Position) -> Batch:
        """Read new lines of a log in a regular file.

        After a rotation, the old file is read to its end first.
        """
        if self._fd is not None and self._inode == position.inode != inode:
            batch = self._rest_of_file(self._fd, position)
            if batch.records or batch.junk:
                return batch
        return self._rest_of_file(self._open(inode), position)

    def _rest_of_file(self, descriptor: int, position: Position) -> Batch:
        offset, torn = self._start(descriptor, position)
        data = os.pread(descriptor, MAX_BYTES, offset)
        full = len(data) == MAX_BYTES
        if torn:
            end = data.find(b"\n") + 1
            if not end:
                position = Position(self._inode, offset + len(data), torn=True)
                return self._batch([], position, full=full)
            offset, data = offset + end, data[end:]
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].split(b"\n")[:-1]
        if not whole and full:  # an overlong line, so not a record
            lines, whole, torn = [data[:MAX_LINE]], len(data), True
        else:
            torn = False
        return self._batch(lines, Position(self._inode, offset + whole, torn), full=full)

    def _start(self, descriptor: int, position: Position) -> tuple[int, bool]:
        """Return the offset at which to continue in the log file; 0 if the file was replaced or rewritten."""
        offset = position.offset
        if position.inode != self._inode or os.fstat(descriptor).st_size < offset:
            return 0, False
        if offset and not position.torn and os.pread(descriptor, 1, offset - 1) != b"\n":
            return 0, False
        return offset, position.torn

    def _device_lines(self) -> list[bytes]:
        """Read new records of the device /dev/kmsg. Each read(2) returns one record.

        EPIPE means that records were overwritten; the next read continues after them.
        """
        lines: list[bytes] = []
        descriptor = self._open(self._inode)
        for _ in range(MAX_RECORDS):
            try:
                lines.append(os.read(descriptor, 16_384).partition(b"\n")[0])
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # the gap in the sequence numbers shows how many
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: a record larger than any should be
                    raise
                lines.append(b"?")
        return lines

    def _fifo_lines(self) -> list[bytes]:
        """Return the complete lines that the FIFO contains now.

        An unfinished line is invalid, because a truncated line can have a different meaning.
        """
        parts: list[bytes] = [self._rest]
        size = 0
        part = b"?"
        descriptor = self._open(self._inode)
        while part and size < MAX_BYTES:
            try:
                part = os.read(descriptor, MAX_LINE)
            except BlockingIOError:
                break
            parts.append(part)
            size += len(part)
        *lines, self._rest = b"".join(parts).split(b"\n")
        if self._torn and lines:
            del lines[0]
            self._torn = False
        if len(self._rest) > MAX_LINE or (self._rest and not part):
            if not self._torn:
                lines.append(b"?")
            self._rest, self._torn = b"", bool(part)
        return lines

    def _batch(
        self, lines: list[bytes], position: Position, *, gone: bool = False, full: bool = False
    ) -> Batch:
        found: list[KmsgRecord] = []
        junk = 0
        for line in lines:
            record = parse(line) if len(line) <= MAX_LINE else None
            if record is not None:
                found.append(
                    KmsgRecord(record.sequence, record.microseconds, record.text, junk)
                    if junk
                    else record
                )
                junk = 0
            elif line and not line.startswith(b" "):
                junk += 1
                self.malformed += 1
        return Batch(found, position, junk, gone, full)
