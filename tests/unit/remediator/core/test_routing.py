from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, Incident, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.core.routing import (
    absorbable,
    covers_gpus,
    holder,
    last_repaired_at,
    repaired_since_fault,
    route,
    target_of,
)
from remediator.playbook_library import load_library
from tests.unit.remediator.core.examples import NOW

BOOKS = load_library(())


def _alert(name: str, **labels: str) -> Alert:
    return Alert("f", NOW, "", True, {"alertname": name, "cluster": "local", **labels})


@pytest.mark.parametrize(
    ("name", "labels", "playbook", "target"),
    [
        ("GpuLost", {"node": "node2", "gpu": "3"}, "gpu-lost", "gpu/node2/3"),
        ("GpuXidFatalHardware", {"node": "n", "gpu": "0"}, "gpu-lost", "gpu/n/0"),
        ("GpuHung", {"node": "n", "gpu": "0"}, "gpu-hung", "gpu/n/0"),
        ("GpuEccUncorrectable", {"node": "n", "gpu": "0"}, "gpu-repair", "gpu/n/0"),
        ("GpuPeerOutlier", {"node": "n", "gpu": "0"}, "gpu-slow", "gpu/n/0"),
        ("GpuXidApplicationRepeated", {"node": "n", "gpu": "0"}, "application-error", "gpu/n/0"),
        ("GpuXidContained", {"node": "n", "gpu": "0"}, "application-error", "gpu/n/0"),
        ("NodeDown", {"node": "node2"}, "node-down", "node/node2"),
        ("TrainingStalled", {"job_id": "train-a", "node": "n"}, "job-stalled", "job/train-a"),
        ("InferenceQueueGrowing", {"service": "serve"}, "scale-out", "workload/serve"),
        ("InferenceOverProvisioned", {"service": "serve"}, "scale-in", "workload/serve"),
        ("NodeOomKill", {"node": "n", "severity": "warning"}, "notify-warning", "node/n"),
        ("Anything", {"node": "n", "gpu": "1", "severity": "critical"}, "notify-critical", "gpu/n/1"),
    ],
)  # fmt: skip
def test_an_alert_finds_its_playbook_and_target(name, labels, playbook, target) -> None:
    found = route(_alert(name, **labels), BOOKS, "local")
    assert (playbook, target) == (found.playbook.name, str(found.target))
    assert Reason.ROUTED is found.reason


def test_the_watchdog_is_a_signal_and_no_case() -> None:
    found = route(_alert("Watchdog", severity="none"), BOOKS, "local")
    assert (found.target, found.reason) == (None, Reason.DEAD_MAN_SIGNAL)


def test_what_nobody_wrote_a_playbook_for_says_so() -> None:
    found = route(_alert("Whatever", severity="info", node="n"), BOOKS, "local")
    assert (found.playbook, found.reason) == (None, Reason.NO_PLAYBOOK)
    assert "Whatever" in found.text


@pytest.mark.parametrize(
    "labels",
    [
        {}, {"node": "n"}, {"node": "../etc", "gpu": "0"}, {"node": "n", "gpu": "-1"},
        {"node": "n", "gpu": "99999"}, {"node": "n/1", "gpu": "0"}, {"node": "", "gpu": ""},
        {"node": "n\nm", "gpu": "0"}, {"node": "n", "gpu": "0; rm -rf /"},
    ],
)  # fmt: skip
def test_hostile_or_missing_labels_name_no_target(labels) -> None:
    assert target_of(labels, TargetKind.GPU) is None
    assert Reason.NO_TARGET is route(_alert("GpuLost", **labels), BOOKS, "local").reason


ON_GPU = {"node": "n", "gpu": "0"}


@pytest.mark.parametrize("stage", ["shadow", "notify", "typo"])
def test_an_alert_whose_stage_forbids_actions_finds_only_playbooks_that_notify(stage: str) -> None:
    found = route(_alert("GpuLost", severity="critical", stage=stage, **ON_GPU), BOOKS, "local")
    assert (found.playbook.name, str(found.target)) == ("notify-critical", "gpu/n/0")
    assert found.reason is Reason.STAGE
    assert f"stage is {stage!r}" in found.text
    assert "playbook gpu-lost is not used" in found.text


def test_without_such_a_playbook_the_stage_is_the_reason_for_no_action() -> None:
    found = route(_alert("GpuLost", severity="info", stage="notify", **ON_GPU), BOOKS, "local")
    assert (found.playbook, str(found.target), found.reason) == (None, "gpu/n/0", Reason.STAGE)
    assert "playbook gpu-lost is not used" in found.text


@pytest.mark.parametrize("labels", [{}, {"stage": ""}, {"stage": "act"}])
def test_the_stage_act_and_no_stage_change_no_route(labels: dict[str, str]) -> None:
    found = route(_alert("GpuLost", severity="critical", **ON_GPU, **labels), BOOKS, "local")
    assert (found.playbook.name, found.reason) == ("gpu-lost", Reason.ROUTED)


@pytest.mark.parametrize("severity", ["critical", "info"])
def test_an_application_error_finds_no_playbook_that_quarantines(severity: str) -> None:
    """The rule declares it, so a playbook with a new alert of a site is refused too."""
    labels = {"severity": severity, "reports": "application_error", **ON_GPU}
    theirs = tuple(
        replace(one, alertnames=("TheirXid",))
        for one in BOOKS
        if one.name in ("gpu-lost", "gpu-slow")
    )
    found = route(_alert("TheirXid", **labels), theirs + BOOKS, "local")
    assert found.reason is Reason.APPLICATION_ERROR
    assert found.playbook is None or found.playbook.notify_only
    assert "playbook gpu-lost is not used" in found.text
    without = route(_alert("TheirXid", severity=severity, **ON_GPU), theirs + BOOKS, "local")
    assert without.playbook is theirs[0]


def test_an_alert_that_only_notifies_has_no_other_reason_for_its_stage() -> None:
    found = route(_alert("Odd", severity="critical", stage="notify", node="n"), BOOKS, "local")
    assert (found.playbook.name, found.reason) == ("notify-critical", Reason.ROUTED)


def test_without_a_kind_the_most_particular_target_is_meant() -> None:
    assert str(target_of({"node": "n", "gpu": "1", "job_id": "j"}, None)) == "gpu/n/1"
    assert str(target_of({"node": "n", "job_id": "j"}, None)) == "node/n"
    assert str(target_of({"job_id": "j"}, None)) == "job/j"


def test_no_shipped_playbook_quarantines_for_an_applications_error() -> None:
    assert all(
        not one.quarantine
        for one in BOOKS
        if {"GpuXidApplicationRepeated", "GpuXidContained"} & set(one.alertnames)
    )


def test_alerts_from_before_a_cure_are_spent_and_later_ones_are_not() -> None:
    journal_state, gpu = JournalState(), Target(TargetKind.GPU, "n", 0)
    assert not repaired_since_fault(_alert("GpuLost"), gpu, journal_state)
    journal_state.cured[gpu] = NOW + 10
    assert repaired_since_fault(_alert("GpuLost"), gpu, journal_state)
    journal_state.cured[gpu] = NOW - 10
    assert not repaired_since_fault(_alert("GpuLost"), gpu, journal_state)


def test_an_event_from_before_the_cure_is_spent_though_its_alert_began_anew() -> None:
    journal_state, gpu = JournalState(), Target(TargetKind.GPU, "n", 0)
    journal_state.cured[gpu] = NOW - 10
    assert repaired_since_fault(
        _alert("GpuXidFatalHardware"), gpu, journal_state, event_at=NOW - 60
    )
    assert not repaired_since_fault(
        _alert("GpuXidFatalHardware"), gpu, journal_state, event_at=NOW - 5
    )


def test_a_nodes_cure_cures_its_gpus() -> None:
    journal_state = JournalState()
    journal_state.cured[Target(TargetKind.NODE, "n")] = NOW + 10
    assert repaired_since_fault(_alert("GpuLost"), Target(TargetKind.GPU, "n", 0), journal_state)
    assert not repaired_since_fault(
        _alert("GpuLost"), Target(TargetKind.GPU, "m", 0), journal_state
    )


def test_the_episode_key_is_the_same_from_webhook_and_from_alertmanagers_api() -> None:
    webhook = Alert("f", 1795384048.185892, "2026-11-22T21:47:28.185892Z", True, {})
    from_api = Alert("f", 1795384048.185, "2026-11-22T21:47:28.185Z", True, {})
    assert webhook.key == from_api.key


@pytest.mark.parametrize("labels", [{"cluster": "other"}, {}, {"cluster": ""}])
def test_an_alert_without_our_cluster_label_is_not_ours(labels) -> None:
    given = {"alertname": "GpuLost", "node": "node1", "gpu": "3"} | labels
    found = route(Alert("f", NOW, "", True, given), BOOKS, "local")
    assert (found.target, found.playbook, found.reason) == (None, None, Reason.OTHER_CLUSTER)
    assert "local" in found.text


@pytest.mark.parametrize("labels", [{"cluster": "other"}, {}])
def test_the_watchdog_needs_no_cluster_label(labels) -> None:
    given = Alert("f", NOW, "", True, {"alertname": "Watchdog"} | labels)
    assert route(given, BOOKS, "local").reason is Reason.DEAD_MAN_SIGNAL


NODE, GPU = Target(TargetKind.NODE, "n"), Target(TargetKind.GPU, "n", 0)


def _incident(
    journal_state: JournalState, target: Target, identity: str, **changes: object
) -> Incident:
    """An open incident with one alert that fires."""
    journal_state.apply(events.opened(identity, target, "x", Level.REPAIR, NOW, 0, "x"))
    heard = Alert(identity, NOW, "", True, {"alertname": "NodeDown", "cluster": "local"})
    journal_state.apply(events.alert_received(heard, target, NOW, "test"))
    journal_state.apply(events.absorbed(identity, target, events.episode_of(heard, NOW), NOW))
    one = replace(journal_state.incidents[identity], **changes)  # type: ignore[arg-type]
    journal_state.incidents[identity] = one
    return one


@pytest.mark.parametrize(
    ("changes", "fires", "covered"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"held": Reason.PAUSED}, True, False),
        ({"state": IncidentState.HELD}, True, False),
        ({"level": Level.OBSERVE}, True, False),
        ({"repaired_at": NOW}, False, True),
        ({"state": IncidentState.ESCALATED, "quarantined": (NODE,)}, False, True),
        # The node is in service: its GPUs are quarantined by incidents of their own.
        ({"state": IncidentState.ESCALATED}, False, False),
        ({"state": IncidentState.VERIFYING}, True, False),
        ({"state": IncidentState.VERIFYING, "quarantined": (NODE,)}, True, True),
        (
            {
                "state": IncidentState.ESCALATED,
                "quarantined": (NODE,),
                "reason": Reason.RELEASED_BY_OTHERS,
            },
            True,
            False,
        ),
        ({"repaired_at": NOW, "held": Reason.PAUSED}, False, False),
    ],
)
def test_a_node_incident_looks_after_its_gpus_only_while_it_does_something(
    changes, fires, covered
) -> None:
    journal_state = JournalState()
    one = _incident(journal_state, NODE, "inc-1", **changes)
    if not fires:
        over = Alert("inc-1", NOW, "", False, {"alertname": "NodeDown", "cluster": "local"})
        journal_state.apply(events.alert_received(over, NODE, NOW, "test"))
    assert covers_gpus(one, journal_state) is covered
    found = holder(GPU, journal_state)
    assert (found is not None) is covered


def test_a_targets_own_incident_holds_its_alerts_whatever_it_does() -> None:
    journal_state = JournalState()
    _incident(journal_state, NODE, "inc-1", state=IncidentState.HELD, held=Reason.PAUSED)
    found = holder(NODE, journal_state)
    assert found is not None
    _incident(journal_state, GPU, "inc-2", held=Reason.PAUSED)
    own = holder(GPU, journal_state)
    assert own is not None
    assert own.id == "inc-2"
    assert holder(Target(TargetKind.GPU, "m", 0), journal_state) is None


def test_a_node_takes_its_own_gpus_incidents_over_before_their_repair() -> None:
    journal_state = JournalState()
    first = _incident(journal_state, GPU, "inc-1", state=IncidentState.JOBS_MOVED)
    _incident(journal_state, Target(TargetKind.GPU, "n", 1), "inc-2", state=IncidentState.REPAIRING)
    _incident(
        journal_state, Target(TargetKind.GPU, "m", 1), "inc-3", state=IncidentState.JOBS_MOVED
    )
    _incident(journal_state, NODE, "inc-4", state=IncidentState.QUARANTINED)
    assert absorbable(NODE, journal_state) == (first,)


def test_a_cure_counts_at_the_very_moment_of_an_alert_and_the_latest_counts() -> None:
    journal_state = JournalState()
    journal_state.cured = {GPU: NOW, NODE: NOW - 50}
    assert last_repaired_at(GPU, journal_state) == NOW
    assert last_repaired_at(NODE, journal_state) == NOW - 50
    assert repaired_since_fault(_alert("GpuLost"), GPU, journal_state)
    assert not repaired_since_fault(
        replace(_alert("GpuLost"), starts_at=NOW + 0.1), GPU, journal_state
    )
    # One alert may report several events: the latest one counts, not the alert's start.
    assert not repaired_since_fault(
        _alert("GpuXidFatalHardware"), GPU, journal_state, event_at=NOW + 60
    )
    assert repaired_since_fault(_alert("GpuXidFatalHardware"), GPU, journal_state, event_at=NOW - 1)


def test_labels_of_a_playbook_must_all_match() -> None:
    journal_state = replace(
        BOOKS[0], alertnames=(), labels=(("a", "1"), ("b", "2")), target=TargetKind.NODE
    )
    assert (
        route(_alert("X", node="n", a="1", b="2"), (journal_state,), "local").playbook
        is journal_state
    )
    assert route(_alert("X", node="n", a="1"), (journal_state,), "local").playbook is None
    assert route(_alert("X", node="n", a="1", b="3"), (journal_state,), "local").playbook is None


def test_the_first_playbook_that_matches_is_taken_and_the_others_are_not() -> None:
    one = replace(BOOKS[0], alertnames=("X",), labels=(), target=TargetKind.NODE)
    two = replace(one, name="two")
    assert route(_alert("X", node="n"), (one, two), "local").playbook is one
    assert route(_alert("X", node="n"), (two, one), "local").playbook is two


@pytest.mark.parametrize(
    ("held", "taken"),
    [
        (None, True),
        (Reason.BUDGET_OUT, True),
        (Reason.OTHER_OWNER, False),
        (Reason.PINNED, False),
    ],
)
def test_what_people_keep_is_not_taken_over_by_the_node(held: Reason | None, taken: bool) -> None:
    journal_state = JournalState()
    _incident(
        journal_state,
        GPU,
        "inc-gpu",
        held=held,
        state=IncidentState.HELD if held else IncidentState.QUARANTINED,
    )
    assert bool(absorbable(NODE, journal_state)) is taken
