"""Who holds GPUs of this node, as a scheduler tells it: the shape of an answer, and of a source of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

UNMATCHED = "?"  # begins the key of a holder whose processes cannot be told from others
MAX_TEXT = 253  # the longest name that Kubernetes gives
_TEXT = re.compile(r"[^\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Holding:
    """One GPU held by one job or container.

    `gpu` names it as the source does: a uuid (`GPU-...`, `MIG-...`), the index on this node, or its
    device file (`nvidia3`).
    `key` is what processes of the holder can be known by (see processes.py): `slurm:ID`, `pod:UID`,
    `job:ID`, or begins with UNMATCHED where they cannot. Texts that a source does not know are empty.
    """

    gpu: str
    key: str
    job_id: str = ""
    user: str = ""
    account: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""


class Owners(Protocol):
    """A source of holdings. It reads files that others write: everything in them is bounded."""

    @property
    def name(self) -> str: ...

    def here(self) -> bool:
        """Whether this node has such a scheduler at all; one that has not is no failure."""
        ...

    def holdings(self, now: float) -> Iterable[Holding]:
        """Who holds what at Unix time `now`. Raises CollectorError when that cannot be known."""
        ...


def text(value: object) -> str:
    """A text from outside as a label's value: one line of a bearable length, else nothing."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        return ""
    return value if _TEXT.fullmatch(value) else ""
