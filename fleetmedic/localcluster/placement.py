"""Select the GPUs of a job. Pure and deterministic."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster.model import NodeView
from fleetmedic.wording.counts import counted


@dataclass(frozen=True, slots=True)
class Placement:
    """The GPUs selected for a job, all on one node."""

    node: str
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoPlacement:
    """The result if no node has enough free GPUs for the job now. `text` is the reason."""

    text: str


def select_gpus(
    nodes: Iterable[NodeView],
    wanted: int,
    *,
    excluded: frozenset[Target] = frozenset(),
    avoid: frozenset[Target] = frozenset(),
) -> Placement | NoPlacement:
    """Select `wanted` GPUs on one node. Among the nodes that fit, the node with the fewest free
    GPUs is used. On this node, the GPUs with the lowest indices are used.

    GPUs are never selected if they or their node are allocated, quarantined, marked or in `excluded`. GPUs in
    `avoid` are selected only if nothing else fits. A job without GPUs is placed on the node in service with the
    fewest free GPUs.
    """
    known = list(nodes)
    for barred in (excluded | avoid, excluded):
        fits = [
            (len(free), _natural(node.name), node.name, free)
            for node in known
            if in_service(node, barred)
            for free in [free_gpus(node, barred)]
            if len(free) >= wanted
        ]
        if fits:
            _, _, name, free = min(fits)
            return Placement(name, tuple(free[:wanted]))
    return NoPlacement(_why(known, wanted, excluded))


def in_service(node: NodeView, excluded: frozenset[Target] = frozenset()) -> bool:
    """Return whether the node is in service, so that jobs may be placed on it."""
    target = Target(TargetKind.NODE, node.name)
    return node.alive and node.quarantined is None and target not in excluded


def free_gpus(node: NodeView, excluded: frozenset[Target] = frozenset()) -> list[int]:
    """Return the indices of a node's GPUs that are available to a job."""
    return [
        gpu.index
        for gpu in node.gpus
        if gpu.job_id is None
        and gpu.quarantined is None
        and gpu.marked is None
        and Target(TargetKind.GPU, node.name, gpu.index) not in excluded
    ]


def touches(node: str, gpus: tuple[int, ...], targets: Iterable[Target]) -> bool:
    """Return whether the list of targets contains one of these GPUs or their node."""
    here = {Target(TargetKind.GPU, node, index) for index in gpus}
    here.add(Target(TargetKind.NODE, node))
    return not here.isdisjoint(targets)


def _why(nodes: list[NodeView], wanted: int, excluded: frozenset[Target]) -> str:
    if not nodes:
        return "the cluster has no nodes yet"
    most = max(len(node.gpus) for node in nodes)
    if most < wanted:
        return f"no node has {counted(wanted, 'GPU')}; the largest has {most}"
    serving = [node for node in nodes if in_service(node, excluded)]
    free = max((len(free_gpus(node, excluded)) for node in serving), default=0)
    return f"{counted(wanted, 'GPU')} on one node required; at most {free} are free and in service on one node"


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts node2 before node10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
