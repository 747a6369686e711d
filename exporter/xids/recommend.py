"""Recommends an action for each GPU. Pure.

The reasons are the driver's own recommendation, XIDs, pending memory repairs, and a lost GPU. The
action with the highest rank is used. A GPU whose only symptom is that it does not respond has the
action none. A GPU with an unknown state has no recommendation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.xids.xid_catalogue import DRIVER_SAYS, RANK, Action
from exporter.xids.xid_ledger_state import UnresolvedXid

LOOKBACK_SECONDS = 3600.0
APP_SECONDS = 300.0  # after this time, a restart of the affected process is no longer recommended

# Readings of the GPU's memory that are 1 while an action is necessary.
MEMORY_SAYS: tuple[tuple[str, str, Action], ...] = (
    ("gpu_unrepairable_memory", "unrepairable_memory", "inspect"),
    ("gpu_row_remap_failure", "row_remap_failure", "inspect"),
    ("gpu_sram_ecc_threshold_exceeded", "sram_threshold", "inspect"),
    ("gpu_row_remap_pending", "row_remap_pending", "drain_reset"),
    ("gpu_retired_pages_pending", "retired_pages_pending", "drain_reset"),
)


class Recommendation(NamedTuple):
    """A recommended action, the reason for it, and the Unix time at which the recommendation began."""

    action: Action
    reason: str
    since: float

    @property
    def rank(self) -> int:
        """The rank of the action, from 0 (none) to 5."""
        return RANK[self.action]


def is_expired(standing: UnresolvedXid, now: float, lookback: float) -> bool:
    """Return whether an XID is too old at Unix time `now` to recommend an action."""
    if standing.action == "restart_app":
        lookback = min(lookback, APP_SECONDS)
    return now - standing.at > lookback


def recommendations(
    view: NodeSnapshot,
    standing: Mapping[str, Mapping[str, UnresolvedXid]],
    now: float,
    lookback: float = LOOKBACK_SECONDS,
) -> dict[str, Recommendation]:
    """Return the recommended action of every GPU with a known state, by UUID.

    `standing` contains, by UUID, the XIDs since the last reset or boot. XIDs older than `lookback`
    seconds are ignored.
    """
    found: dict[str, Recommendation] = {}
    for gpu in view.gpus:
        if gpu.status is GpuStatus.UNKNOWN:
            continue
        evidence = list(_evidence(gpu, standing.get(gpu.uuid, {}), now, lookback))
        calm = "not_responding" if gpu.status is GpuStatus.HUNG else "ok"
        # max() returns the first of equal ranks: the evidence is in order of significance.
        found[gpu.uuid] = max(
            evidence, key=lambda each: each.rank, default=Recommendation("none", calm, now)
        )
    return found


def _evidence(
    gpu: GpuSnapshot, standing: Mapping[str, UnresolvedXid], now: float, lookback: float
) -> Iterator[Recommendation]:
    if gpu.status is GpuStatus.LOST:
        yield Recommendation("reboot_node", "lost", now)
    for reading in gpu.readings("health"):
        if reading.name == "gpu_recovery_action" and reading.value == 1 and reading.labels:
            action = DRIVER_SAYS.get(reading.labels[0], "none")
            if action != "none":
                yield Recommendation(action, f"driver_{reading.labels[0]}", now)
    for name, reason, action in MEMORY_SAYS:
        if gpu.value("health", name) == 1:
            yield Recommendation(action, reason, now)
    for each in sorted(standing.values(), key=lambda one: -one.at):
        if not is_expired(each, now, lookback):
            yield Recommendation(each.action, f"xid_{each.code}", each.since)
