"""What Alertmanager lists for our receivers, with the state of each alert, and since when it runs."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from remediator.alertmanager import AlertmanagerClient, AlertmanagerResponse, ListedAlert, Silence
from remediator.core.model import Alert
from remediator.http import HttpError
from tests.unit.remediator.fake_http_server import FakeHttpServer

GROUPS, STATUS = "/api/v2/alerts/groups", "/api/v2/status"
UP = {"uptime": "2026-11-22T09:00:00Z", "cluster": {"status": "disabled"}, "versionInfo": {}}


def alert(fingerprint: str = "a1b2", **status: list[str]) -> dict[str, Any]:
    """An alert as Alertmanager 0.25 to 0.33 write it; 0.25 has no `mutedBy`."""
    state = {"state": "active", "silencedBy": [], "inhibitedBy": []} | status
    return {
        "labels": {"alertname": "GpuLost", "node": "node2", "gpu": "3"},
        "annotations": {"summary": "gone"},
        "startsAt": "2026-11-22T10:00:00.123Z",
        "endsAt": "2026-11-22T10:05:00.123Z",
        "updatedAt": "2026-11-22T10:00:01.000Z",
        "fingerprint": fingerprint,
        "receivers": [{"name": "remediator"}],
        "status": state,
        "newFieldOfTomorrow": 1,
    }


def groups(*alerts: object) -> list[dict[str, Any]]:
    return [{"labels": {}, "receiver": {"name": "remediator"}, "alerts": [one]} for one in alerts]


def told(
    server: FakeHttpServer, *, lists: object, status: object = UP, silences: object = ()
) -> None:
    said = {GROUPS: lists, STATUS: status, "/api/v2/silences": silences}
    server.body = {path: json.dumps(value).encode() for path, value in said.items()}


def answer(server: FakeHttpServer, *receivers: str) -> AlertmanagerResponse:
    async def ask() -> AlertmanagerResponse:
        async with AlertmanagerClient(server.url + "/", receivers or ("remediator",)) as client:
            return await client.query_alerts()

    return asyncio.run(ask())


def test_an_answer_holds_the_alerts_and_the_start_and_unknown_fields_are_ignored(
    server: FakeHttpServer,
) -> None:
    told(server, lists=groups(alert()))
    labels = {"alertname": "GpuLost", "node": "node2", "gpu": "3"}
    one = Alert("a1b2", 1795341600.123, "2026-11-22T10:00:00.123Z", True, labels)
    assert answer(server) == AlertmanagerResponse(
        {"a1b2": ListedAlert(one, 1795341601.0, 1795341900.123)}, 1795338000.0
    )


def test_withheld_alerts_are_asked_for_and_only_those_of_our_receivers(
    server: FakeHttpServer,
) -> None:
    told(server, lists=[])
    answer(server, "remediator", "fleet.medic")
    asked = parse_qs(urlsplit(server.asked[0][0]).query)
    assert {
        "active": ["true"],
        "silenced": ["true"],
        "inhibited": ["true"],
    }.items() <= asked.items()
    assert asked["receiver"] == [r"(remediator|fleet\.medic)"]


@pytest.mark.parametrize("field", ["silencedBy", "inhibitedBy", "mutedBy"])
def test_what_withholds_an_alert_is_kept(server: FakeHttpServer, field: str) -> None:
    told(server, lists=groups(alert(**{field: ["x", "y"]})))
    listed = answer(server).listed["a1b2"]
    assert not listed.active
    found = {"silencedBy": listed.silenced_by, "inhibitedBy": listed.inhibited_by}
    assert (found | {"mutedBy": listed.muted_by})[field] == ("x", "y")


def test_an_alert_that_one_of_two_routes_sends_to_us_is_active(server: FakeHttpServer) -> None:
    muted, free = alert(mutedBy=["night"]), alert()
    for both in ((muted, free), (free, muted)):
        told(server, lists=groups(*both))
        assert answer(server).listed["a1b2"].active


@pytest.mark.parametrize(
    "changes",
    [
        {"startsAt": None},
        {"labels": {"a": 1}},
        {"status": None},
        {"status": {"silencedBy": []}},
        {"fingerprint": 5},
    ],
)
def test_one_unreadable_alert_fails_the_whole_answer(
    server: FakeHttpServer, changes: dict[str, object]
) -> None:
    told(server, lists=groups(alert("good"), alert() | changes))
    with pytest.raises(HttpError, match=r"an unexpected body|expected a time"):
        answer(server)


@pytest.mark.parametrize("begun", ["0000-01-01T00:00:00.000Z", "2026-11-22T10:00:00"])
def test_an_alert_with_an_impossible_time_hides_no_other_alert(
    server: FakeHttpServer, begun: str
) -> None:
    told(server, lists=groups(alert("good"), alert("odd") | {"startsAt": begun}))
    listed = answer(server).listed
    assert listed["good"].active
    assert listed["odd"].alert.starts_at == 0
    assert listed["odd"].alert.starts_text == begun


@pytest.mark.parametrize("status", [{}, {"uptime": "soon"}, [], {"uptime": 5}])
def test_an_alertmanager_that_does_not_say_since_when_it_runs_fails_the_answer(
    server: FakeHttpServer, status: object
) -> None:
    told(server, lists=[], status=status)
    with pytest.raises(HttpError, match=r"an unexpected body|expected a time"):
        answer(server)


def test_alertmanager_in_trouble_is_not_an_empty_list(server: FakeHttpServer) -> None:
    server.answers([], 503)
    with pytest.raises(HttpError, match="alerts/groups returned status 503"):
        answer(server)


def test_silences_have_an_author_a_comment_and_an_end(server: FakeHttpServer) -> None:
    def silence(identity: str, state: str) -> dict[str, Any]:
        return {
            "id": identity, "createdBy": "alice", "comment": "new board", "matchers": [],
            "startsAt": "2026-11-22T10:00:00Z", "endsAt": "2026-11-22T12:00:00Z",
            "updatedAt": "2026-11-22T10:00:00Z", "status": {"state": state},
        }  # fmt: skip

    told(server, lists=[], silences=[silence("s1", "active"), silence("s2", "expired")])

    async def ask() -> dict[str, Silence]:
        async with AlertmanagerClient(server.url, ("remediator",)) as client:
            return await client.query_silences()

    assert asyncio.run(ask()) == {
        "s1": Silence("alice", "new board", 1795348800.0),
        "s2": Silence("alice", "new board", 1795348800.0, active=False),
    }
