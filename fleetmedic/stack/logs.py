"""Manage the log file of each process. The size of each file is limited.

The log of the previous run is kept as NAME.log.1.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fleetmedic.kernel.errors import shortened

MAX_BYTES = 10_000_000
MAX_QUOTED = 300


def rotate(log: Path) -> None:
    """Rename the previous run's log to NAME.log.1."""
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def open_log(log: Path) -> BinaryIO:
    """Open a log for appending, so that writes continue at the end after the file is truncated."""
    return log.open("ab", buffering=0)


def bound_log(log: Path, limit: int = MAX_BYTES) -> None:
    """Copy a log larger than `limit` to NAME.log.1 and truncate it. The writer keeps the file open."""
    try:
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            with log.open("r+b") as file:
                file.truncate(0)
    except FileNotFoundError:
        pass


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log."""
    try:
        with log.open(errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, count)]
    except OSError:
        return []


def quoted_lines(log: Path, count: int) -> str:
    """Return the last lines of a log for a message: indented, and cut to 300 characters."""
    lines = last_lines(log, count) or ["(nothing)"]
    return "\n".join(f"    {shortened(line, MAX_QUOTED)}" for line in lines)


def follow(log: Path, poll_seconds: float = 0.2) -> Iterator[str]:
    """Yield new text of a log as it is written. Continues at the start if the file is truncated."""
    position = log.stat().st_size if log.exists() else 0
    while True:
        size = log.stat().st_size if log.exists() else 0
        if size < position:
            position = 0
        if size > position:
            with log.open("rb") as file:
                file.seek(position)
                data = file.read(size - position)
            position += len(data)
            yield data.decode(errors="replace")
        else:
            time.sleep(poll_seconds)
