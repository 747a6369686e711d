"""The exception for a rejected text file.

A file is rejected as a whole, because a partly exported file would look complete.
"""

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
    """The exception for a rejected text file. Contains the reason code and a message."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason
