"""Reads the progress reports in a folder to which jobs write."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from exporter.reports.permissions import Owners
from exporter.reports.report import MAX_BYTES, Reason, Rejected, Report, parse

MAX_FILES = 1000
MAX_ENTRIES = 20_000  # maximum number of folder entries to scan


class Held(NamedTuple):
    """A report and its arrival time, in Unix seconds."""

    report: Report
    at: float


class _Seen(NamedTuple):
    """A file at its latest read: a mark that changes with the file, its owner, time and result."""

    mark: tuple[int, int, int, int]
    uid: int
    modified: float
    found: Report | Rejected


class Files:
    """Reads changed files; `rejected` is the number of rejected files. A rejected file is passed to `count`
    once, and again when it has changed."""

    def __init__(self, folder: Path, owners: Owners, count: Callable[[Reason], None]) -> None:
        self._folder = folder
        self._owners = owners
        self._count = count
        self._seen: dict[str, _Seen] = {}
        self._counted: dict[str, tuple[object, Reason]] = {}
        self.rejected = 0

    def read(self) -> Iterator[Held]:
        """All reports, by file name. A missing folder means that no job has started."""
        names = self._names()
        self._seen = {name: self._seen[name] for name in names if name in self._seen}
        counted: dict[str, tuple[object, Reason]] = {}
        for name in names:
            mark: object = None
            try:
                seen = self._look(name)
                mark = seen.mark
                if isinstance(seen.found, Rejected):
                    raise seen.found
                self._owners.check(seen.found.key, seen.uid)
            except Rejected as error:
                counted[name] = (mark, error.reason)
                continue
            yield Held(seen.found, seen.modified)
        for name, why in counted.items():
            if self._counted.get(name) != why:
                self._count(why[1])
        self._counted, self.rejected = counted, len(counted)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                looked = islice(entries, MAX_ENTRIES)
                names = [e.name for e in looked if e.name.endswith(".json") and e.name[0] != "."]
        except FileNotFoundError:
            return []
        return sorted(names)[:MAX_FILES]

    def _look(self, name: str) -> _Seen:
        """The file's report; reads the file again if it changed. Raises Rejected if it is not a regular
        file; does not block on a FIFO and follows no link."""
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._folder / name, flags)
        except OSError as error:
            raise Rejected("unreadable", error.strerror or "") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Rejected("kind", "not a regular file")
            mark = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            before = self._seen.get(name)
            if before is not None and before.mark == mark:
                return before
            if status.st_size > MAX_BYTES:
                raise Rejected("size", "more than 64 KiB")
            data = os.read(descriptor, MAX_BYTES)
        except OSError as error:
            raise Rejected("unreadable", error.strerror or "") from None
        finally:
            os.close(descriptor)
        try:
            found: Report | Rejected = parse(data, name.removesuffix(".json"))
        except Rejected as error:
            found = error
        seen = self._seen[name] = _Seen(mark, status.st_uid, status.st_mtime, found)
        return seen
