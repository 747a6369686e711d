"""The *.prom files of some folders: which there are, and their bytes, safely."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from glob import iglob
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from exporter.textfile.families import Family, parse
from exporter.textfile.rejected import Rejected

MAX_FILES = 256
MAX_ENTRIES = 20_000  # of a folder, looked at for names
MAX_FOLDERS = 64
MAX_BYTES = 1_048_576

Mark = tuple[int, int, int, int, int]


class File(NamedTuple):
    """A file as it was when it was last read: what tells it from another, when it was written (Unix
    seconds), and its families, or why it has none that may be shown."""

    mark: Mark
    modified: float
    found: Mapping[str, Family] | Rejected


class Folders:
    """All files of some folders, each of which may be a pattern. A file is read again when it changed."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._read: dict[str, File] = {}
        self.problems: dict[str, Rejected] = {}

    def files(self) -> Iterator[tuple[str, File]]:
        """Each file that can be opened, by path. What cannot is in `problems` afterwards, by path."""
        self.problems = {}
        paths = sorted(self._paths())
        for path in paths[MAX_FILES:]:
            self.problems[path] = Rejected("limit", f"more than {MAX_FILES} files")
        kept = paths[:MAX_FILES]
        self._read = {path: self._read[path] for path in kept if path in self._read}
        for path in kept:
            try:
                yield path, self._file(path)
            except Rejected as error:
                self.problems[path] = error

    def _paths(self) -> set[str]:
        found: set[str] = set()
        for folder in self._folders():
            try:
                with os.scandir(folder) as entries:
                    looked = islice(entries, MAX_ENTRIES)
                    names = [entry.name for entry in looked if entry.name.endswith(".prom")]
            except OSError as error:
                self.problems[folder] = Rejected("unreadable", error.strerror or "")
                continue
            found.update(os.path.join(folder, name) for name in names)  # noqa: PTH118 - as given
            if len(found) > 2 * MAX_FILES:
                return set(sorted(found)[: 2 * MAX_FILES])
        return found

    def _folders(self) -> Iterator[str]:
        for pattern in self._patterns:
            matching = list(islice(iglob(pattern), MAX_FOLDERS))  # noqa: PTH207 - a pattern is given
            yield from sorted(matching) or [pattern]

    def _file(self, path: str) -> File:
        """Raises Rejected for what is no file that may be read; does not wait for a FIFO."""
        descriptor = _open(path)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Rejected("kind", "no regular file")
            mark = (
                status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size,
            )  # fmt: skip
            before = self._read.get(path)
            if before is not None and before.mark == mark:
                return before
            if status.st_size > MAX_BYTES:
                raise Rejected("size", f"more than {MAX_BYTES} bytes")
            data = _whole(descriptor)
        except OSError as error:
            raise Rejected("unreadable", error.strerror or "") from None
        finally:
            os.close(descriptor)
        try:
            found: Mapping[str, Family] | Rejected = parse(data)
        except Rejected as error:
            found = error
        read = self._read[path] = File(mark, status.st_mtime, found)
        return read


def _whole(descriptor: int) -> bytes:
    """All of it; more than was announced means that somebody writes it now."""
    data = b""
    while len(data) <= MAX_BYTES:
        more = os.read(descriptor, MAX_BYTES + 1 - len(data))
        if not more:
            return data
        data += more
    raise Rejected("size", f"more than {MAX_BYTES} bytes")


def _open(path: str) -> int:
    """A link is followed within its folder only (so do the files of a ConfigMap): whoever may write
    there must not have us read, or open, what he may not."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if Path(path).is_symlink():
            folder = Path(path).parent.resolve(strict=True)
            path = str(Path(path).resolve(strict=True))
            if not Path(path).is_relative_to(folder):
                raise Rejected("kind", "a link out of the folder")
        return os.open(path, flags)
    except (OSError, RuntimeError) as error:
        raise Rejected("unreadable", getattr(error, "strerror", "") or str(error)) from None
