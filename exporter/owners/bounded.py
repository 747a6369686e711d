"""Reads small files of other programs, with size limits. Links, pipes and devices are rejected."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read(path: Path, most: int) -> bytes:
    """Return the content of a regular file. Raises OSError if the file cannot be read, or is larger
    than `most` bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        found = bytearray()
        while len(found) <= most and (part := os.read(descriptor, most + 1 - len(found))):
            found += part
    finally:
        os.close(descriptor)
    if len(found) > most:
        raise OSError(0, f"larger than {most} bytes")
    return bytes(found)


def exists(path: Path) -> bool:
    """Return whether the path exists.

    Also returns True if the exporter has no permission to check. The following read then reports the
    error.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def names(folder: Path, most: int) -> list[str]:
    """Return the names of a directory's entries.

    Raises OSError if the directory cannot be read, or contains more than `most` entries.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) > most:
                raise OSError(0, f"more than {most} entries")
    return found
