"""Reads small files of procfs and sysfs."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from exporter.collector import CollectorError

MAX_BYTES = 4 << 20
MAX_NAMES = 8192
_CHUNK = 1 << 16
_DECIMAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
# The file or its device is missing or has no value: this is not a failure of the collector.
_ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENODEV,
        errno.ENXIO,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENODATA,
        errno.EACCES,
        errno.EPERM,
        errno.ESRCH,
        errno.EIO,
        errno.EISDIR,
    }
)


def read(path: str | Path) -> str:
    """Return the content of a file, truncated at 4 MiB. Raises CollectorError with the file name."""
    try:
        return _read(path)
    except OSError as error:
        raise CollectorError(f"cannot read {path}: {error.strerror}") from None


def read_if_there(path: str | Path) -> str | None:
    """Return the stripped content of a file; None if the file is missing or has no value."""
    try:
        return _read(path).strip()
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise CollectorError(f"cannot read {path}: {error.strerror}") from None


def number(path: str | Path) -> int | None:
    """Return the integer in a file; None if the file is missing or contains something else."""
    return integer(read_if_there(path) or "")


def names(folder: str | Path) -> list[str]:
    """Return the sorted names of a directory's entries; empty if the directory is missing.

    Raises CollectorError.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)[:MAX_NAMES]
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise CollectorError(f"cannot read {folder}: {error.strerror}") from None


def integer(text: str) -> int | None:
    """Parse a non-negative decimal integer; None if the string is invalid."""
    return int(text) if len(text) <= 20 and text.isascii() and text.isdigit() else None


def hexadecimal(text: str) -> int | None:
    """Parse a hexadecimal integer without 0x; None if the string is invalid."""
    try:
        return int(text, 16) if len(text) <= 16 and text.isascii() and text.isalnum() else None
    except ValueError:
        return None


def decimal(text: str) -> float | None:
    """Parse a number with or without decimals; None if the string is invalid."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def rows(text: str) -> Iterator[tuple[str, list[int]]]:
    """Parse lines `key[:] number number ...`, and yield each key with its numbers.

    The first word of a line that is not a number ends its numbers.
    """
    for line in text.splitlines():
        key, *words = line.split() or [""]
        numbers = []
        for word in words:
            if (value := integer(word)) is None:
                break
            numbers.append(value)
        if numbers:
            yield key.rstrip(":"), numbers


def _read(path: str | Path) -> str:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    parts, size = [], 0
    try:
        while size < MAX_BYTES and (part := os.read(file, _CHUNK)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(file)
    return b"".join(parts).decode("utf-8", "replace")
