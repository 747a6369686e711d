"""The HTTP edge over real engines and a real journal: what comes from outside is hostile."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from fleetmedic.kernel.labels import Target
from remediator.clusters.memory import MemoryCluster
from remediator.discovery import watch
from remediator.payload import MAX_BODY
from tests.unit.remediator.fake_http_server import FakeHttpServer

TOKEN = "0123456789abcdef0123"
PASSWORD = "for-people-who-look"
HEAD = {"Authorization": f"Bearer {TOKEN}"}
Serve = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def client(served: Serve) -> Iterator[TestClient]:
    """At level observe."""
    with served() as found:
        yield found


def _alert(**changes: Any) -> dict[str, Any]:
    labels = {"alertname": "GpuLost", "severity": "critical", "cluster": "local", "node": "node1",
              "gpu": "3", "uuid": "GPU-1-3"}  # fmt: skip
    return {
        "status": "firing", "labels": labels, "annotations": {"summary": "x"},
        "startsAt": "2026-11-22T21:47:28.185892Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://x", "fingerprint": "2b63d398ea3bd5e4",
    } | changes  # fmt: skip


def _body(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"version": "4", "groupKey": "{}", "receiver": "r", "alerts": list(alerts)} | changes


def _incidents(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/incidents").json()["incidents"]
    return found


def _until_incident(client: TestClient) -> dict[str, Any]:
    deadline = time.monotonic() + 5
    while not (found := _incidents(client)) or found[0]["state"] != "SUPPRESSED":
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found[0]


def test_an_accepted_alert_becomes_an_incident_in_the_agreed_shape(client) -> None:
    assert client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD).status_code == 202
    one = _until_incident(client)
    assert {"id", "target", "state", "reason", "playbook", "alerts", "steps"} <= set(one)
    assert (one["target"], one["playbook"]) == ("gpu/node1/3", "gpu-lost")
    assert one["alerts"] == [
        {"fingerprint": "2b63d398ea3bd5e4", "startsAt": "2026-11-22T21:47:28.185892Z"}
    ]
    story = client.get(f"/api/v1/incidents/{one['id']}").json()
    assert one == story["incident"]
    assert story["events"][0]["event"] == "IncidentOpened"
    why = client.get("/api/v1/why", params={"target": "node1/3"}).json()
    assert why["target"] == "gpu/node1/3"
    assert "observe_only" in {item["reason"] for item in why["decisions"]}
    chosen = client.get("/api/v1/decisions", params={"reason": "observe_only"}).json()["decisions"]
    assert {"observe_only"} == {item["reason"] for item in chosen}


def test_why_of_a_job_tells_the_incident_that_moved_it(served) -> None:
    cluster, gpu = MemoryCluster(), Target.parse("node1/3")
    cluster.submit("train-a", on=gpu)
    cluster.submit("train-b", on=Target.parse("node1/4"))
    cluster.make_unhealthy(gpu)

    def why(client: TestClient, job: str) -> dict[str, Any]:
        found: dict[str, Any] = client.get("/api/v1/why", params={"target": f"job/{job}"}).json()
        return found

    with served(cluster, "repair") as client:
        client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD)
        deadline = time.monotonic() + 5
        while "quarantined" not in {one["reason"] for one in why(client, "train-a")["decisions"]}:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told = why(client, "train-a")
        assert told["decisions"][0]["event"] == "IncidentOpened"
        assert told["incidents"] == [_incidents(client)[0]["id"]]
        assert why(client, "train-b")["decisions"] == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "$"),
        (b"{", "$"),
        (b"\xff\xfe", "$"),
        (b"[]", "$"),
        (b"null", "$"),
        (b"{}", "$"),
        (b"[" * 100_000, "$"),
        (json.dumps(_body(_alert(status="odd"))).encode(), "$.alerts[0].status"),
        (json.dumps(_body(_alert(labels=[]))).encode(), "$.alerts[0].labels"),
        (json.dumps(_body(_alert(labels={"a": 1}))).encode(), "$.alerts[0].labels.a"),
        (json.dumps(_body(_alert(), _alert(startsAt="yesterday"))).encode(), "$.alerts[1].startsAt"),
        (json.dumps(_body(_alert(startsAt=5))).encode(), "$.alerts[0].startsAt"),
        (json.dumps(_body(_alert(startsAt="0001-01-01T00:00:00Z"))).encode(), "$.alerts[0].startsAt"),
        (json.dumps(_body(_alert(startsAt="9999-12-31T23:59:59Z"))).encode(), "$.alerts[0].startsAt"),
        (json.dumps(_body(_alert(startsAt="9999-99-99T00:00:00Z"))).encode(), "$.alerts[0].startsAt"),
        (json.dumps(_body(_alert(fingerprint="../../etc"))).encode(), "$.alerts[0].fingerprint"),
        (json.dumps(_body(_alert(fingerprint="2b63d398ea3bd5e4\n"))).encode(), "$.alerts[0].fingerprint"),
        (json.dumps(_body(_alert(fingerprint=""))).encode(), "$.alerts[0].fingerprint"),
        (json.dumps({"alerts": {}}).encode(), "$.alerts"),
    ],
)  # fmt: skip
def test_junk_is_one_sentence_with_its_place_and_nothing_of_it_is_kept(client, body, place) -> None:
    answer = client.post("/api/v1/alerts", content=body, headers=HEAD)
    assert answer.status_code == 400
    assert f"at {place}: " in answer.text
    assert answer.text.count("\n") == 1
    assert "Traceback" not in answer.text
    assert _incidents(client) == []


def test_a_body_above_the_limit_is_refused(client) -> None:
    answer = client.post("/api/v1/alerts", content=b" " * (MAX_BODY + 1), headers=HEAD)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "head",
    [
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer "},
        {"Authorization": "Bearer \xff\xfe".encode("latin-1")},
    ],
)  # fmt: skip
def test_orders_need_the_token(client, head) -> None:
    about = "/api/v1/incidents/inc-0123456789"
    for path in (
        "/api/v1/alerts", "/api/v1/pause", "/api/v1/resume", "/api/v1/targets/release",
        f"{about}/close", f"{about}/retry", f"{about}/approve", f"{about}/reject",
    ):  # fmt: skip
        assert client.post(path, json=_body(_alert()), headers=head).status_code == 401
    assert _incidents(client) == []
    assert "remediator_webhook_auth_failures_total 8.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "GpuLost", "node": "../../etc/passwd", "gpu": "0"},
        {"alertname": "GpuLost", "node": "node1", "gpu": "0\n1"},
        {"alertname": "GpuLost", "node": "node1", "gpu": "9" * 5000},
        {"alertname": "GpuLost", "node": "node1", "gpu": "\u0663"},
        {"alertname": "GpuLost", "node": "node1", "gpu": "\u00b3"},
        {"alertname": "GpuLost", "node": "node1", "gpu": "\uff13"},
        {"alertname": "GpuLost", "node": "x" * 100_000, "gpu": "1"},
        {"alertname": "GpuLost", "node": "node1"},
        {f"label{n}": "x" for n in range(1000)},
        {"alertname": "<script>alert(1)</script>", "node": "<b>", "gpu": "\u0000"},
        {},
    ],
)
def test_hostile_labels_are_kept_bounded_and_lead_to_nothing(client, labels) -> None:
    hostile = _body(_alert(labels={"cluster": "local"} | labels))
    answer = client.post("/api/v1/alerts", json=hostile, headers=HEAD)
    assert answer.status_code == 202
    assert _incidents(client) == []
    decided = client.get("/api/v1/decisions").json()["decisions"]
    assert {"no_target", "no_playbook"} & {item["reason"] for item in decided}
    assert "<script>" not in client.get("/").text
    kept = next(item["data"]["labels"] for item in decided if item["event"] == "AlertReceived")
    assert len(kept) <= 64
    assert all(len(value) <= 1024 for value in kept.values())


def test_the_same_alert_again_is_accepted_and_written_once(client) -> None:
    for _ in range(5):
        assert client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD).status_code == 202
    _until_incident(client)
    assert len(_incidents(client)) == 1
    decided = client.get("/api/v1/decisions").json()["decisions"]
    assert sum(item["event"] == "AlertReceived" for item in decided) == 1


def test_pause_and_resume_are_kept_and_shown(client) -> None:
    order = {"by": "alice", "reason": "<b>maintenance</b>"}
    assert client.post("/api/v1/pause", json=order, headers=HEAD).json()["paused"] is True
    assert client.get("/api/v1/incidents").json()["pause"]["by"] == "alice"
    assert client.get("/api/v1/why?target=n").json()["pause"]["reason"] == "<b>maintenance</b>"
    again = client.post("/api/v1/pause", json={"by": "bob", "reason": " "}, headers=HEAD).json()
    assert "Already paused by alice (<b>maintenance</b>)" in again["text"]
    client.post("/api/v1/pause", json=order, headers=HEAD)
    assert "remediator_paused 1.0" in client.get("/metrics").text
    assert "&lt;b&gt;maintenance" in client.get("/").text
    resumed = client.post("/api/v1/resume", json={"by": "a"}, headers=HEAD).json()
    assert (resumed["paused"], "alice had paused them" in resumed["text"]) == (False, True)
    assert client.get("/api/v1/incidents").json()["pause"] is None
    resumed = client.post("/api/v1/resume", json={"by": "a"}, headers=HEAD).json()
    assert resumed["text"] == "Not paused: nothing to resume."
    assert "remediator_paused 0.0" in client.get("/metrics").text
    bad = client.post("/api/v1/pause", json={"by": "", "reason": "x"}, headers=HEAD)
    assert (bad.status_code, "$.by" in bad.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/-/healthy", 200), ("/-/ready", 200), ("/metrics", 200), ("/", 200),
        ("/api/v1/incidents", 200), ("/api/v1/incidents/none", 404), ("/api/v1/why", 400),
        ("/api/v1/why?target=a/b/c", 400), ("/api/v1/decisions?limit=0", 400),
        ("/api/v1/decisions?target=..", 400), ("/runbooks/NoSuchAlert", 404),
        ("/runbooks/..%2f..%2fREADME", 404), ("/runbooks", 200), ("/incidents/none", 404), ("/nothing", 404), ("/api/v1/alerts", 405),
    ],
)  # fmt: skip
def test_every_address_answers(client, path, status) -> None:
    answer = client.get(path)
    assert status == answer.status_code
    assert "Traceback" not in answer.text


def test_a_store_that_is_down_is_a_503_that_asks_to_come_again(client, tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as blocker:
        blocker.execute("DROP TABLE events")
    answer = client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_journal_that_cannot_be_written_is_not_ready_and_says_why(client, tmp_path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as blocker:
        blocker.execute("DROP TABLE meta")
    answer = client.get("/-/ready")
    assert answer.status_code == 503
    assert "journal.db cannot be written: " in answer.text
    assert answer.text.count("\n") == 1
    assert client.get("/-/healthy").status_code == 200


def test_the_list_of_incidents_says_that_the_journal_cannot_be_written(client, tmp_path) -> None:
    assert 'role="alert"' not in client.get("/").text
    client.app.state.parts.journal._check = None  # the result of a check is reused for 5 s
    with closing(sqlite3.connect(tmp_path / "journal.db")) as blocker:
        blocker.execute("DROP TABLE meta")
    answer = client.get("/")
    assert answer.status_code == 200
    assert 'role="alert">The journal ' in answer.text
    assert "journal.db cannot be written: " in answer.text


def test_the_list_continues_before_an_incident_and_refuses_an_unknown_one(client) -> None:
    client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD)
    identity = _until_incident(client)["id"]
    assert "No incidents." in client.get(f"/?before={identity}").text
    for path in ("/", "/incidents", "/api/v1/incidents"):
        answer = client.get(f"{path}?before=inc-none")
        assert (answer.status_code, "expected the id of an incident" in answer.text) == (400, True)


@pytest.mark.parametrize(("truncated", "woken"), [(0, 0), (2, 1)])
def test_a_truncated_payload_and_no_other_wakes_the_reconciler(
    client, monkeypatch, truncated, woken
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(client.app.state.parts.reconciler, "wake", lambda: calls.append(1))
    body = _body(_alert(), truncatedAlerts=truncated)
    assert client.post("/api/v1/alerts", json=body, headers=HEAD).status_code == 202
    assert len(calls) == woken


def test_what_a_truncated_payload_left_out_is_looked_for_at_once(client) -> None:
    def last() -> float:
        name = "remediator_reconcile_last_timestamp_seconds "
        page = client.get("/metrics").text.splitlines()
        return float(next(line for line in page if line.startswith(name)).split()[1])

    deadline = time.monotonic() + 20
    while (first := last()) == 0:
        assert time.monotonic() < deadline
    client.post("/api/v1/alerts", json=_body(truncatedAlerts=1), headers=HEAD)
    while last() == first:
        assert time.monotonic() < deadline, "the next pass comes 30 s after the first"


def test_an_alert_that_begins_a_little_later_than_now_is_accepted(client) -> None:
    soon = datetime.fromtimestamp(time.time() + 600, UTC).isoformat()
    answer = client.post("/api/v1/alerts", json=_body(_alert(startsAt=soon)), headers=HEAD)
    assert answer.status_code == 202
    assert _until_incident(client)["target"] == "gpu/node1/3"


def test_a_receiver_that_is_not_configured_is_warned_of_once(served) -> None:
    with served(receivers=("fleetmedic", "remediator")) as client, capture_logs() as logs:
        for receiver in ("fleetmedic", "team-x", "team-x", "remediator", "y" * 5000):
            body = _body(_alert(), receiver=receiver)
            assert client.post("/api/v1/alerts", json=body, headers=HEAD).status_code == 202
    said = [one["text"] for one in logs if one["event"] == "unknown_receiver"]
    assert len(said) == 2
    assert "'team-x'" in said[0]
    assert "alertmanager_receivers (fleetmedic, remediator)" in said[0]
    assert all(len(text) < 300 for text in said)


def test_without_configured_receivers_every_one_is_accepted(client) -> None:
    with capture_logs() as logs:
        assert client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD).status_code == 202
    assert "unknown_receiver" not in {one["event"] for one in logs}


def test_an_incident_has_a_page_with_its_summary_evidence_and_timeline(client) -> None:
    client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD)
    one = _until_incident(client)
    assert f'href="./incidents/{one["id"]}"' in client.get("/").text
    page = client.get(f"/incidents/{one['id']}").text
    story = client.get(f"/api/v1/incidents/{one['id']}").json()
    assert story["summary"].startswith("GpuLost on gpu/node1/3 since 20")
    for text in (
        story["summary"],
        'href="../runbooks/GpuLost"',
        "GPU-1-3",
        "IncidentOpened",
        "viewport",
    ):
        assert text in page, text


def test_runbooks_are_served_as_pages(client) -> None:
    assert 'href="./runbooks/GpuLost"' in client.get("/runbooks").text
    answer = client.get("/runbooks/GpuLost")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h2>Check</h2>" in answer.text


def test_prometheus_is_told_the_targets_of_the_host_list_as_it_is_now(
    served, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(watch, "EVERY", 3600.0)  # looked at when the test says so
    hosts = tmp_path / "hosts.yml"
    more = f"discovery: {{hosts: {hosts}, file_sd: {tmp_path}/targets.json}}\n"

    def write(client: TestClient, text: str) -> None:
        hosts.write_text(text)
        at_rest = time.time() - 60
        os.utime(hosts, (at_rest, at_rest))
        client.portal.call(client.app.state.parts.discovery.refresh)

    with served(settings_more=more) as client:
        none = client.get("/sd/targets")
        assert (none.status_code, none.text) == (503, f"{hosts}: no such file. Check the path.\n")
        write(client, "hosts: ['gpu[1-2]']")
        found = client.get("/sd/targets")
        assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
        assert [one["targets"] for one in found.json()] == [["gpu1:9410"], ["gpu2:9410"]]
        assert (tmp_path / "targets.json").read_bytes() == found.content
        write(client, "hosts: []")
        assert client.get("/sd/targets").content == found.content


def test_without_a_host_list_the_targets_say_what_to_set(client) -> None:
    found = client.get("/sd/targets")
    assert found.status_code == 404
    assert "discovery.hosts" in found.text


LOOKS = ("/", "/dashboards", "/api/v1/incidents", "/api/v1/why?target=node1")


def _basic(word: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(word.encode()).decode()}


def _refused(client: TestClient) -> float:
    page = client.get("/metrics").text
    name = "remediator_webhook_auth_failures_total "
    return float(next(line for line in page.splitlines() if line.startswith(name)).split()[1])


@pytest.mark.parametrize("path", LOOKS)
def test_people_on_other_machines_look_with_the_password_that_their_browser_asks_for(
    served, path
) -> None:
    with served(address="10.0.0.9") as client:
        first = client.get(path)
        assert first.status_code == 401
        assert first.headers["www-authenticate"].startswith("Basic realm=")
        assert _refused(client) == 0, "a browser looks without a password first"
        assert client.get(path, headers=_basic(f"anybody:{PASSWORD}")).status_code == 200
        assert client.get(path, headers=HEAD).status_code == 200
        for wrong in (_basic("anybody:guess"), _basic(PASSWORD), {"Authorization": "Basic %%%"}):
            assert client.get(path, headers=wrong).status_code == 401
        assert _refused(client) == 3


@pytest.mark.parametrize("path", ["alerts", "pause", "resume", "targets/release", "notify/chat"])
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9"])
def test_the_password_of_those_who_look_changes_nothing(served, path, address) -> None:
    with served(address=address) as client:
        found = client.post(f"/api/v1/{path}", json={"by": "x"}, headers=_basic(f"x:{PASSWORD}"))
        assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
        assert "webhook_token_file" in found.text


def test_from_another_machine_the_targets_want_the_token(served, tmp_path) -> None:
    (tmp_path / "hosts.yml").write_text("hosts: [a]")
    more = f"discovery: {{hosts: {tmp_path}/hosts.yml}}\n"
    with served(settings_more=more, address="10.0.0.9") as client:
        assert client.get("/sd/targets").status_code == 401
        assert client.get("/sd/targets", headers=HEAD).status_code == 200


@pytest.fixture
def chat(served: Serve, server: FakeHttpServer, tmp_path: Path) -> Iterator[TestClient]:
    """With the channel `chat`, by which the remediator sends to `place`."""
    (tmp_path / "chat.url").write_text(server.url)
    (tmp_path / "chat.url").chmod(0o600)
    (tmp_path / "notifications.yml").write_text(
        f"channels:\n  chat: {{kind: http, url_file: {tmp_path}/chat.url, template: sms}}\n"
        "teams:\n- {name: all, critical: [chat], warning: [chat], info: [chat]}\n"
    )
    with served(settings_more=f"notify: {{file: {tmp_path}/notifications.yml}}\n") as found:
        yield found


def _counted(client: TestClient, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(sample + " ")).rpartition(" ")[2])


GROUP = {"version": "4", "status": "firing", "alerts": [_alert()], "commonLabels": {}}
SENT = 'remediator_notifications_total{channel="chat",result="%s"}'


def test_a_group_is_sent_by_the_channel_and_counted(chat, server) -> None:
    assert chat.post("/api/v1/notify/chat", json=GROUP, headers=HEAD).status_code == 200
    assert len(server.asked) == 1
    assert "[FIRING 1]" in server.asked[0][1]
    assert _counted(chat, SENT % "delivered") == 1
    assert _counted(chat, SENT % "failed") == 0


@pytest.mark.parametrize(("status", "answer"), [(500, 503), (400, 422)])
def test_a_group_that_is_not_delivered_says_whether_to_try_again(
    chat, server, status, answer
) -> None:
    server.answers({}, status)
    assert chat.post("/api/v1/notify/chat", json=GROUP, headers=HEAD).status_code == answer
    assert _counted(chat, SENT % "failed") == 1
    assert _counted(chat, SENT % "delivered") == 0


def test_an_unknown_channel_is_a_404_and_nothing_is_sent(chat, server) -> None:
    answer = chat.post("/api/v1/notify/nobody", json=GROUP, headers=HEAD)
    assert (answer.status_code, answer.text) == (404, "Channel not found in notifications.yml.\n")
    assert server.asked == []


def test_received_alerts_are_counted(client) -> None:
    body = _body(_alert(), _alert(fingerprint="2b63d398ea3bd5e5"))
    client.post("/api/v1/alerts", json=body, headers=HEAD)
    assert _counted(client, "remediator_webhook_alerts_total") == 2


def test_no_more_than_sixteen_unknown_receivers_are_named(served) -> None:
    with served(receivers=("fleetmedic",)) as client, capture_logs() as logs:
        for receiver in ("", *(f"team-{n}" for n in range(20))):
            body = _body(_alert(), receiver=receiver)
            assert client.post("/api/v1/alerts", json=body, headers=HEAD).status_code == 202
    said = [one["text"] for one in logs if one["event"] == "unknown_receiver"]
    assert len(said) == 16
    assert "'team-0'" in said[0]
