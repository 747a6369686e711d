"""A log stream that ignores write errors."""

from __future__ import annotations

from typing import TextIO


class Lossy:
    """A stream that drops log lines that cannot be written (disk full, pipe closed).

    The process continues, and logging works again when writes succeed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            pass

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass
