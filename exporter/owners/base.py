"""GPU holdings reported by a scheduler: the data type, and the interface of their sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

UNMATCHED = "?"  # prefix of the key of a holder whose processes cannot be identified
MAX_TEXT = 253  # the longest name in Kubernetes
_TEXT = re.compile(r"[^\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Holding:
    """One GPU held by one job or container.

    `gpu` is the source's name of the GPU: a uuid (`GPU-...`, `MIG-...`), the index on this node, or the
    device file (`nvidia3`).
    `key` identifies the holder's processes (see processes.py): `slurm:ID`, `pod:UID`, `job:ID`, or a key
    with the prefix UNMATCHED if they cannot be identified. Unknown texts are empty.
    """

    gpu: str
    key: str
    job_id: str = ""
    user: str = ""
    account: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""


class HoldingSource(Protocol):
    """A source of holdings. It reads files of other programs, so all reads are bounded."""

    @property
    def name(self) -> str: ...

    def here(self) -> bool:
        """Return whether this node has such a scheduler; a node without it is not a failure."""
        ...

    def holdings(self, now: float) -> Iterable[Holding]:
        """Return the holdings at Unix time `now`. Raises CollectorError when they cannot be
        determined."""
        ...


def text(value: object) -> str:
    """Return an external text as a label value: one line of at most MAX_TEXT characters, else
    empty."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        return ""
    return value if _TEXT.fullmatch(value) else ""
