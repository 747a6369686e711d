"""Compute how much of a pool is out of service, and who owns its quarantines. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

from fleetmedic.kernel.errors import shortened
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import NodeFacts, QuarantineFacts
from remediator.core.action import Effect
from remediator.core.facts import PoolFacts
from remediator.core.journal_state import JournalState
from remediator.core.model import OWNER, Incident, StepState

MOST_SAID = 300


@dataclass(frozen=True, slots=True)
class OutOfService:
    """The GPUs and nodes of each pool that the remediator keeps out of service, by pool.

    The GPUs of a node that is out of service are left out.
    """

    gpus: Mapping[str, frozenset[Target]]
    nodes: Mapping[str, frozenset[Target]]


def out_of_service(
    snapshot: ClusterSnapshot,
    journal_state: JournalState,
    rehearsed: Iterable[Target] = (),
) -> OutOfService:
    """Return what the remediator keeps out of service.

    Announced quarantines count. Hardware that was lost or hung when it was quarantined does not
    count until its repair, and neither do targets that an operator keeps out of service.
    `rehearsed` are the targets that would be out of service at level observe.
    """
    out = set(snapshot.ours) - set(journal_state.kept)
    taken: set[Target] = set()
    for identity in journal_state.taking:
        incident = journal_state.incidents[identity]
        if incident.dead and incident.repaired_at is None:
            out -= {*incident.quarantined, incident.target}
            continue
        # The journal counts too, because the cluster's response may be older than the latest steps.
        taken |= set(incident.quarantined)
        taken |= {
            run.step.target
            for run in incident.steps
            if run.state is StepState.PREPARED and run.step.effect is Effect.QUARANTINES
        }
    out |= taken | set(rehearsed)
    whole = {one.name for one in out if one.kind is TargetKind.NODE}
    gpus: dict[str, set[Target]] = {}
    nodes: dict[str, set[Target]] = {}
    for one in out:
        node = snapshot.node(one.name)
        if node is None:
            continue
        if one.kind is TargetKind.NODE:
            nodes.setdefault(node.pool, set()).add(one)
        elif one.kind is TargetKind.GPU and one.name not in whole:
            gpus.setdefault(node.pool, set()).add(one)
    return OutOfService(
        {pool: frozenset(found) for pool, found in gpus.items()},
        {pool: frozenset(found) for pool, found in nodes.items()},
    )


def pool_view(
    snapshot: ClusterSnapshot,
    pool: str,
    target: Target,
    journal_state: JournalState,
    out: OutOfService,
    *,
    since: float = 0.0,
    rehearsed: Collection[tuple[Target, float]] = (),
) -> PoolFacts:
    """Return how much of a pool the remediator keeps out of service, not counting `target`.

    Quarantines before `since` (Unix seconds) are left out of `recent`. `rehearsed` are the targets that
    would be out of service at level observe, each with its start time (Unix seconds).
    """
    members = snapshot.size(pool).gpus
    gpus_out = out.gpus.get(pool, frozenset())
    nodes_out = out.nodes.get(pool, frozenset())
    recent = [
        one.at
        for one in takewhile(lambda one: one.at >= since, reversed(journal_state.quarantines))
        if one.target.name in members and not one.dead and not _within(one.target, target)
    ]
    recent += [at for one, at in rehearsed if one.name in members and not _within(one, target)]
    return PoolFacts(
        name=pool,
        gpus=snapshot.gpus(pool),
        nodes=len(members),
        gpus_out=len(gpus_out) - (target in gpus_out),
        nodes_out=len(nodes_out) - (target in nodes_out),
        recent=tuple(recent),
    )


def still_ours(incident: Incident, snapshot: ClusterSnapshot) -> tuple[Target, ...]:
    """Return the incident's quarantines, except of its own target, that the remediator still owns."""

    def owner(target: Target) -> str | None:
        node = snapshot.node(target.name)
        found = node.gpu(target.gpu) if node and target.gpu is not None else node
        return found.quarantine.owner if found and found.quarantine else None

    others = (one for one in incident.quarantined if one != incident.target)
    return tuple(one for one in others if owner(one) == OWNER)


def owner_of(
    found: QuarantineFacts | None, target: Target, incident: Incident, journal_state: JournalState
) -> str | None:
    """Return the owner of the target's quarantine; None if the target is not quarantined.

    If an operator closed an incident and kept its quarantine, the owner is that operator, although
    the cluster shows fleetmedic.
    """
    if found is None:
        return None
    kept = journal_state.kept.get(target)
    if kept is None or found.owner != OWNER or target in incident.quarantined:
        return found.owner
    return shortened(f"{kept.by} ({kept.why})", MOST_SAID)


def others_on(node: NodeFacts, incident: Incident, journal_state: JournalState) -> tuple[str, ...]:
    """Return the GPUs of a node that others than the remediator quarantined, as strings with their owners."""
    found = []
    for gpu in node.gpus:
        target = Target(TargetKind.GPU, node.name, gpu.index)
        owner = owner_of(gpu.quarantine, target, incident, journal_state)
        if owner not in (None, OWNER) and target != incident.target:
            found.append(shortened(f"{target} (owner {owner})", MOST_SAID))
    return tuple(found)


def release_of(
    target: Target, journal_state: JournalState, seconds: float, now: float
) -> tuple[str, float | None]:
    """Return a description of an operator's release of a target, and the time (Unix seconds) until
    which the release protects the target from quarantine. Without a release, return an empty string
    and None."""
    pin = journal_state.pins.get(target)
    if pin is None or now >= pin.at + seconds:
        return "", None
    ends = datetime.fromtimestamp(pin.at + seconds, UTC)
    text = f"{pin.by} returned {target} to service; this is respected until {ends:%H:%M} UTC: {pin.why}"
    return shortened(text, MOST_SAID), pin.at + seconds


def _within(one: Target, target: Target) -> bool:
    """Return whether `one` is the target, or a GPU of the target node."""
    return one == target or (target.gpu is None and one.name == target.name)


def rehearsed(journal_state: JournalState, beside: Incident) -> tuple[tuple[Target, float], ...]:
    """Return the targets of other incidents that would be out of service now, if the level were not observe.

    Each has its start time (Unix seconds).
    """
    found = (journal_state.incidents[identity] for identity in journal_state.rehearsed)
    return tuple(
        (one.target, one.since)
        for one in found
        if one.id != beside.id
        and one.target.kind in (TargetKind.GPU, TargetKind.NODE)
        and journal_state.firing(one)
    )
