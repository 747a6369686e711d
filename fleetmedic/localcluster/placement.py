"""Which GPUs a job gets. Pure and repeatable: the same facts always give the same place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster.model import NodeView


@dataclass(frozen=True, slots=True)
class Place:
    """GPUs of one node."""

    node: str
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoPlace:
    """No node fits now; `text` says what stands in the way."""

    text: str


def place(
    nodes: Iterable[NodeView],
    wanted: int,
    *,
    excluded: frozenset[Target] = frozenset(),
    avoid: frozenset[Target] = frozenset(),
) -> Place | NoPlace:
    """`wanted` GPUs on one node, the fullest that fits, its lowest indices.

    Never a GPU that is held, quarantined, marked or `excluded`, by itself or with its node; one to
    `avoid` only where nothing else fits. A job without GPUs goes to the first node in service.
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
            return Place(name, tuple(free[:wanted]))
    return NoPlace(_why(known, wanted, excluded))


def in_service(node: NodeView, excluded: frozenset[Target] = frozenset()) -> bool:
    """Whether jobs may be placed on a node at all."""
    target = Target(TargetKind.NODE, node.name)
    return node.alive and node.quarantined is None and target not in excluded


def free_gpus(node: NodeView, excluded: frozenset[Target] = frozenset()) -> list[int]:
    """The indices of a node's GPUs that a job may have now."""
    return [
        gpu.index
        for gpu in node.gpus
        if gpu.job_id is None
        and gpu.quarantined is None
        and gpu.marked is None
        and Target(TargetKind.GPU, node.name, gpu.index) not in excluded
    ]


def touches(node: str, gpus: tuple[int, ...], targets: Iterable[Target]) -> bool:
    """Whether any of the targets is one of these GPUs or their node."""
    here = {Target(TargetKind.GPU, node, index) for index in gpus}
    here.add(Target(TargetKind.NODE, node))
    return not here.isdisjoint(targets)


def _why(nodes: list[NodeView], wanted: int, excluded: frozenset[Target]) -> str:
    if not nodes:
        return "the cluster has no node yet"
    most = max(len(node.gpus) for node in nodes)
    if most < wanted:
        return f"no node has {wanted} GPUs; the largest has {most}"
    serving = [node for node in nodes if in_service(node, excluded)]
    free = max((len(free_gpus(node, excluded)) for node in serving), default=0)
    return (
        f"{wanted} GPUs on one node are wanted and {free} is the most that are free and in service"
    )


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """node2 before node10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
