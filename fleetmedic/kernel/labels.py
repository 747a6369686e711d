"""Label names shared by metrics, alerts and the remediator, and the target of an alert.

Only the scrape configuration sets `cluster` and `node`. The label of a job is `job_id`, because
Prometheus already uses `job`.
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

# The alert that always fires. It tests the alert path.
WATCHDOG = "Watchdog"

SEVERITIES = ("critical", "warning", "info", "none")
CATEGORIES = ("gpu", "node", "job", "service", "pipeline", "capacity", "security", "meta")

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})"
_GPU = re.compile(rf"(?:gpu/)?({_NAME})/(?:gpu)?([0-9]{{1,4}})")


class TargetKind(StrEnum):
    """The types of targets that an incident can have."""

    GPU = "gpu"
    NODE = "node"
    JOB = "job"
    WORKLOAD = "workload"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """The object of an incident: a GPU, a node, a job or a workload.

    `name` is the name of the node, job or workload. `gpu` is the GPU's index on the node, None for other types.
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
        """Return the node of a GPU or node target, None for other targets."""
        return self.name if self.kind in (TargetKind.GPU, TargetKind.NODE) else None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse `gpu/NODE/3`, `NODE/3`, `NODE/gpu3`, `node/NODE`, `NODE`, `job/ID` or `workload/NAME`.

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
            "expected a target NODE, NODE/INDEX (a GPU), job/ID or workload/NAME, got "
            f"{text[:80]!r}."
        )


def valid_name(text: str) -> bool:
    """Return whether a string is a valid node, job or workload name (safe in paths, labels and
    commands)."""
    return re.fullmatch(_NAME, text) is not None
