"""The interface to a scheduler's GPU allocations, and the data type of one allocation."""

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
    """A GPU held by a job or container.

    `gpu` is the source's name of the GPU: a UUID (`GPU-...`, `MIG-...`), the index on this node, or
    the device file (`nvidia3`). `key` identifies the holder's processes (see processes.py):
    `slurm:ID`, `pod:UID`, `job:ID`, or a key with the prefix UNMATCHED if they cannot be
    identified. Unknown strings are empty.
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
    """A source of GPU allocations. Sources read files of other programs, so all reads are limited
    in size."""

    @property
    def name(self) -> str: ...

    def is_present(self) -> bool:
        """Return whether this source's scheduler is installed on the node.

        A missing scheduler is not an error.
        """
        ...

    def holdings(self, now: float) -> Iterable[Holding]:
        """Return the GPU allocations at Unix time `now`. Raises CollectorError if they cannot be read."""
        ...


def text(value: object) -> str:
    """Return an untrusted string as a label value: one line of at most MAX_TEXT characters,
    otherwise empty."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        return ""
    return value if _TEXT.fullmatch(value) else ""
