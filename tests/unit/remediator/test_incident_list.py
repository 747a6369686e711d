"""A list of incidents shows the latest ones, and counts what it leaves out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.core.events import moved, opened
from remediator.core.journal_state import JournalState
from remediator.core.model import Incident, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.incident_list import select


def known(*ended: bool, target: str = "node1/0") -> list[Incident]:
    """Incidents inc-0, inc-1, ...; the incident number n was opened, and perhaps ended, at second n."""
    state = JournalState()
    for n, over in enumerate(ended):
        at = float(n)
        state.apply(opened(f"inc-{n}", Target.parse(target), "a", Level.REPAIR, at, 0, "Begun."))
        one = state.incidents[f"inc-{n}"]
        if over:
            state.apply(moved(one, IncidentState.SUPPRESSED, at, Reason.SILENCED))
    return list(state.incidents.values())


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 10))
def test_the_pages_together_show_each_incident_and_the_first_shows_each_open_one(
    ended: list[bool], limit: int
) -> None:
    incidents = known(*ended)
    page = select(incidents, limit)
    assert {one.id for one in incidents if not one.ended} <= {one.id for one in page.shown}
    assert len(page.shown) + page.left_out == page.total == len(incidents)
    seen = {one.id for one in page.shown}
    while page.before is not None:
        page = select(incidents, limit, before=page.before)
        assert len(page.shown) <= limit
        seen |= {one.id for one in page.shown}
    assert page.left_out == 0
    assert seen == {one.id for one in incidents}


def test_a_target_is_found_however_many_incidents_are_newer() -> None:
    incidents = [*known(True), *known(*[True] * 5, target="node2")[1:]]
    found = select(incidents, 1, target=Target.parse("node1/0"))
    assert [one.id for one in found.shown] == ["inc-0"]
    assert (found.left_out, found.before, found.total) == (0, None, 5)


def test_a_node_has_the_incidents_of_its_gpus_too() -> None:
    assert len(select(known(True), 9, node="node1").shown) == 1
    assert len(select(known(True, target="node1"), 9, node="node1").shown) == 1
    assert select(known(True, target="job/node1"), 9, node="node1").shown == ()
    assert select(known(True), 9, node="node2").shown == ()


def test_since_keeps_what_is_open_and_what_ended_later() -> None:
    shown = select(known(False, True, True), 9, since=1.5).shown
    assert [one.id for one in shown] == ["inc-0", "inc-2"]


def test_an_unknown_id_is_no_empty_list() -> None:
    with pytest.raises(UserError, match="before='inc-9': expected the id of an incident"):
        select(known(True), 5, before="inc-9")
