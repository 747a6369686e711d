"""The records of which the remediator's state consists. Frozen dataclasses without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from fleetmedic.kernel.labels import CLUSTER, Target
from remediator.core.action import Effect
from remediator.core.model import Alert


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One firing period of an alert: the latest alert received, and the incident that handles it.

    `suppressed`: the decision was to take no action.
    """

    alert: Alert
    received: float
    incident: str | None = None
    suppressed: bool = False

    @property
    def undecided(self) -> bool:
        """Return whether the alert is firing and no decision about it has been made."""
        return self.alert.firing and self.incident is None and not self.suppressed

    def reduced(self) -> EpisodeRecord:
        """Return the record of an alert that is over, with the labels that identify the episode only."""
        labels = self.alert.labels
        kept = _identifying(labels.get("alertname", ""), labels.get(CLUSTER))
        return self if kept is labels else replace(self, alert=replace(self.alert, labels=kept))


@lru_cache(maxsize=1024)
def _identifying(name: str, cluster: str | None) -> Mapping[str, str]:
    """Return labels that all reduced alerts of one name share, because each copy would take 200 bytes."""
    return {"alertname": name} | ({} if cluster is None else {CLUSTER: cluster})


@dataclass(frozen=True, slots=True)
class Pause:
    """The current pause: who paused the remediator, why, and since when (Unix seconds)."""

    by: str
    why: str
    at: float


@dataclass(frozen=True, slots=True)
class Pin:
    """An operator's decision to return a target to service or to keep it out: who, why, when (Unix
    seconds).

    `incident` is the id of the incident that the operator closed; the journal keeps its events while
    the decision applies.
    """

    by: str
    why: str
    at: float
    incident: str = ""


@dataclass(frozen=True, slots=True)
class Storm:
    """A pool with too much hardware reported unhealthy at the same time: since when, and a
    human-readable description."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A queued notification. `settled`: hashes of the addresses that received it or for which it expired."""

    op_id: str
    at: float
    body: Mapping[str, Any]
    settled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One announced step: action, target, time (Unix seconds). `dead`: the target was lost or hung."""

    action: str
    effect: Effect
    target: Target
    at: float
    dead: bool = False
