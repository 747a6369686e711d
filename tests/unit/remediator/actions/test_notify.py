"""A notification is over at once, and its message becomes durable together with the step's end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

from fleetmedic.kernel.labels import Target
from remediator.actions.base import Tools
from remediator.actions.notify import Notify
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.journal_state import JournalState
from remediator.core.lifecycle import evolve
from remediator.core.model import Incident, Level
from remediator.core.reasons import Reason, sentence
from remediator.executor import StepOutcome, outcome_events
from tests.unit.remediator.catalogue import ACTIONS

NOW = 1_700_000_000.0
GPU = Target.parse("node1/3")
DONE = StepOutcome(Kind.STEP_DONE, Reason.EFFECT_SEEN, "People are notified.")


class _Tools:
    """All that the action may use: no cluster, no network."""

    def __init__(
        self, incident: Incident, refusal: str | None = None, addresses: int | None = 1
    ) -> None:
        self.addresses = addresses
        self.incident = incident
        self.senses = SimpleNamespace(refusal=lambda: refusal)


def incident() -> Incident:
    one = Incident("inc-1", GPU, "gpu-lost", Level.REPAIR, opened=NOW, text="A case.")
    return evolve(one, events.noted(Kind.HELD, one, NOW, Reason.STORM, "A storm in pool rack."))


def test_the_step_is_over_without_anything_to_wait_for() -> None:
    one = incident()
    step = plan.notify(ACTIONS, one, "opened")
    look = asyncio.run(Notify().observe(step, cast(Tools, _Tools(one))))
    assert (look.over, look.ok) == (True, True)
    assert look.text == "Notification queued: gpu/node1/3 needs attention: A storm in pool rack."


def test_without_an_address_the_step_does_not_say_that_the_message_is_sent() -> None:
    one = incident()
    step = plan.notify(ACTIONS, one, "opened")
    look = asyncio.run(Notify().observe(step, cast(Tools, _Tools(one, addresses=0))))
    assert look.text == (
        "Notification recorded, not sent (notify.webhooks is empty): gpu/node1/3 needs attention: "
        "A storm in pool rack."
    )
    assert "queued" not in sentence(Reason.NOTIFIED)


def test_a_message_says_that_another_remediator_acts() -> None:
    one = incident()
    step = plan.notify(ACTIONS, one, "opened")
    look = asyncio.run(Notify().observe(step, cast(Tools, _Tools(one, "Another one acts."))))
    _, told = outcome_events(one, step, DONE, NOW, "Another one acts.")
    assert look.text == f"Notification queued: {told.text}"
    assert told.text.endswith("A storm in pool rack. Another one acts.")


def test_the_message_is_one_append_with_the_steps_end_and_goes_into_the_outbox() -> None:
    one = incident()
    step = plan.notify(ACTIONS, one, "held-storm")
    ended, told = outcome_events(one, step, DONE, NOW)
    assert (ended.kind, ended.data["op_id"]) == (Kind.STEP_DONE, step.op_id)
    assert (told.kind, told.incident, told.target) == (Kind.NOTIFIED, "inc-1", "gpu/node1/3")
    assert told.data["occasion"] == "held-storm"
    assert told.text == told.data["body"]["text"]
    journal_state = JournalState()
    journal_state.apply(told)
    message = journal_state.outbox[step.op_id]
    assert message.body["reason"] == "storm"
    assert message.settled == frozenset()


def test_a_step_that_failed_sends_no_message() -> None:
    one = incident()
    failed = replace(DONE, kind=Kind.STEP_FAILED)
    assert len(outcome_events(one, plan.notify(ACTIONS, one, "opened"), failed, NOW)) == 1


def test_a_passed_test_is_noted_and_other_steps_only_end() -> None:
    one = incident()
    test, verified = outcome_events(
        one, plan.new_step(one, ACTIONS.named("verify"), 9.0), DONE, NOW
    )
    assert (test.kind, verified.kind) == (Kind.STEP_DONE, Kind.VERIFIED)
    assert verified.data == {"passed": True}
    assert len(outcome_events(one, plan.quarantine(ACTIONS, one), DONE, NOW)) == 1
