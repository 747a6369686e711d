"""The kernel log, read as it grows: /dev/kmsg, a FIFO, or a file of the same records.

A record is `priority,sequence,microseconds,flags;text`. The position is kept by boot and sequence
number, for a file also by its identity and offset, so that a restart neither loses nor repeats one.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 4_000_000
MAX_RECORDS = 20_000
_HEAD = re.compile(r"(\d{1,6}),(\d{1,20}),(\d{1,20}),[^;]{0,200};")


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its sequence number, microseconds since boot, and text."""

    sequence: int
    microseconds: int
    text: str

    @property
    def first_of_boot(self) -> bool:
        """Whether the kernel writes this record when it starts."""
        return self.text.startswith("Linux version ")


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a regular file reading goes on; `inode` 0 for a device or FIFO."""

    inode: int = 0
    offset: int = 0


def parse(line: str) -> Record | None:
    """A line as a record; None when it is none (continuation lines begin with a space)."""
    match = _HEAD.match(line)
    if match is None:
        return None
    return Record(int(match[2]), int(match[3]), line[match.end() :][:4096])


class KmsgReader:
    """Reads what has come since the last time. Never blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._rest = b""
        self.malformed = 0
        self.from_start = False

    def read(self, position: Position) -> tuple[list[Record], Position]:
        """The records after `position`, and the position after them.

        `from_start` is True afterwards when the file is not the one that the position was in, so
        that all of it was read. Raises OSError.
        """
        status = self._path.stat()
        if stat.S_ISREG(status.st_mode):
            return self._read_file(status, position)
        if stat.S_ISCHR(status.st_mode):
            return self._records(self._read_device()), Position()
        return self._records(self._lines(self._read_fifo())), Position()

    def _read_file(
        self, status: os.stat_result, position: Position
    ) -> tuple[list[Record], Position]:
        self.from_start = position.inode != status.st_ino or status.st_size < position.offset
        offset = 0 if self.from_start else position.offset
        if status.st_size == offset:
            return [], Position(status.st_ino, offset)
        with self._path.open("rb") as file:
            file.seek(offset)
            data = file.read(MAX_BYTES)
        whole = data.rfind(b"\n") + 1
        if not whole and len(data) == MAX_BYTES:
            whole = len(data)  # no record is that long: skip it
        return self._records(data[:whole].splitlines()), Position(status.st_ino, offset + whole)

    def _open(self) -> int:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return self._fd

    def _read_device(self) -> list[bytes]:
        """Each read gives one record; EPIPE says that some were overwritten, and reading goes on."""
        lines: list[bytes] = []
        descriptor = self._open()
        while len(lines) < MAX_RECORDS:
            try:
                lines.append(os.read(descriptor, 8192).partition(b"\n")[0])
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue
        return lines

    def _read_fifo(self) -> bytes:
        data = b""
        descriptor = self._open()
        while len(data) < MAX_BYTES:
            try:
                part = os.read(descriptor, 65_536)
            except BlockingIOError:
                break
            if not part:
                break
            data += part
        return data

    def _lines(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > 65_536:
            self._rest = b""
            self.malformed += 1
        return lines

    def _records(self, lines: list[bytes]) -> list[Record]:
        found = []
        for line in lines:
            text = line.decode(errors="replace")
            record = parse(text)
            if record is not None:
                found.append(record)
            elif text.strip() and not text.startswith(" "):
                self.malformed += 1
        return found
