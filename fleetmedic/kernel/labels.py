"""The words shared by metrics, alerts and the remediator: label names, and what an alert points at.

`cluster` and `node` are set by the scrape configuration alone. A job is `job_id`, because `job`
belongs to Prometheus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.kernel.errors import UserError

ALERTNAME = "alertname"
SEVERITY = "severity"
CATEGORY = "category"
SOURCE = "source"
CLUSTER = "cluster"
NODE = "node"
GPU = "gpu"
UUID = "uuid"
JOB_ID = "job_id"
SERVICE = "service"
PLAYBOOK = "playbook"

SEVERITIES = ("critical", "warning", "info", "none")
CATEGORIES = ("gpu", "node", "job", "service", "pipeline", "capacity", "security", "meta")

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})"
_GPU = re.compile(rf"(?:gpu/)?({_NAME})/(?:gpu)?([0-9]{{1,4}})")


class TargetKind(StrEnum):
    """What an incident can be about."""

    GPU = "gpu"
    NODE = "node"
    JOB = "job"
    WORKLOAD = "workload"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One thing that can be sick: a GPU of a node, a node, a job or a workload.

    `name` is the node, job or workload; `gpu` is the index on that node, and None for the others.
    """

    kind: TargetKind
    name: str
    gpu: int | None = None

    def __str__(self) -> str:
        if self.kind is TargetKind.GPU:
            return f"gpu/{self.name}/{self.gpu}"
        return f"{self.kind}/{self.name}"

    @property
    def node(self) -> str | None:
        """The node it lies on, where that is known from the target itself."""
        return self.name if self.kind in (TargetKind.GPU, TargetKind.NODE) else None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `gpu/NODE/3`, `NODE/3`, `NODE/gpu3`, `node/NODE`, `NODE`, `job/ID`, `workload/NAME`.

        Raises UserError for anything else.
        """
        kind, _, rest = text.partition("/")
        if kind in ("node", "job", "workload") and re.fullmatch(_NAME, rest):
            return cls(TargetKind(kind), rest)
        if match := _GPU.fullmatch(text):
            return cls(TargetKind.GPU, match[1], int(match[2]))
        if re.fullmatch(_NAME, text):
            return cls(TargetKind.NODE, text)
        raise UserError(
            f"{text[:80]!r} is no target: write NODE, NODE/3 for a GPU, job/ID or workload/NAME."
        )


def valid_name(text: str) -> bool:
    """Whether text may name a node, job or workload (safe in paths, labels and commands)."""
    return re.fullmatch(_NAME, text) is not None
