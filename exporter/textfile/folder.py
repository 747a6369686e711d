"""Finds *.prom files in directories and reads them safely."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from glob import iglob
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from exporter.textfile.families import ParsedFamily, parse
from exporter.textfile.rejected import TextFileRejected

MAX_FILES = 256
MAX_ENTRIES = 20_000  # maximum number of entries to scan in a folder
MAX_FOLDERS = 64
MAX_BYTES = 1_048_576

Mark = tuple[int, int, int, int, int]


class TextFile(NamedTuple):
    """A *.prom file as last read, with its metric families or the reason for its rejection.

    `mark` identifies the version of the file. `modified` is in Unix seconds.
    """

    mark: Mark
    modified: float
    found: Mapping[str, ParsedFamily] | TextFileRejected


class TextFileFolders:
    """The *.prom files in directories or glob patterns of directories. Changed files are read
    again."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._read: dict[str, TextFile] = {}
        self.problems: dict[str, TextFileRejected] = {}

    def files(self) -> Iterator[tuple[str, TextFile]]:
        """Yield each valid file with its path. Afterwards, `problems` contains the paths of the
        invalid files."""
        self.problems = {}
        paths = sorted(self._paths())
        for path in paths[MAX_FILES:]:
            self.problems[path] = TextFileRejected("limit", f"more than {MAX_FILES} files")
        kept = paths[:MAX_FILES]
        self._read = {path: self._read[path] for path in kept if path in self._read}
        for path in kept:
            try:
                yield path, self._file(path)
            except TextFileRejected as error:
                self.problems[path] = error

    def _paths(self) -> set[str]:
        found: set[str] = set()
        for folder in self._folders():
            try:
                with os.scandir(folder) as entries:
                    looked = islice(entries, MAX_ENTRIES)
                    names = [entry.name for entry in looked if entry.name.endswith(".prom")]
            except OSError as error:
                self.problems[folder] = TextFileRejected("unreadable", error.strerror or "")
                continue
            found.update(os.path.join(folder, name) for name in names)  # noqa: PTH118 - as given
            if len(found) > 2 * MAX_FILES:
                return set(sorted(found)[: 2 * MAX_FILES])
        return found

    def _folders(self) -> Iterator[str]:
        for pattern in self._patterns:
            matching = list(islice(iglob(pattern), MAX_FOLDERS))  # noqa: PTH207 - a pattern is given
            yield from sorted(matching) or [pattern]

    def _file(self, path: str) -> TextFile:
        """Return the parsed *.prom file. The file is read again only if it changed.

        Raises TextFileRejected if it is not a readable regular file. Does not block on a FIFO.
        """
        descriptor = _open(path)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise TextFileRejected("kind", "not a regular file")
            mark = (
                status.st_dev,
                status.st_ino,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_size,
            )
            before = self._read.get(path)
            if before is not None and before.mark == mark:
                return before
            if status.st_size > MAX_BYTES:
                raise TextFileRejected("size", f"more than {MAX_BYTES} bytes")
            data = _whole(descriptor)
        except OSError as error:
            raise TextFileRejected("unreadable", error.strerror or "") from None
        finally:
            os.close(descriptor)
        try:
            found: Mapping[str, ParsedFamily] | TextFileRejected = parse(data)
        except TextFileRejected as error:
            found = error
        read = self._read[path] = TextFile(mark, status.st_mtime, found)
        return read


def _whole(descriptor: int) -> bytes:
    """Return the content of a file that may grow during the read. Raises TextFileRejected if too
    large."""
    data = b""
    while len(data) <= MAX_BYTES:
        more = os.read(descriptor, MAX_BYTES + 1 - len(data))
        if not more:
            return data
        data += more
    raise TextFileRejected("size", f"more than {MAX_BYTES} bytes")


def _open(path: str) -> int:
    """Open a *.prom file. Raises TextFileRejected for a link that points outside the directory.

    Links within the directory are necessary for ConfigMap volumes. With other links, a user with
    write access could make the exporter read any file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if Path(path).is_symlink():
            folder = Path(path).parent.resolve(strict=True)
            path = str(Path(path).resolve(strict=True))
            if not Path(path).is_relative_to(folder):
                raise TextFileRejected("kind", "the link points outside the folder")
        return os.open(path, flags)
    except (OSError, RuntimeError) as error:
        raise TextFileRejected("unreadable", getattr(error, "strerror", "") or str(error)) from None
