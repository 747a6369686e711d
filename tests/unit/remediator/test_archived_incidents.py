"""Incidents that are no longer in memory are shown as before, from the journal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from remediator import pages
from remediator.core.journal_state import JournalState, Retention
from remediator.journal import Journal
from remediator.journal_reader import JournalReader
from remediator.query_endpoints import QueryEndpoints
from tests.unit.remediator.histories import MOVE_LISTS, TARGETS, History, Move

EVERYTHING = Retention(1e12, 1e12, 1e12, 10**9, 10**9)
LONG: list[Move] = [
    (name, 2 * number, 900.0)
    for number in range(40)
    for name in ("fire", "open", "advance", "step", "step", "hold", "end", "end_alert")
]


def _write(folder: Path, history: History) -> JournalState:
    """Write a history. Returns the state that forgets nothing."""

    async def write() -> None:
        journal = Journal(folder, lambda event: None)
        await journal.append([replace(event, seq=0) for event in history.events])
        journal.close()

    asyncio.run(write())
    everything = JournalState(EVERYTHING)
    for event in history.events:
        everything.apply(event)
    return everything


def _client(state: JournalState, folder: Path) -> TestClient:
    asked = QueryEndpoints(state, JournalReader(folder))
    routes = [
        Route("/why", asked.why),
        Route("/incidents", asked.incidents),
        Route("/incidents/{identity}", asked.incident),
    ]
    return TestClient(Starlette(routes=routes))


def _answers(state: JournalState, folder: Path, identities: list[str]) -> dict[str, Any]:
    client = _client(state, folder)
    paths = [f"/why?target={target}" for target in TARGETS]
    paths += [f"/incidents/{identity}" for identity in identities]
    paths += ["/incidents", "/incidents?limit=10000"]
    return {path: client.get(path).json() for path in paths}


@given(MOVE_LISTS)
def test_the_api_answers_as_if_everything_were_in_memory(
    tmp_path_factory, moves: list[Move]
) -> None:
    folder = tmp_path_factory.mktemp("data")
    history = History().play(moves)
    everything = _write(folder, history)
    known = list(everything.incidents)
    assert _answers(history.state, folder, known) == _answers(everything, folder, known)


def test_many_incidents_have_left_the_memory_and_none_has_left_the_answers(tmp_path: Path) -> None:
    history = History().play(LONG)
    everything = _write(tmp_path, history)
    gone = [one for one in everything.incidents if one not in history.state.incidents]
    assert len(gone) > 20
    known = list(everything.incidents)
    assert _answers(history.state, tmp_path, known) == _answers(everything, tmp_path, known)
    reader = JournalReader(tmp_path)
    assert {one: reader.incident(one) for one in known} == everything.incidents
    assert reader.latest(3) == known[-3:]
    assert reader.incident("inc-none") is None


def test_the_page_of_an_archived_incident_shows_that_its_alerts_are_over(tmp_path: Path) -> None:
    history = History().play(LONG)
    everything = _write(tmp_path, history)
    identity = next(one for one in everything.incidents if one not in history.state.incidents)
    found = JournalReader(tmp_path).incident(identity)
    assert found is not None
    story = JournalReader(tmp_path).find(incident=identity)
    page = pages.incident(found, story, history.state, None)
    assert page == pages.incident(found, story, everything, None)
    assert "resolved" in page


@pytest.mark.parametrize("order", ["close", "retry"])
def test_an_order_about_an_archived_incident_says_that_it_has_ended(served, order: str) -> None:
    with served(level="repair") as client:
        parts = client.app.state.parts
        history = History().play([("fire", 0, 1.0), ("open", 0, 1.0), ("end", 1, 1.0)])
        client.portal.call(
            parts.journal.append, [replace(event, seq=0) for event in history.events]
        )
        (identity,) = history.state.incidents
        parts.journal_state.incidents.clear()
        parts.journal_state.ended.clear()
        answer = client.post(
            f"/api/v1/incidents/{identity}/{order}",
            json={"by": "alice", "reason": "tested"},
            headers={"Authorization": "Bearer 0123456789abcdef0123"},
        )
        assert (answer.status_code, answer.text) == (
            409,
            f"{identity} has already ended (OVERRIDDEN).\n",
        )
        assert client.get(f"/incidents/{identity}").status_code == 200
        assert client.get("/incidents/inc-none").status_code == 404
