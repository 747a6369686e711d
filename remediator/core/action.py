"""What an action declares about itself. The core decides by these properties, never by an action's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.kernel.labels import TargetKind

HARDWARE = frozenset({TargetKind.GPU, TargetKind.NODE})


class Level(StrEnum):
    """The automation level of a playbook. Each level includes the previous levels."""

    OBSERVE = "observe"
    QUARANTINE = "quarantine"
    DRAIN = "drain"
    REPAIR = "repair"

    @property
    def rank(self) -> int:
        """Return the rank of the automation level: 0 observe, 1 quarantine, 2 drain, 3 repair."""
        return list(Level).index(self)


class Capability(StrEnum):
    """The optional operations of a cluster. Every cluster lists nodes and jobs, and quarantines nodes."""

    GPU_QUARANTINE = "gpu_quarantine"
    GPU_RESET = "gpu_reset"
    REBOOT = "reboot"
    SIGNAL = "signal"
    RESTART = "restart"
    FAIL = "fail"
    PROBE = "probe"
    SCALE = "scale"


class Effect(StrEnum):
    """The effect of an action on its target."""

    NOTIFIES = "notifies"
    QUARANTINES = "quarantines"
    SAVES = "saves"
    MOVES_JOBS = "moves_jobs"
    REPAIRS = "repairs"
    VERIFIES = "verifies"
    RELEASES = "releases"
    SCALES = "scales"
    FAILS_JOBS = "fails_jobs"


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """The declaration of one action.

    `level` is the lowest automation level at which the action runs. `targets` are the kinds of
    target on which it acts. `capability` is what the cluster must support for it; None if every
    cluster does. `whole_node`: it acts on the whole node of a GPU target, so the node must be empty.
    `disruptive`: it disturbs running jobs or hardware, so new facts are gathered right before it,
    and only few such actions run at the same time. `reversible`: the remediator can undo it.

    `would` completes "The remediator would ...". `did` completes "The remediator ..." afterwards, with
    the fields {on}, {jobs} and {replicas} (such as "2 replicas"); it is empty if the action is not worth a mention.
    """

    name: str
    effect: Effect
    level: Level
    targets: frozenset[TargetKind]
    would: str
    did: str
    capability: Capability | None = None
    whole_node: bool = False
    disruptive: bool = False
    reversible: bool = False

    def supported(self, capabilities: frozenset[str]) -> bool:
        """Return whether a cluster with these capabilities supports the action."""
        return self.capability is None or self.capability in capabilities


class ActionCatalogue:
    """The declarations of all registered actions."""

    def __init__(self, specs: Iterable[ActionSpec]) -> None:
        self._specs = tuple(specs)

    def __iter__(self) -> Iterator[ActionSpec]:
        return iter(self._specs)

    def named(self, name: str) -> ActionSpec:
        """Return the action of that name. Raises LookupError."""
        found = next((one for one in self._specs if one.name == name), None)
        if found is None:
            raise LookupError(f"unknown action {name!r}")
        return found

    def of(self, effect: Effect, kind: TargetKind | None = None) -> ActionSpec:
        """Return the first action with that effect on that kind of target. Raises LookupError."""
        for one in self._specs:
            if one.effect is effect and (kind is None or kind in one.targets):
                return one
        raise LookupError(f"no action {effect} a target of kind {kind}")

    def repairs(self) -> tuple[ActionSpec, ...]:
        """Return the actions that a playbook's `ladder` may contain."""
        return self._with(Effect.REPAIRS)

    def last_resorts(self) -> tuple[ActionSpec, ...]:
        """Return the actions that a playbook's `jobs.then` may name."""
        return self._with(Effect.FAILS_JOBS)

    def _with(self, effect: Effect) -> tuple[ActionSpec, ...]:
        return tuple(one for one in self._specs if one.effect is effect)
