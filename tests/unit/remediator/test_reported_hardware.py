"""Hardware alerts that are active accuse their targets; what is withheld, over or cured does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target
from remediator.core import events
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Level
from remediator.core.routing import Route
from remediator.playbook_library import load_library
from remediator.policy import Policy
from remediator.reported_hardware import ReportedHardware
from tests.unit.remediator.fake_alertmanager import FakeAlertmanager, states

NOW = 1_700_000_000.0
GPU, NODE = Target.parse("node1/3"), Target.parse("node1")
RULES = Policy(load_library(()), Limits(), Level.REPAIR, 1.0, 1.0, "a")


def alert(name: str, target: Target = GPU, *, at: float = NOW - 30, firing: bool = True) -> Alert:
    labels = {"alertname": name, "severity": "critical", "cluster": "a", "node": target.name}
    labels |= {"gpu": str(target.gpu), "uuid": "GPU-x"} if target.gpu is not None else {}
    return Alert(f"{name} {target}", at, "x", firing, labels)


class Court:
    """Accusations by a fake Alertmanager and a journal."""

    def __init__(self, route: Callable[[Alert], Route] = RULES.route) -> None:
        self.fake, self.journal_state = FakeAlertmanager(NOW - 3600), JournalState()
        self.alerts = states(self.fake, lambda: NOW)
        self.now = 0.0
        self.found = ReportedHardware(self.journal_state, route, lambda: self.now)

    def hear(self, one: Alert, received: float = NOW - 20) -> None:
        event = events.alert_received(one, None, received, "webhook")
        self.journal_state.apply(replace(event, seq=self.journal_state.seq + 1))

    def ask(self) -> None:
        asyncio.run(self.alerts.refresh(0.0))

    def active(self) -> frozenset[Target]:
        self.ask()
        return self.found.active(self.alerts).targets

    def is_reported(self, target: Target = GPU) -> bool:
        self.ask()
        return self.found.is_reported(target, self.alerts)


@pytest.fixture
def court() -> Court:
    return Court()


def test_an_active_alert_accuses_what_it_is_about(court: Court) -> None:
    court.fake.lists(alert("GpuLost"), alert("NodeDown", NODE))
    assert court.active() == {GPU, NODE}


@pytest.mark.parametrize(
    "name", ["GpuXidApplicationRepeated", "NodeOomKill", "TrainingStalled", "Odd"]
)
def test_what_no_hardware_playbook_treats_accuses_nothing(court: Court, name: str) -> None:
    court.fake.lists(alert(name))
    assert court.active() == frozenset()
    assert not court.is_reported()


def test_a_withheld_alert_accuses_nothing_and_still_names_its_target(court: Court) -> None:
    court.fake.lists(alert("GpuLost"), silenced_by=("s",))
    court.hear(alert("GpuLost"))
    assert court.active() == frozenset()
    assert court.is_reported()
    assert not court.is_reported(NODE)


def test_one_that_a_webhook_brought_a_moment_ago_accuses_at_once(court: Court) -> None:
    court.hear(alert("GpuLost"))
    assert court.active() == {GPU}
    assert court.is_reported()


def test_one_that_fires_no_more_accuses_nothing(court: Court) -> None:
    court.hear(alert("GpuLost"), received=NOW - 100)
    assert court.active() == frozenset()
    assert court.is_reported(), "until the journal says so"
    court.hear(alert("GpuLost", firing=False))
    assert not court.is_reported()


def test_while_alertmanager_does_not_answer_what_fired_last_accuses(court: Court) -> None:
    court.hear(alert("GpuLost"), received=NOW - 100)
    court.fake.error = "gone"
    assert court.active() == {GPU}


def test_an_alert_older_than_the_cure_accuses_nothing(court: Court) -> None:
    court.fake.lists(alert("GpuLost"))
    court.journal_state.cured[GPU] = NOW - 30
    assert court.active() == frozenset()
    court.journal_state.cured = {NODE: NOW - 29}
    assert court.active() == frozenset()
    court.journal_state.cured = {GPU: NOW - 31}
    assert court.active() == {GPU}


def test_what_a_webhook_brings_is_seen_half_a_second_later_and_an_answer_at_once(
    court: Court,
) -> None:
    assert court.active() == frozenset()
    court.hear(alert("GpuLost"))
    court.now = 0.4
    assert court.found.active(court.alerts).targets == frozenset()
    court.now = 0.5
    assert court.found.active(court.alerts).targets == {GPU}
    court.fake.lists(alert("NodeDown", NODE))
    assert court.active() == {GPU, NODE}
