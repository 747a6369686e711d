"""Orders by HTTP to a real engine: who and why are required, and each refusal has its own status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from fleetmedic.kernel.labels import Target
from remediator.clusters.memory import MemoryCluster
from remediator.core import events
from remediator.core.model import OWNER, IncidentState, Level, Step
from remediator.core.reasons import Reason
from remediator.order_endpoints import (
    ApprovalRequest,
    CloseRequest,
    IncidentOrderRequest,
    OrderRequest,
    ReleaseRequest,
)
from tests.unit.remediator.catalogue import ACTIONS

HEAD = {"Authorization": "Bearer 0123456789abcdef0123"}
GPU = Target.parse("node1/3")
RELEASE, CLOSE, RETRY, APPROVE, REJECT = (
    "/api/v1/targets/release", "/api/v1/incidents/inc-1/close", "/api/v1/incidents/inc-1/retry",
    "/api/v1/incidents/inc-1/approve", "/api/v1/incidents/inc-1/reject",
)  # fmt: skip
WHO = {"by": "alice", "reason": "tested by hand"}
ESCALATED = (
    (IncidentState.TRIAGED, Reason.ROUTED), (IncidentState.QUARANTINED, Reason.QUARANTINED),
    (IncidentState.ESCALATED, Reason.LADDER_EXHAUSTED),
)  # fmt: skip


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def kept(cluster: MemoryCluster) -> MemoryCluster:
    """The cluster with our quarantine of the GPU. Named before `client`, it is there from the start."""
    asyncio.run(cluster.quarantine(GPU, op_id="op", owner=OWNER, reason="x"))
    return cluster


@pytest.fixture
def client(served, cluster) -> Iterator[TestClient]:
    with served(cluster, "repair") as found:
        yield found


def write(client: TestClient, *written: events.Event) -> None:
    client.portal.call(client.app.state.parts.journal.append, written)  # type: ignore[attr-defined]


def escalated(client: TestClient) -> None:
    """An incident that holds a quarantine, and has come to its end."""
    journal_state = client.app.state.parts.journal_state  # type: ignore[attr-defined]
    write(client, events.opened("inc-1", GPU, "gpu-lost", Level.REPAIR, 1.0, 0, "Begun."))
    step = Step(
        "quarantine", "quarantine_gpu", ACTIONS.named("quarantine_gpu").effect, GPU, 1, "op-1", 10.0
    )
    for kind in (events.Kind.STEP_PREPARED, events.Kind.STEP_DONE):
        one = journal_state.incidents["inc-1"]
        write(client, events.step_event(kind, one, step, 2.0, Reason.STEP_ALLOWED))
    for state, reason in ESCALATED:
        write(client, events.moved(journal_state.incidents["inc-1"], state, 3.0, reason))


def awaiting(client: TestClient, until: float) -> None:
    """An incident that waits for the approval of its second request."""
    journal_state = client.app.state.parts.journal_state  # type: ignore[attr-defined]
    escalated(client)
    verifying, probation = IncidentState.VERIFYING, IncidentState.PROBATION
    asks = IncidentState.AWAIT_APPROVAL
    for state in (verifying, probation, asks, verifying, probation, asks):
        one = journal_state.incidents["inc-1"]
        reason = Reason.AWAIT_APPROVAL
        write(client, events.moved(one, state, 4.0, reason, "By metrics only.", until=until))


def incident(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/incidents/inc-1").json()["incident"]
    return found


def written(client: TestClient) -> int:
    return len(client.get("/api/v1/decisions").json()["decisions"])


def test_a_stray_quarantine_of_ours_is_released_with_who_and_why(client, cluster) -> None:
    asyncio.run(cluster.quarantine(GPU, op_id="op", owner=OWNER, reason="x"))
    answer = client.post(RELEASE, json=WHO | {"target": "node1/gpu3"}, headers=HEAD)
    assert answer.status_code == 200
    assert answer.json()["text"].startswith("gpu/node1/3 is back in service")
    assert asyncio.run(cluster.quarantined(GPU)) is None
    (why,) = client.get("/api/v1/why", params={"target": "node1/3"}).json()["decisions"]
    assert (why["event"], why["reason"]) == ("Ordered", "released_by_person")
    assert why["data"]["by"] == "alice"
    assert why["data"]["why"] == "tested by hand"


@pytest.mark.parametrize("owner", ["slurm-admin", None])
def test_what_we_did_not_quarantine_is_not_released(client, cluster, owner) -> None:
    if owner:
        asyncio.run(cluster.quarantine(GPU, op_id="op", owner=owner, reason="RMA"))
    before = written(client)
    answer = client.post(RELEASE, json=WHO | {"target": "node1/3"}, headers=HEAD)
    assert (answer.status_code, answer.text.count("\n")) == (409, 1)
    assert (owner or "is not quarantined") in answer.text
    held = asyncio.run(cluster.quarantined(GPU))
    assert (held.owner if held else None) == owner
    assert written(client) == before


def test_an_incident_that_holds_a_quarantine_is_closed_only_when_it_may_stay(client) -> None:
    escalated(client)
    answer = client.post(CLOSE, json=WHO, headers=HEAD)
    assert (answer.status_code, answer.text.count("\n")) == (409, 1)
    assert "inc-1 still quarantines gpu/node1/3" in answer.text
    assert incident(client)["state"] == "ESCALATED"
    closed = client.post(CLOSE, json=WHO | {"keep_quarantine": True}, headers=HEAD)
    assert closed.status_code == 200
    assert "gpu/node1/3 stays quarantined" in closed.json()["text"]
    now = incident(client)
    assert (now["state"], now["reason"]) == ("OVERRIDDEN", "closed_by_person")
    assert "alice: tested by hand" in now["text"]
    for path in (CLOSE, RETRY):
        again = client.post(path, json=WHO, headers=HEAD)
        assert (again.status_code, "has already ended" in again.text) == (409, True)


def test_an_escalated_incident_is_retried_and_another_is_not(client, cluster) -> None:
    cluster.make_unhealthy(GPU)
    asyncio.run(cluster.quarantine(GPU, op_id="op", owner=OWNER, reason="x"))
    escalated(client)
    answer = client.post(RETRY, json=WHO, headers=HEAD)
    assert (answer.status_code, "starts again" in answer.json()["text"]) == (200, True)
    story = client.get("/api/v1/incidents/inc-1").json()["events"]
    assert "retried" in {event["reason"] for event in story}
    refused = client.post(RETRY, json=WHO, headers=HEAD)
    assert (refused.status_code, refused.text.count("\n")) == (409, 1)


def test_a_release_ends_the_incident_that_holds_the_target(kept, client) -> None:
    escalated(client)
    assert client.post(RELEASE, json=WHO | {"target": "node1/3"}, headers=HEAD).status_code == 200
    deadline = time.monotonic() + 10
    while incident(client)["state"] != "OVERRIDDEN":
        assert time.monotonic() < deadline, incident(client)
    assert asyncio.run(kept.quarantined(GPU)) is None


def test_a_request_is_shown_approved_once_and_then_gone(kept, client) -> None:
    client.post("/api/v1/pause", json={"by": "bob", "reason": "x"}, headers=HEAD)
    until = time.time() + 600
    awaiting(client, until)
    open_ = {"request": 2, "until": until, "by": None, "reason": None}
    assert incident(client)["approval"] == open_
    summary = client.get("/api/v1/incidents/inc-1").json()["summary"]
    assert "`fleetmedic approve inc-1 --request 2 --reason WHY`" in summary
    assert "fleetmedic reject inc-1 --request 2" in client.get("/incidents/inc-1").text
    stale = client.post(APPROVE, json=WHO | {"request": 1}, headers=HEAD)
    assert (stale.status_code, "the current request is 2" in stale.text) == (409, True)
    assert incident(client)["approval"] == open_
    answer = client.post(APPROVE, json=WHO | {"request": 2}, headers=HEAD)
    assert (answer.status_code, "inc-1: approved." in answer.json()["text"]) == (200, True)
    assert incident(client)["approval"] == open_ | {"by": "alice", "reason": "tested by hand"}
    summary = client.get("/api/v1/incidents/inc-1").json()["summary"]
    assert "alice approved the return to service: tested by hand" in summary
    again = client.post(APPROVE, json=WHO, headers=HEAD)
    assert (again.status_code, "alice has already approved" in again.text) == (409, True)
    rejected = client.post(REJECT, json=WHO, headers=HEAD)
    assert rejected.status_code == 200
    now = incident(client)
    assert (now["state"], now["reason"], now["approval"]) == ("ESCALATED", "rejected", None)
    for path in (APPROVE, REJECT):
        late = client.post(path, json=WHO, headers=HEAD)
        assert (late.status_code, late.text.count("\n")) == (409, 1)
        assert "inc-1 is ESCALATED and waits for no approval" in late.text


def test_an_expired_request_is_not_approved(kept, client) -> None:
    client.post("/api/v1/pause", json={"by": "bob", "reason": "x"}, headers=HEAD)
    awaiting(client, 5.0)
    answer = client.post(APPROVE, json=WHO, headers=HEAD)
    assert answer.status_code == 409


@pytest.mark.parametrize("order", ["close", "retry", "approve", "reject"])
def test_an_unknown_incident_is_not_found(client, order) -> None:
    answer = client.post(f"/api/v1/incidents/inc-2/{order}", json=WHO, headers=HEAD)
    assert answer.status_code == 404
    assert "/api/v1/incidents lists all incidents" in answer.text


@pytest.mark.parametrize(
    ("path", "changes", "place"),
    [
        (path, changes, place)
        for path in (RELEASE, CLOSE, RETRY, APPROVE, REJECT)
        for changes, place in (
            ({"reason": None}, "$.reason"), ({"reason": ""}, "$.reason"),
            ({"reason": " \t\n"}, "$.reason"), ({"by": ""}, "$.by"), ({"by": "  "}, "$.by"),
            ({"reason": "x" * 1001}, "$.reason"), ({"by": "x" * 101}, "$.by"), ({"odd": 1}, "$"),
        )
    ]
    + [(path, {"request": wrong}, "$.request") for path in (APPROVE, REJECT) for wrong in (0, "1", 1.5)]
    + [(CLOSE, {"keep_quarantine": "yes"}, "$.keep_quarantine"), (RELEASE, {"target": 3}, "$.target")],
)  # fmt: skip
def test_a_malformed_order_is_refused_with_its_place(client, path, changes, place) -> None:
    escalated(client)
    before = written(client)
    more = {"target": "node1/3"} if path == RELEASE else {}
    answer = client.post(path, json=WHO | more | changes, headers=HEAD)
    assert answer.status_code == 400
    assert f"at {place}: " in answer.text
    assert written(client) == before


BLANK = [" ", "\u200b", "\x00", "\t\n", "\u3164\u2800", "\u202e \ufeff", "\xa0"]


@pytest.mark.parametrize("blank", BLANK)
@pytest.mark.parametrize("path", ["/api/v1/pause", "/api/v1/resume", RELEASE, CLOSE, RETRY])
def test_an_author_or_a_reason_that_nobody_can_see_is_refused(client, path, blank) -> None:
    escalated(client)
    before = written(client)
    more = {"target": "node1/3"} if path == RELEASE else {}
    optional = path in ("/api/v1/pause", "/api/v1/resume")
    for name in ("by",) if optional else ("by", "reason"):
        answer = client.post(path, json=WHO | more | {name: blank}, headers=HEAD)
        assert (answer.status_code, f"at $.{name}: expected" in answer.text) == (400, True)
    assert written(client) == before


@pytest.mark.parametrize("blank", BLANK)
def test_a_pause_without_a_visible_reason_has_none(client, blank) -> None:
    client.post("/api/v1/pause", json={"by": "alice", "reason": blank}, headers=HEAD)
    assert client.get("/api/v1/incidents").json()["pause"]["reason"] == "no reason given"


def test_author_and_reason_are_stored_as_one_line_without_control_characters(client) -> None:
    order = {"by": " al\x1bice\x00", "reason": "rack\r\n 4\x07 \u202e"}
    assert client.post("/api/v1/pause", json=order, headers=HEAD).status_code == 200
    pause = client.get("/api/v1/incidents").json()["pause"]
    assert (pause["by"], pause["reason"]) == ("al ice", "rack 4")


@pytest.mark.parametrize("missing", ["by", "reason", "target"])
def test_an_order_without_who_why_or_what_is_refused(client, missing) -> None:
    order = WHO | {"target": "node1/3"}
    del order[missing]
    answer = client.post(RELEASE, json=order, headers=HEAD)
    assert (answer.status_code, f"`{missing}`" in answer.text) == (400, True)


@pytest.mark.parametrize("target", ["../etc", "node1/x", "", "node1/\u0663"])
def test_a_target_that_is_none_is_refused(client, target) -> None:
    answer = client.post(RELEASE, json=WHO | {"target": target}, headers=HEAD)
    assert (answer.status_code, "expected a target" in answer.text) == (400, True)


@pytest.mark.parametrize(
    "path", ["/api/v1/pause", "/api/v1/resume", RELEASE, CLOSE, RETRY, APPROVE, REJECT]
)
def test_an_order_with_an_unknown_field_is_refused(client, path) -> None:
    escalated(client)
    more = {"target": "node1/3"} if path == RELEASE else {}
    answer = client.post(path, json=WHO | more | {"force": True}, headers=HEAD)
    assert (answer.status_code, "force" in answer.text) == (400, True)


def test_who_resumes_is_kept_and_a_pause_without_a_reason_says_so(client) -> None:
    client.post("/api/v1/pause", json={"by": "alice", "reason": " "}, headers=HEAD)
    assert client.get("/api/v1/incidents").json()["pause"]["reason"] == "no reason given"
    client.post("/api/v1/resume", json={"by": "bob"}, headers=HEAD)
    decided = client.get("/api/v1/decisions").json()["decisions"]
    assert "bob" in str(decided[-1])
    client.post("/api/v1/resume", headers=HEAD)
    assert "somebody" in str(client.get("/api/v1/decisions").json()["decisions"][-1])


@pytest.mark.parametrize(
    "shape",
    [OrderRequest, IncidentOrderRequest, ApprovalRequest, CloseRequest, ReleaseRequest],
)
def test_an_order_is_not_changed_after_it_was_read(shape) -> None:
    assert shape.__struct_config__.frozen
