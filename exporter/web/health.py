"""/api/v1/health: state, reason and recommended action of each monitored component of the node.

The JSON structure is a public interface, described in docs/exporter.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.pages.collector_runner import CollectorState
from exporter.xids.recommend import Recommendation
from exporter.xids.xid_ledger_state import RecentError
from fleetmedic.wording.counts import counted

Word = Literal["healthy", "degraded", "unhealthy", "unknown"]
Kind = Literal["gpu", "driver", "driver_events", "kernel_log", "collector"]
_WORST: tuple[Word, ...] = ("unhealthy", "degraded", "unknown", "healthy")
# The state of a responding GPU, by its recommended action; all other actions mean unhealthy.
_BY_ACTION: Mapping[str, Word] = {"none": "healthy", "restart_app": "degraded"}


class ErrorEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An XID or an NVSwitch error. Repeats within a minute are one event with a `count`."""

    kind: str
    device: str
    code: int
    name: str
    severity: str
    action: str
    first: float
    last: float
    count: int
    source: str
    text: str
    gpu: int | None = None


class Component(msgspec.Struct, frozen=True, omit_defaults=True):
    """The health of one component, such as a GPU.

    `action` is the recommended action, and `reason` is the reason for this action. `since` is the
    Unix time at which the recommendation began. The GPU fields are omitted for other components.
    """

    name: str
    kind: Kind
    state: Word
    why: str
    action: str
    reason: str
    since: float | None = None
    gpu: int | None = None
    uuid: str = ""
    pci_bus_id: str = ""


class HealthResponse(msgspec.Struct, frozen=True):
    """The JSON document that /api/v1/health returns."""

    node: str
    version: str
    source: str
    at: float
    state: Word
    released_seconds: float
    components: list[Component]
    events: list[ErrorEvent]


def gpu(
    view: NodeSnapshot, gpu_snapshot: GpuSnapshot, recommendation: Recommendation | None
) -> Component:
    """Return the health component for one GPU. `recommendation` is the recommended action, if any."""
    state, why = _gpu(view, gpu_snapshot, recommendation)
    return Component(
        name=f"gpu/{gpu_snapshot.index}",
        kind="gpu",
        state=state,
        why=why,
        action=recommendation.action if recommendation else "none",
        reason=recommendation.reason if recommendation else "",
        since=recommendation.since if recommendation and recommendation.action != "none" else None,
        gpu=gpu_snapshot.index,
        uuid=gpu_snapshot.uuid,
        pci_bus_id=gpu_snapshot.device.pci_bus_id,
    )


def _gpu(
    view: NodeSnapshot, gpu_snapshot: GpuSnapshot, recommendation: Recommendation | None
) -> tuple[Word, str]:
    if gpu_snapshot.status is GpuStatus.LOST:
        return "unhealthy", "the GPU is missing from the driver or the bus"
    if gpu_snapshot.status is GpuStatus.HUNG:
        return "unhealthy", "driver calls for this GPU hang"
    if gpu_snapshot.status is GpuStatus.UNKNOWN:
        if view.released:
            return "unknown", "the GPUs are released"
        return "unknown", view.failure or "no recent data for this GPU"
    if recommendation is not None and recommendation.action != "none":
        return _BY_ACTION.get(recommendation.action, "unhealthy"), recommendation.reason.replace(
            "_", " "
        )
    if gpu_snapshot.left_out:
        return (
            "degraded",
            f"reading suspended because a call hung: {', '.join(gpu_snapshot.left_out)}",
        )
    if gpu_snapshot.slow:
        return "degraded", "the driver responds slowly for this GPU"
    return "healthy", ""


def _part(name: str, kind: Kind, state: Word, why: str = "") -> Component:
    """Create a health component that has no recommended action."""
    return Component(name, kind, state, why, "none", "")


def driver(view: NodeSnapshot, released_for: float) -> Iterator[Component]:
    """Yield the health components for the driver: the driver as a whole, and its events if the
    source has any."""
    if view.released:
        why = f"the GPUs are released for another {released_for:.0f} s"
        yield _part("driver", "driver", "unknown", why)
        return
    if view.failure:
        yield _part("driver", "driver", "unhealthy", view.failure)
    elif view.abandoned:
        stuck = "is" if view.abandoned == 1 else "are"
        why = f"{counted(view.abandoned, 'process')} {stuck} stuck in driver calls"
        yield _part("driver", "driver", "degraded", why)
    elif len(view.gpus) < view.expected:
        why = f"only {len(view.gpus)} of {view.expected} expected GPUs were ever seen"
        yield _part("driver", "driver", "degraded", why)
    else:
        yield _part("driver", "driver", "healthy")
    if view.events_up is not None:
        state: Word = "healthy" if view.events_up else "degraded"
        why = "" if view.events_up else "no process waits for the driver's events"
        yield _part("driver_events", "driver_events", state, why)


def kernel_log(failure: str, *, read: bool) -> Component:
    """Return the health component for the kernel log.

    `failure` is the reason why the log cannot be read, or empty. `read`: the log was read recently.
    If not, the state of the log is unknown.
    """
    if failure:
        return _part("kernel_log", "kernel_log", "degraded", failure)
    if not read:
        return _part("kernel_log", "kernel_log", "unknown", "the kernel log was not read recently")
    return _part("kernel_log", "kernel_log", "healthy")


def collectors(states: Iterable[CollectorState]) -> Iterator[Component]:
    """Yield one health component for each collector."""
    for each in states:
        word: Word = "degraded" if each.why else "healthy"
        yield _part(f"collector/{each.name}", "collector", word, each.why)


def worst(components: Iterable[Component]) -> Word:
    """Return the state of the node: the state of its worst component.

    Unknown is worse than healthy and better than degraded.
    """
    found = {component.state for component in components}
    return next((word for word in _WORST if word in found), "unknown")


def events(recent: Sequence[RecentError], view: NodeSnapshot) -> list[ErrorEvent]:
    """Return the latest XIDs and NVSwitch errors as health events, newest first."""
    indexes = {gpu_snapshot.uuid: gpu_snapshot.index for gpu_snapshot in view.gpus}
    return [
        ErrorEvent(
            each.kind,
            each.device,
            each.code,
            each.name,
            each.severity,
            each.action,
            each.first,
            each.last,
            each.count,
            each.source,
            each.text,
            indexes.get(each.device),
        )
        for each in reversed(recent)
    ]
