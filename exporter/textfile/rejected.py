"""Why a file is passed over, as a whole: half of it would be believed to be all of it."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "unreadable", "kind", "size", "encoding", "format", "timestamp", "duplicate", "inconsistent",
    "limit",
]  # fmt: skip


class Rejected(Exception):  # noqa: N818
    """For which reason, and in words."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason: Reason = reason
