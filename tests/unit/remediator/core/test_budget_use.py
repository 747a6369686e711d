"""The budget for new quarantines counts what was taken, or may have been taken."""

from __future__ import annotations

import pytest

from fleetmedic.kernel.labels import Target
from remediator.core import events, plan
from remediator.core.events import Kind
from remediator.core.journal_state import JournalState
from remediator.core.model import Level
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS

GPU = Target.parse("node2/3")


def quarantined(*endings: tuple[Kind, Reason]) -> JournalState:
    """The state after quarantines that ended in these ways, one after the other."""
    state = JournalState()
    state.apply(events.opened("inc-1", GPU, "gpu-lost", Level.REPAIR, 1.0, 0, "Begun."))
    for at, (kind, reason) in enumerate(endings, 2):
        one = state.incidents["inc-1"]
        step = plan.quarantine(ACTIONS, one)
        prepared = Kind.STEP_PREPARED
        state.apply(events.step_event(prepared, one, step, at, Reason.QUARANTINED))
        state.apply(events.step_event(kind, state.incidents["inc-1"], step, at + 0.5, reason))
    return state


@pytest.mark.parametrize(
    ("kind", "reason", "counted"),
    [
        (Kind.STEP_DONE, Reason.EFFECT_SEEN, 1),
        (Kind.STEP_FAILED, Reason.EFFECT_MISSING, 1),  # it may come late
        (Kind.STEP_FAILED, Reason.STEP_REFUSED, 0),
        (Kind.STEP_WITHDRAWN, Reason.PAUSED, 0),
    ],
)
def test_a_quarantine_counts_if_it_was_taken_or_may_be(kind, reason, counted) -> None:
    assert len(quarantined((kind, reason)).quarantines) == counted


def test_a_refused_quarantine_is_an_attempt_and_the_next_one_counts() -> None:
    refused = (Kind.STEP_FAILED, Reason.STEP_REFUSED)
    state = quarantined(refused, (Kind.STEP_DONE, Reason.EFFECT_SEEN))
    assert [one.at for one in state.quarantines] == [3]
    assert [one.at for one in state.attempts[GPU]] == [2, 3]
