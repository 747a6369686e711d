"""The reason why a file is rejected. A file is rejected as a whole, because a partial file would look
complete."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "unreadable",
    "kind",
    "size",
    "encoding",
    "format",
    "timestamp",
    "duplicate",
    "inconsistent",
    "limit",
]


class TextFileRejected(Exception):  # noqa: N818
    """A rejected file, with the reason code and a message."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason
