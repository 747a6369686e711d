"""What people read: the present state and reason, the cause, and the target first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.lifecycle import evolve, new_incident
from remediator.core.model import Alert, Incident, IncidentState, Level, Order, Step
from remediator.core.reasons import Reason
from remediator.core.routing import route
from remediator.messages import MOST_TARGETS, OCCASIONS, group_body, incident_body
from remediator.playbook_library import load_library
from remediator.summary import summary
from tests.unit.remediator.catalogue import ACTIONS

NOW = 1_700_000_000.0  # 22:13:20 UTC
GPU = Target(TargetKind.GPU, "node2", 3)
KEYS = {
    "text", "occasion", "op_id", "incident", "target", "state", "reason", "playbook", "alerts",
}  # fmt: skip


def case(*alerts: str, target: Target = GPU, **changes: Any) -> Incident:
    opened = events.opened("inc-1", target, "gpu-lost", Level.REPAIR, NOW, 0, "A case.")
    one = new_incident(opened)
    for name in alerts or ("GpuLost",):
        data = dict.fromkeys(("key", "fingerprint", "alertname", "starts_text"), name)
        absorbed = events.Event(
            Kind.ALERT_ABSORBED, NOW, "inc-1", str(target), data=data | {"starts_at": NOW}
        )
        one = evolve(one, absorbed)
    return replace(one, **changes)


def after(one: Incident, step: Step, kind: Kind, text: str) -> Incident:
    one = evolve(one, events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.STEP_ALLOWED))
    return evolve(one, events.step_event(kind, one, step, NOW, Reason.EFFECT_SEEN, text))


def said(one: Incident, occasion: str) -> str:
    return str(incident_body(one, occasion, "op-1")["text"])


def held(one: Incident, at: float = NOW) -> Incident:
    text = "3 of 32 GPUs are out, which is the budget."
    return evolve(one, events.noted(Kind.HELD, one, at, Reason.BUDGET_OUT, text))


def test_a_message_about_an_incident_has_these_fields() -> None:
    body = incident_body(case("GpuLost", "GpuXid"), "opened", "op-1")
    assert set(body) == KEYS
    assert body["op_id"] == "op-1"
    assert (body["incident"], body["target"], body["playbook"]) == (
        "inc-1",
        "gpu/node2/3",
        "gpu-lost",
    )
    assert (body["state"], body["reason"]) == ("NEW", "routed")
    assert body["alerts"] == ["GpuLost", "GpuXid"]


@pytest.mark.parametrize("occasion", [*OCCASIONS, "held-budget_out", "some_other"])
def test_every_text_begins_with_the_target_and_is_plain_json(occasion: str) -> None:
    body = incident_body(held(case()), occasion, "op-1")
    assert body["text"].startswith("gpu/node2/3")
    assert body["text"].endswith(".")
    assert "{" not in body["text"]
    assert msgspec.json.decode(msgspec.json.encode(body)) == body


def test_while_an_incident_is_held_its_message_has_the_reason_of_the_hold() -> None:
    one = held(case(state=IncidentState.TRIAGED, reason=Reason.ROUTED, text="Routed."), NOW + 60)
    body = incident_body(one, "held-budget_out", "op-1")
    assert body["text"] == (
        "gpu/node2/3 has been held since 22:14 UTC: 3 of 32 GPUs are out, which is the budget."
    )
    assert (body["occasion"], body["state"], body["reason"]) == ("held", "TRIAGED", "budget_out")
    assert "3 of 32 GPUs" in said(one, "opened")


@pytest.mark.parametrize("quarantined", [(), (GPU,)])
def test_a_remediator_without_the_lock_does_not_claim_to_handle_anything(
    quarantined: tuple[Target, ...],
) -> None:
    one = case(quarantined=quarantined, reason=Reason.QUARANTINED, text="Out.")
    claim = "and the remediator is handling it"
    assert (claim in said(one, "opened")) == bool(quarantined)
    refusal = "Another remediator acts on cluster 'a'; this one takes no action."
    text = incident_body(one, "opened", "op-1", refusal)["text"]
    assert claim not in text
    assert text.startswith("gpu/node2/3 is quarantined: " if quarantined else "gpu/node2/3 needs")
    assert text.endswith(f"Out. {refusal}")


def test_the_refusal_is_not_repeated_if_it_is_the_reason_already() -> None:
    one = evolve(case(), events.noted(Kind.HELD, case(), NOW, Reason.OTHER_INSTALLATION, "Taken."))
    assert incident_body(one, "opened", "op-1", "Taken.")["text"].count("Taken.") == 1


def test_a_released_target_is_back_in_service() -> None:
    one = case(state=IncidentState.PROBATION, quarantined=(GPU,))
    step = plan.new_step(one, ACTIONS.named("release"), 10.0, also=(GPU,))
    one = after(one, step, Kind.STEP_DONE, "gpu/node2/3 takes jobs again.")
    assert said(one, "closed") == (
        "gpu/node2/3 is back in service and healthy; the incident is closed."
    )


@pytest.mark.parametrize("reason", [Reason.READMITTED, Reason.HEALTHY_IN_SERVICE])
def test_a_healthy_end_is_named_by_its_reason(reason: Reason) -> None:
    assert "back in service" in said(case(state=IncidentState.PROBATION, reason=reason), "closed")


@pytest.mark.parametrize(
    "reason", [one for one in Reason if one not in (Reason.READMITTED, Reason.HEALTHY_IN_SERVICE)]
)
def test_any_other_end_is_not_called_healthy(reason: Reason) -> None:
    job = Target.parse("job/train-a")
    one = case(
        target=job, state=IncidentState.JOBS_MOVED, reason=reason, text="The cluster knows no job."
    )
    assert said(one, "closed") == ("job/train-a: the incident is closed. The cluster knows no job.")


@pytest.mark.parametrize("kept", [(), (GPU,)])
def test_what_a_person_ordered_or_what_is_still_out_is_not_called_healthy(
    kept: tuple[Target, ...],
) -> None:
    one = case(
        state=IncidentState.PROBATION, quarantined=(GPU,), released=None if kept else Order("a", "")
    )
    step = plan.new_step(one, ACTIONS.named("release"), 10.0, also=() if kept else (GPU,))
    one = after(one, step, Kind.STEP_DONE, "Released.")
    assert "healthy" not in said(one, "closed")


def test_the_end_of_a_scaling_names_the_size() -> None:
    serve = Target.parse("workload/serve")
    one = case(target=serve, state=IncidentState.REPAIRING, text="The next repair is tried.")
    step = plan.new_step(one, ACTIONS.named("scale"), 30.0, replicas=3)
    one = after(one, step, Kind.STEP_DONE, "serve has 3 of 3 replicas.")
    again = plan.new_step(one, ACTIONS.named("scale"), 30.0, replicas=4)
    one = after(one, again, Kind.STEP_FAILED, "No room for 4 replicas.")
    one = after(one, plan.notify(ACTIONS, one, "limit"), Kind.STEP_DONE, "People are notified.")
    assert said(one, "closed").endswith("the incident is closed. serve has 3 of 3 replicas.")


def test_a_failure_names_the_step_that_failed() -> None:
    one = case(state=IncidentState.TRIAGED, text="A case.")
    one = after(
        one, plan.quarantine(ACTIONS, one), Kind.STEP_FAILED, "The cluster refused: no such node."
    )
    one = after(
        one, plan.new_step(one, ACTIONS.named("verify"), 9.0), Kind.STEP_DONE, "The test passed."
    )
    assert said(one, "failed").endswith("GpuLost. The cluster refused: no such node.")


@pytest.mark.parametrize("occasion", ["failed", "limit"])
def test_an_end_names_the_reason_that_was_announced_with_the_message(occasion: str) -> None:
    one = case(state=IncidentState.TRIAGED, text="A case.")
    step = plan.notify(ACTIONS, one, occasion)
    why = "This cluster cannot quarantine a GPU."
    one = evolve(
        one, events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.UNSUPPORTED, why)
    )
    assert incident_body(one, occasion, step.op_id)["text"].endswith(f"GpuLost. {why}")
    assert why not in incident_body(one, occasion, "another")["text"]


def test_a_text_names_few_alerts_and_counts_the_rest() -> None:
    one = case(*(f"Alert{letter}" for letter in "GFEDCBA"))
    assert "AlertA, AlertB, AlertC, AlertD, AlertE and 2 more." in said(one, "opened")
    assert len(incident_body(one, "opened", "op-1")["alerts"]) == 7


def test_an_alert_name_cannot_change_the_text_around_it() -> None:
    assert "{target.name} {0}" in said(case("{target.name} {0}"), "opened")


def test_the_message_about_many_incidents_counts_all_and_names_few() -> None:
    targets = [Target(TargetKind.GPU, "node1", index) for index in range(25)]
    body = group_body("Every action is paused.", "pause", "op-2", 25, targets)
    assert body == {
        "text": "Every action is paused.", "occasion": "held", "op_id": "op-2", "group": "pause",
        "incidents": 25, "targets": [str(one) for one in targets[:MOST_TARGETS]],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", " "])
def test_no_sentence_has_a_gap_where_an_alert_has_no_name(name: str) -> None:
    labels = {"alertname": name, "node": "node1", "severity": "warning", "cluster": "local"}
    alert = Alert("f", NOW, "", True, labels)
    target = Target.parse("node1")
    episode = events.episode_of(alert, NOW)
    opened = Incident("inc-1", target, "a", Level.REPAIR, opened=NOW, text="Why.")
    joined = events.absorbed("inc-1", target, episode, NOW)
    one = evolve(opened, joined)
    body = incident_body(one, "opened", "op")
    for text in (
        route(alert, load_library(()), "local").text,
        route(alert, (), "local").text,
        events.alert_received(alert, target, NOW, "webhook").text,
        joined.text,
        body["text"],
        summary(one, None),
    ):
        assert "(alert without a name)" in text
        assert "  " not in text
        assert text == text.strip()
    assert body["alerts"] == [name], "the label as it was received"
