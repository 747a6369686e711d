from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core import plan
from remediator.core.decide import decide
from remediator.core.decision import Act, Case, Hold, Move, Rehearse, Wait
from remediator.core.ending import beyond_level, give_up, notify_long_hold, notify_once
from remediator.core.facts import Facts, PoolFacts, Stops
from remediator.core.guards import Limits
from remediator.core.model import ENDED, IncidentState, Level, Order
from remediator.core.reasons import Reason
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.core.examples import GPU, NODE, NOW

ORDER = Order("alice", "tested by hand")
OPEN = sorted(set(IncidentState) - ENDED)


# An unreachable cluster releases nothing.


@pytest.mark.parametrize("state", OPEN)
@pytest.mark.parametrize("owner", [None, "bob"])
def test_an_unreachable_cluster_is_never_taken_for_a_release(incident, case, state, owner) -> None:
    one = incident(state, quarantined=(GPU,))
    decision = decide(case(one, known=False, quarantine_owner=owner))
    assert not (isinstance(decision, Move) and decision.state is IncidentState.OVERRIDDEN)


@given(
    state=st.sampled_from(OPEN), owner=st.sampled_from([None, "bob"]), firing=st.booleans(),
    kept=st.sampled_from([(), (NODE,)]), ordered=st.booleans(), level=st.sampled_from(Level),
)  # fmt: skip
def test_without_facts_no_quarantined_incident_ends(
    incident, case, state, owner, firing, kept, ordered, level
) -> None:
    one = incident(state, quarantined=(GPU,), released=ORDER if ordered else None)
    decision = decide(
        case(one, known=False, quarantine_owner=owner, firing=firing, kept=kept, level=level)
    )
    assert not (isinstance(decision, Move) and decision.state in ENDED)


@pytest.mark.parametrize(
    "state", [IncidentState.QUARANTINED, IncidentState.REPAIRING, IncidentState.ESCALATED]
)
def test_what_was_released_in_the_cluster_ends_the_incident_and_people_are_told_if_it_may_be_sick(
    incident, case, after, state
) -> None:
    one = incident(state, quarantined=(GPU,))
    tell = decide(case(one, quarantine_owner=None)).step
    assert tell.id == "notify:overridden"
    told = after(one, tell)
    decision = decide(case(told, quarantine_owner=None))
    assert (decision.state, decision.reason) == (
        IncidentState.OVERRIDDEN,
        Reason.RELEASED_BY_OTHERS,
    )
    taken = decide(case(told, quarantine_owner="bob"))
    assert taken.text == "The quarantine of the target now belongs to bob."
    calm = decide(case(one, quarantine_owner=None, alerts_active=False))
    assert isinstance(calm, Act) is (state is IncidentState.ESCALATED)


def test_what_was_never_quarantined_by_us_was_not_released(incident, case) -> None:
    decision = decide(case(incident(IncidentState.TRIAGED), quarantine_owner=None))
    assert isinstance(decision, Act)


# A person's order to release.


def test_an_ordered_release_frees_all_that_was_quarantined_then_ends(incident, case, after) -> None:
    one = incident(IncidentState.REPAIRING, quarantined=(GPU, NODE), released=ORDER)
    act = decide(case(one, kept=(NODE,), paused=True, firing=True))
    assert (act.step.id, act.step.also) == (plan.ORDERED, (GPU, NODE))
    assert act.text == "alice: tested by hand"
    freed = after(one, act.step)
    ended = decide(case(freed, quarantine_owner=None))
    assert (ended.state, ended.reason, ended.text) == (
        IncidentState.OVERRIDDEN, Reason.RELEASED_BY_PERSON, "alice: tested by hand",
    )  # fmt: skip


def test_an_order_about_what_is_released_already_ends_the_incident(incident, case) -> None:
    one = incident(IncidentState.QUARANTINED, released=ORDER)
    gone = decide(case(one, quarantine_owner=None))
    assert (gone.state, gone.reason) == (IncidentState.OVERRIDDEN, Reason.RELEASED_BY_PERSON)
    assert isinstance(decide(case(one, quarantine_owner=None, kept=(NODE,))), Act)
    held = replace(one, state=IncidentState.HELD, quarantined=())
    assert decide(case(held, quarantine_owner=None)).state is IncidentState.OVERRIDDEN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"known": False}, Reason.FACTS_UNKNOWN),
        ({"stops": Stops(other_installation="b acts")}, Reason.OTHER_INSTALLATION),
    ],
)
def test_an_order_waits_for_the_cluster_and_for_another_remediator(
    incident, case, changes, reason
) -> None:
    decision = decide(case(incident(IncidentState.QUARANTINED, released=ORDER), **changes))
    assert isinstance(decision, Hold)
    assert decision.reason is reason


def test_an_order_that_fails_twice_is_a_persons_again(incident, case, after) -> None:
    one = incident(IncidentState.QUARANTINED, released=ORDER)
    for _ in range(2):
        step = decide(case(one)).step
        assert step.id == plan.ORDERED
        one = after(one, step, done=False, text="the API server refuses")
    decision = decide(case(one))
    assert (decision.state, decision.reason) == (IncidentState.ESCALATED, Reason.RELEASE_FAILED)
    assert decision.text == "the API server refuses"
    assert decide(case(replace(one, state=IncidentState.ESCALATED))) == Wait()


# ESCALATED.


def _told(incident, after, **changes):
    one = incident(IncidentState.ESCALATED, **({"quarantined": (GPU, NODE)} | changes))
    return after(one, plan.notify(ACTIONS, one, "escalated"))


def test_an_escalated_gpu_does_not_keep_its_node_out(incident, case, after) -> None:
    one = _told(incident, after)
    act = decide(case(one, kept=(NODE,)))
    assert (act.step.id, act.step.target, act.step.also) == ("release:node", NODE, (NODE,))
    freed = after(one, act.step)
    assert freed.quarantined == (GPU,)
    assert decide(case(freed)) == Wait()


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"reason": Reason.EFFECT_UNKNOWN}, {"kept": (NODE,)}),
        ({}, {"kept": (NODE,), "exporter_down": True}),
        ({}, {"kept": ()}),
        ({"target": NODE}, {"kept": (NODE,)}),
        ({"target": NODE}, {"kept": (GPU,)}),
    ],
)
def test_a_node_whose_state_nobody_knows_stays_out(incident, case, after, changes, seen) -> None:
    assert decide(case(_told(incident, after, **changes), **seen)) == Wait()


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"paused": True}, Reason.PAUSED),
        ({"known": False}, Reason.FACTS_UNKNOWN),
        ({"stops": Stops(other_installation="b")}, Reason.OTHER_INSTALLATION),
    ],
)
def test_what_stops_the_remediator_stops_that_release_too(
    incident, case, after, seen, reason
) -> None:
    decision = decide(case(_told(incident, after), kept=(NODE,), **seen))
    assert decision.reason is reason


def test_a_node_that_cannot_be_released_is_tried_twice(incident, case, after) -> None:
    one = _told(incident, after)
    for _ in range(2):
        one = after(one, decide(case(one, kept=(NODE,))).step, done=False)
    assert decide(case(one, kept=(NODE,))) == Wait()


# Giving up, levels, messages.


def test_what_is_quarantined_is_escalated_and_the_rest_fails_after_a_message(
    incident, case, after
) -> None:
    out = give_up(case(incident(IncidentState.REPAIRING)), Reason.UNSUPPORTED, "x")
    assert (out.state, out.reason, out.text) == (IncidentState.ESCALATED, Reason.UNSUPPORTED, "x")
    one = incident(IncidentState.TRIAGED)
    told_first = give_up(case(one), Reason.UNSUPPORTED, "x")
    assert (told_first.step.id, told_first.text) == ("notify:failed", "x")
    failed = give_up(case(after(one, told_first.step)), Reason.UNSUPPORTED, "x")
    assert (failed.state, failed.reason) == (IncidentState.FAILED, Reason.UNSUPPORTED)
    unsaid = give_up(case(one), Reason.UNSUPPORTED)
    assert unsaid.text == "This cluster does not support this step."


def test_a_playbook_that_notifies_nobody_notifies_nobody(incident, case, playbook) -> None:
    silent = replace(playbook, notify=False)
    one = incident(IncidentState.TRIAGED)
    assert notify_once(case(one, playbook=silent), "opened") is None
    assert give_up(case(one, playbook=silent), Reason.UNSUPPORTED).state is IncidentState.FAILED


def test_people_are_notified_once_an_occasion_also_if_it_failed(incident, case, after) -> None:
    one = incident(IncidentState.TRIAGED)
    first = notify_once(case(one), "opened")
    assert first is not None
    assert notify_once(case(after(one, first.step, done=False)), "opened") is None
    assert notify_once(case(after(one, first.step)), "closed") is not None


def test_beyond_the_level_it_is_written_told_and_then_waited_for_a_person(
    incident, case, after
) -> None:
    one = incident(IncidentState.JOBS_MOVED)
    assert beyond_level(case(one), ("reset_gpu",)) == Rehearse(("reset_gpu",), Reason.LEVEL)
    one = replace(one, rehearsed=True)
    telling = beyond_level(case(one), ("reset_gpu",))
    assert telling.step.id == "notify:level"
    one = after(one, telling.step)
    assert beyond_level(case(one), ("reset_gpu",)) == Wait()
    assert beyond_level(case(one, firing=False), ("x",)) == Move(
        IncidentState.VERIFYING, Reason.ALERT_GONE
    )


# What is held for long.


HELD = Hold(Reason.BUDGET_OUT, "3 of 32 GPUs are out")


def _held(incident, **changes):
    long_ago = {"held": Reason.BUDGET_OUT, "held_text": "old", "held_since": NOW - 120}
    return incident(IncidentState.HELD, **(long_ago | changes))


def test_a_person_is_notified_of_what_is_held_for_two_minutes_once_a_reason(
    incident, case, after
) -> None:
    one = _held(incident)
    act = notify_long_hold(case(one), HELD)
    assert (act.step.id, act.text) == ("notify:held-budget_out", "3 of 32 GPUs are out")
    assert notify_long_hold(case(after(one, act.step)), HELD) is HELD
    another = replace(HELD, reason=Reason.COOLDOWN)
    again = replace(after(one, act.step), held=Reason.COOLDOWN)
    assert notify_long_hold(case(again), another).step.id == "notify:held-cooldown"


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({"held_since": NOW - 119.9}, HELD),
        ({"held_since": None}, HELD),
        ({"held": Reason.PAUSED}, HELD),
        ({"level": Level.OBSERVE}, HELD),
        ({}, replace(HELD, group="pause/1")),
        ({}, Wait()),
    ],
)
def test_of_other_holds_nobody_is_notified_here(incident, case, changes, decision) -> None:
    assert notify_long_hold(case(_held(incident, **changes)), decision) is decision


@pytest.mark.parametrize(
    "state", [IncidentState.HELD, IncidentState.JOBS_MOVED, IncidentState.REPAIRING]
)
def test_it_is_said_whatever_the_state(incident, playbook, facts: Facts, after, state) -> None:
    one = incident(state, held=Reason.COOLDOWN, held_text="x", held_since=NOW - 200)
    one = after(one, plan.notify(ACTIONS, one, "opened"))
    attempts = (("reset_gpu", GPU, NOW - 1),)
    pinned = replace(facts, attempts=attempts, quarantine_owner="fleetmedic")
    if state is IncidentState.HELD:
        one = replace(one, held=Reason.BUDGET_OUT)
        pinned = replace(facts, pool=PoolFacts(gpus=32, gpus_out=3), quarantine_owner=None)
    decision = decide(Case(one, playbook, pinned, Limits(), NOW, ACTIONS))
    assert isinstance(decision, Act)
    assert decision.step.id.startswith("notify:held-")


# Hands.


def test_escalated_tells_once_and_waits_until_a_person_releases(incident, case, after) -> None:
    one = incident(IncidentState.ESCALATED)
    tell = decide(case(one)).step
    assert tell.id == "notify:escalated"
    one = after(one, tell)
    assert Wait() == decide(case(one))
    assert decide(case(one, quarantine_owner=None)).step.id == "notify:overridden"


def test_a_hand_that_releases_a_part_leaves_the_rest_to_a_person_and_not_to_nobody(
    incident, case, after
) -> None:
    both = {"quarantine_owner": None, "kept": (NODE,)}
    one = incident(IncidentState.PROBATION, quarantined=(GPU, NODE))
    decision = decide(case(one, **both))
    assert (decision.state, decision.reason) == (IncidentState.ESCALATED, Reason.RELEASED_BY_OTHERS)
    one = incident(IncidentState.ESCALATED, quarantined=(GPU, NODE))
    told = after(one, decide(case(one, **both)).step)
    # The node was out for the sake of the GPU alone: it goes back as well, and the incident ends.
    freed = decide(case(told, **both))
    assert (freed.step.id, freed.step.also) == ("release:node", (NODE,))
    assert decide(case(told, quarantine_owner=None)).step.id == "notify:overridden"
