"""One paragraph tells what happened, to whom, what was done, what is waited for and what comes next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target
from remediator.core.facts import EVERYTHING
from remediator.core.model import (
    Episode,
    Incident,
    IncidentState,
    Level,
    Order,
    Step,
    StepRun,
    StepState,
)
from remediator.core.reasons import Reason
from remediator.playbook_library import load_library
from remediator.summary import listed, summary
from tests.unit.remediator.catalogue import ACTIONS

GPU = Target.parse("node1/3")
NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
BOOK = next(one for one in load_library(()) if one.name == "gpu-lost")


def incident(
    state: IncidentState = IncidentState.TRIAGED, *steps: StepRun, **changes: object
) -> Incident:
    alert = Episode("a/b/1", "b", NOW, "x", "GpuLost", "3", "GPU-d")
    one = Incident(
        "inc-1", GPU, "gpu-lost", Level.REPAIR, NOW, state, text="Why.", since=NOW, alerts=(alert,)
    )
    return replace(one, steps=steps, **changes)  # type: ignore[arg-type]


def ran(
    action: str,
    state: StepState = StepState.DONE,
    *,
    jobs: tuple[str, ...] = (),
    passed: bool | None = None,
) -> StepRun:
    step = Step(action, action, ACTIONS.named(action).effect, GPU, 1, "op", 1.0, jobs)
    return StepRun(step, state, NOW + 60, NOW + 120, passed=passed)


def test_a_new_incident_tells_what_and_since_when_and_what_comes_next() -> None:
    text = summary(incident(), BOOK)
    assert text.startswith(
        "GpuLost on gpu/node1/3 since 2023-11-14 22:13 UTC. No action was taken."
    )
    assert text.endswith(f"Next: {ACTIONS.named('quarantine_gpu').would}.")


def test_what_was_done_is_told_with_its_job_and_how_it_ended() -> None:
    text = summary(
        incident(
            IncidentState.VERIFYING, ran("quarantine_gpu", jobs=("train-a",)), ran("notify"),
            ran("restart_jobs", jobs=("train-a",)), ran("reset_gpu", StepState.FAILED),
            ran("verify", StepState.FAILED, passed=False), ran("reboot_node", StepState.PREPARED),
        ),
        BOOK,
    )  # fmt: skip
    assert "Affected job: train-a." in text
    assert (
        "The remediator quarantined gpu/node1/3 (22:15:20 UTC); restarted train-a elsewhere (22:15:20 UTC); "
        in text
    )
    assert (
        "reset gpu/node1/3 (failed at 22:15:20 UTC); tested gpu/node1/3 (failed at 22:15:20 UTC);"
        in text
    )
    assert "rebooted gpu/node1/3 (running since 22:15:20 UTC)." in text


def test_a_hold_is_told_with_its_reason_and_its_time() -> None:
    held = incident(
        IncidentState.QUARANTINED, held=Reason.STORM, held_text="A storm.", held_since=NOW + 60
    )
    assert "On hold since 2023-11-14 22:14 UTC: A storm." in summary(held, BOOK)


@pytest.mark.parametrize(
    ("one", "ending"),
    [
        (incident(IncidentState.ESCALATED), "`fleetmedic retry inc-1` starts the playbook again."),
        (incident(IncidentState.PROBATION, until=NOW + 3600), "not before 2023-11-14 23:13 UTC."),
        (incident(level=Level.OBSERVE), "Level observe: the remediator takes no action."),
        (incident(IncidentState.CLOSED), "CLOSED since 2023-11-14 22:13 UTC: Why."),
    ],
)
def test_the_end_of_the_paragraph_tells_what_comes_next(one: Incident, ending: str) -> None:
    assert summary(one, BOOK).endswith(ending)
    assert summary(one, None), "its playbook may be gone"


def test_without_the_lock_no_next_step_is_promised() -> None:
    taken = "Another remediator acts; this one takes no action."
    for state in (IncidentState.TRIAGED, IncidentState.ESCALATED, IncidentState.PROBATION):
        text = summary(incident(state, until=NOW + 3600), BOOK, taken)
        assert text.endswith(f"Why. {taken}")
    held = incident(held=Reason.OTHER_INSTALLATION, held_text=taken, held_since=NOW)
    assert summary(held, BOOK, taken).count(taken) == 1
    assert taken not in summary(incident(IncidentState.CLOSED), BOOK, taken)


def test_what_the_level_does_not_allow_does_not_come_next() -> None:
    one = incident(IncidentState.QUARANTINED, ran("quarantine_gpu"), level=Level.QUARANTINE)
    assert "Next:" not in summary(one, BOOK)


def test_what_is_left_out_of_the_plan_is_told_with_its_reason_while_the_incident_is_open() -> None:
    able = EVERYTHING - {"gpu_reset"}
    left_out = (
        "Left out of the plan: reset the GPU (This cluster lacks a required capability: gpu reset)."
    )
    assert left_out in summary(incident(), BOOK, None, able)
    assert left_out in summary(incident(), BOOK, "Another remediator acts.", able)
    said = incident(text=f"Why. {left_out}")
    assert summary(said, BOOK, None, able).count(left_out) == 1
    for ended in (incident(IncidentState.CLOSED), incident(level=Level.OBSERVE)):
        assert "Left out" not in summary(ended, BOOK, None, able)
    assert "Left out" not in summary(incident(), BOOK)


def test_a_request_for_an_approval_is_told_with_its_commands_and_its_answer() -> None:
    one = incident(IncidentState.AWAIT_APPROVAL, requests=2, until=NOW + 1800)
    text = summary(one, BOOK)
    assert text.endswith(
        "To approve: `fleetmedic approve inc-1 --request 2 --reason WHY`. "
        "To reject: `fleetmedic reject inc-1 --request 2 --reason WHY`."
    )
    given = replace(one, approved=Order("alice", "ran a burn-in."))
    assert "alice approved the return to service: ran a burn-in." in summary(given, BOOK)
    assert "To approve" not in summary(given, BOOK)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "none"), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"),
        (list("abcdefg"), "a, b, c, d, e and 2 more"),
    ],
)  # fmt: skip
def test_names_are_listed_as_in_a_sentence(names: list[str], text: str) -> None:
    assert listed(names) == text
