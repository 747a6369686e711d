"""A stream for logs, which may fail without anybody who logs failing with it."""

from __future__ import annotations

from typing import TextIO


class Lossy:
    """A stream whose failures cost lines of the log and nothing else: where the log's disk is full or
    its reader has gone, whoever logs goes on, and so does the log once it can be written again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it is closed
            pass

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass
