"""Fixtures that build playbooks, facts, alerts, incidents and cases."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events
from remediator.core.decision import Case
from remediator.core.evidence import OVER
from remediator.core.facts import Facts, PoolFacts, SensorFacts
from remediator.core.guards import Limits
from remediator.core.lifecycle import evolve, new_incident
from remediator.core.model import (
    Alert,
    FaultClass,
    Incident,
    IncidentState,
    JobsPlan,
    Level,
    Playbook,
    Rung,
    VerifyPlan,
)
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import NOW

GPU = Target(TargetKind.GPU, "node2", 3)


@pytest.fixture(scope="session")
def playbook() -> Playbook:
    """A playbook for a lost GPU."""
    return Playbook(
        name="gpu-lost", alertnames=("GpuLost", "GpuXidFatalHardware"), labels=(),
        target=TargetKind.GPU, fault_class=FaultClass.HARDWARE, level=Level.REPAIR,
        quarantine=True, witnesses=2, widen_to="node-down",
        jobs=JobsPlan(True, True, 10.0, 60.0, 2, 3600.0),
        ladder=(Rung(ACTIONS.named("reset_gpu"), 120.0, 2, 86_400.0, 600.0),
                Rung(ACTIONS.named("reboot_node"), 1500.0, 2, 86_400.0, 1800.0)),
        verify=VerifyPlan(("probe", "metrics"), 2, 120.0), probation=900.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def facts() -> Facts:
    """Facts with which every guard allows every step."""
    return Facts(
        level=Level.REPAIR, quarantine_owner="fleetmedic", pool=PoolFacts(gpus=32, nodes=4),
        sensors=SensorFacts(0.0, True, 1.0), witnesses=frozenset({"the GPU's driver", "kernel log"}),
    )  # fmt: skip


@pytest.fixture(scope="session")
def alert() -> Callable[..., Alert]:
    """An alert on gpu/node2/3; keywords replace what is given."""

    def make(
        name: str = "GpuLost", *, at: float = NOW, firing: bool = True, **labels: str
    ) -> Alert:
        given = {"alertname": name, "severity": "critical", "node": "node2", "gpu": "3"} | labels
        fingerprint = f"{zlib.crc32(repr(sorted(given.items())).encode()):016x}"
        return Alert(fingerprint, at, "2023-11-14T22:13:20Z", firing, given)

    return make


@pytest.fixture(scope="session")
def incident() -> Callable[..., Incident]:
    """An incident in a state; one past TRIAGED has quarantined its target."""

    def make(
        state: IncidentState = IncidentState.TRIAGED, target: Target = GPU, **changes: Any
    ) -> Incident:
        opened = events.opened("inc-1", target, "gpu-lost", Level.REPAIR, NOW - 60, 0, "A case.")
        one = new_incident(opened)
        late = state not in (IncidentState.NEW, IncidentState.TRIAGED, IncidentState.HELD)
        kept = (target,) if late and target.node else ()
        changes = {"quarantined": kept, "since": NOW - 30} | changes
        return replace(one, state=state, **changes)

    return make


@pytest.fixture(scope="session")
def after() -> Callable[..., Incident]:
    """The incident after a step: prepared, then done or failed."""

    def run(
        one: Incident, step: Any, *, done: bool = True, at: float = NOW, **extra: Any
    ) -> Incident:
        kind = events.Kind
        prepared = events.step_event(kind.STEP_PREPARED, one, step, at, Reason.STEP_ALLOWED)
        reason = extra.pop("reason", Reason.EFFECT_SEEN)
        ending = kind.STEP_DONE if done else kind.STEP_FAILED
        one = evolve(one, prepared)
        return evolve(one, events.step_event(ending, one, step, at, reason, **extra))

    return run


@pytest.fixture(scope="session")
def case(playbook: Playbook, facts: Facts) -> Callable[..., Case]:
    """A case whose facts allow every step; keywords change the facts."""

    def make(
        one: Incident, *, playbook: Playbook = playbook, now: float = NOW, **changes: Any
    ) -> Case:
        if not changes.pop("firing", True):
            changes |= {"evidence": OVER, "alerts_active": False}
        return Case(one, playbook, replace(facts, **changes), Limits(), now, ACTIONS)

    return make
