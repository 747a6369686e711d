"""Reads the small files in which the kernel tells things: procfs and sysfs."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from exporter.collectors.base import CollectorError

MAX_BYTES = 4 << 20
MAX_NAMES = 8192
_CHUNK = 1 << 16
_DECIMAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
# The file, or the device behind it, is not there or has no answer to give: not a fault of ours.
_ABSENT = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP,
        errno.ENODATA, errno.EACCES, errno.EPERM, errno.ESRCH, errno.EIO, errno.EISDIR,
    }
)  # fmt: skip


def read(path: str | Path) -> str:
    """The text of a file, cut at 4 MiB. Raises CollectorError, which names the file."""
    try:
        return _read(path)
    except OSError as error:
        raise CollectorError(f"{path} cannot be read: {error.strerror}") from None


def read_if_there(path: str | Path) -> str | None:
    """The text of a file, without space around it; None when it is not there or has no answer."""
    try:
        return _read(path).strip()
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise CollectorError(f"{path} cannot be read: {error.strerror}") from None


def number(path: str | Path) -> int | None:
    """The whole number that a file holds; None when it is not there or holds something else."""
    return integer(read_if_there(path) or "")


def names(folder: str | Path) -> list[str]:
    """What lies in a folder, sorted; nothing when there is no such folder. Raises CollectorError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)[:MAX_NAMES]
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise CollectorError(f"{folder} cannot be read: {error.strerror}") from None


def integer(text: str) -> int | None:
    """A whole number that is not negative, as the kernel writes it."""
    return int(text) if len(text) <= 20 and text.isascii() and text.isdigit() else None


def hexadecimal(text: str) -> int | None:
    """A number as the kernel writes it in hexadecimal, without 0x."""
    try:
        return int(text, 16) if len(text) <= 16 and text.isascii() and text.isalnum() else None
    except ValueError:
        return None


def decimal(text: str) -> float | None:
    """A number with or without decimals."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def rows(text: str) -> Iterator[tuple[str, list[int]]]:
    """Of each line `key[:] number number ...` the key and the numbers up to the first other word."""
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
