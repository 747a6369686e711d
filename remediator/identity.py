"""Compare the hardware in alerts with the cluster's inventory. Pure functions.

A GPU is identified by its UUID, a node by the UUIDs of its GPUs. Labels can be wrong and GPUs can
be replaced, so no action is taken on hardware that does not match.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import NodeFacts
from remediator.core.facts import Identity
from remediator.core.model import Episode, Incident

_UNKNOWN = Identity(confirmed=False)
MOST_NAMED = 3
# How long an alert with a wrong node label may continue after the label is corrected: the window of its rule
# (seconds, divided by the rules' factor) and some time to resolve.
ALERT_WINDOW = 900.0
ALERT_ENDS = 60.0


def identify(
    target: Target,
    alerts: Iterable[Episode],
    snapshot: ClusterSnapshot,
    reported: Mapping[str, float] | None,
    factor: float = 1.0,
) -> Identity:
    """Compare the alerts about a target with the inventory.

    `reported` contains the time at which the node's exporter last reported each UUID (Unix
    seconds), from Prometheus. None means unknown: it neither confirms nor contradicts a node. If
    the exporter reported UUIDs of another node, the node is not confirmed until the last such
    report is older than an alert can last.
    """
    node = snapshot.node(target.name)
    if target.kind not in (TargetKind.GPU, TargetKind.NODE):
        return Identity()
    if node is None:
        return _UNKNOWN
    claimed = tuple(_claims(alerts))
    for index, uuid in claimed:
        if found := _other(node, index, uuid):
            where = Target(TargetKind.GPU, node.name, index)
            return Identity(
                False, f"The alert names {uuid} at {where}, but the inventory has {found} there."
            )
    alone = ALERT_WINDOW / factor + ALERT_ENDS
    if reported and (problem := _anothers(node, snapshot, reported, alone)):
        return Identity(False, problem)
    if target.kind is TargetKind.NODE:
        return Identity() if reported is None or _some_here(node, reported) else _UNKNOWN
    own = node.gpu(target.gpu or 0)
    known_here = own is not None and bool(own.uuid)
    return Identity() if known_here and _named(claimed, target.gpu) else _UNKNOWN


def alerts_on_other_hardware(incident: Incident, node: NodeFacts | None) -> frozenset[str]:
    """Return the keys of the incident's alerts that name hardware other than the inventory of their node."""
    return frozenset(
        one.key
        for one in incident.alerts
        for index, uuid in _claims((one,))
        if node is not None and _other(node, index, uuid)
    )


def _other(node: NodeFacts, index: int, uuid: str) -> str:
    """Return the UUID that the inventory lists at an index, if it differs from `uuid`; otherwise
    empty."""
    gpu = node.gpu(index)
    return gpu.uuid if gpu and gpu.uuid and not _same(gpu.uuid, uuid) else ""


def _claims(alerts: Iterable[Episode]) -> Iterable[tuple[int, str]]:
    """Yield index and UUID of each GPU in the alerts. Alerts without an index or a UUID are
    skipped."""
    for episode in alerts:
        index = _index(episode)
        if index is not None and episode.uuid:
            yield index, episode.uuid


def _index(episode: Episode) -> int | None:
    text = episode.gpu
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None


def _named(claimed: Iterable[tuple[int, str]], gpu: int | None) -> bool:
    return any(index == gpu for index, _ in claimed)


def _anothers(
    node: NodeFacts, snapshot: ClusterSnapshot, reported: Mapping[str, float], alone: float
) -> str:
    """Return a description if the node's exporter reports GPUs of another node, now or recently;
    otherwise empty."""
    here = {gpu.uuid.lower() for gpu in node.gpus}
    own_at = max((at for uuid, at in reported.items() if uuid.lower() in here), default=-math.inf)
    strange = sorted(
        uuid
        for uuid, at in reported.items()
        if uuid.lower() not in here and snapshot.home(uuid) and at > own_at - alone
    )
    if not strange:
        return ""
    named = _first(strange)
    home = snapshot.home(strange[0])
    own = _first([gpu.uuid for gpu in node.gpus]) or "none"
    return (
        f"The exporter of {node.name} reports {named}, which the inventory has on {home}; the "
        f"inventory has {own} on {node.name}."
    )


def _first(uuids: Sequence[str]) -> str:
    """Return the first names of a list, and the number of the others."""
    more = f" and {len(uuids) - MOST_NAMED} more" if len(uuids) > MOST_NAMED else ""
    return f"{', '.join(uuids[:MOST_NAMED])}{more}"


def _some_here(node: NodeFacts, reported: Mapping[str, float]) -> bool:
    here = {gpu.uuid.lower() for gpu in node.gpus}
    return not here or any(uuid.lower() in here for uuid in reported)


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
