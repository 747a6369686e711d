"""Reads small files that others write: never more than is asked for, never a link, pipe or device."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "no regular file")
        found = bytearray()
        while len(found) <= most and (part := os.read(descriptor, most + 1 - len(found))):
            found += part
    finally:
        os.close(descriptor)
    if len(found) > most:
        raise OSError(0, f"larger than {most} bytes")
    return bytes(found)


def exists(path: Path) -> bool:
    """Whether there is something of that name, as far as one can see: what may not be seen may be there,
    and reading it will say why it cannot be read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def names(folder: Path, most: int) -> list[str]:
    """The names in a folder, at most so many. Raises OSError, also when there are more."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) > most:
                raise OSError(0, f"more than {most} entries")
    return found
