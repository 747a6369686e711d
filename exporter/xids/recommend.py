"""What should be done about each GPU: the strongest of what the driver recommends, its XIDs, the state
of its memory, and its loss. Pure.

A GPU that merely does not answer asks for nothing: that is no reason to act. Of a GPU of which nothing
is known nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.board import BoardView, GpuView, Status
from exporter.xids.xid_catalogue import DRIVER_SAYS, RANK, Action
from exporter.xids.xid_totals import Standing

LOOKBACK_SECONDS = 3600.0
APP_SECONDS = 300.0  # a process that died is started again, or does not come back

# Readings of the GPU's memory that are 1 while something must be done.
MEMORY_SAYS: tuple[tuple[str, str, Action], ...] = (
    ("gpu_unrepairable_memory", "unrepairable_memory", "inspect"),
    ("gpu_row_remap_failure", "row_remap_failure", "inspect"),
    ("gpu_sram_ecc_threshold_exceeded", "sram_threshold", "inspect"),
    ("gpu_row_remap_pending", "row_remap_pending", "drain_reset"),
    ("gpu_retired_pages_pending", "retired_pages_pending", "drain_reset"),
)


class Recommendation(NamedTuple):
    """What to do, why, and since when (Unix time) that is known."""

    action: Action
    reason: str
    since: float

    @property
    def rank(self) -> int:
        """0 for nothing to 5 for the strongest."""
        return RANK[self.action]


def spent(standing: Standing, now: float, lookback: float) -> bool:
    """Whether an XID is too old to call for anything at Unix time `now`."""
    if standing.action == "restart_app":
        lookback = min(lookback, APP_SECONDS)
    return now - standing.at > lookback


def recommendations(
    view: BoardView,
    standing: Mapping[str, Mapping[str, Standing]],
    now: float,
    lookback: float = LOOKBACK_SECONDS,
) -> dict[str, Recommendation]:
    """By uuid, for every GPU whose state is known. `standing` are the XIDs, by uuid, that no reset
    and no boot has cured; one older than `lookback` seconds is spent."""
    found: dict[str, Recommendation] = {}
    for gpu in view.gpus:
        if gpu.status is Status.UNKNOWN:
            continue
        evidence = list(_evidence(gpu, standing.get(gpu.uuid, {}), now, lookback))
        calm = "not_responding" if gpu.status is Status.HUNG else "ok"
        # The first of equals: what tells most stands first.
        found[gpu.uuid] = max(
            evidence, key=lambda each: each.rank, default=Recommendation("none", calm, now)
        )
    return found


def _evidence(
    gpu: GpuView, standing: Mapping[str, Standing], now: float, lookback: float
) -> Iterator[Recommendation]:
    if gpu.status is Status.LOST:
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
        if not spent(each, now, lookback):
            yield Recommendation(each.action, f"xid_{each.code}", each.since)
