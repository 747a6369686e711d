"""The HTTP edge over real engines and a real journal: what comes from outside is hostile."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.admission import Credentials
from remediator.app import running
from remediator.clusters.memory import MemoryCluster
from remediator.library import load_library
from remediator.settings import load_settings
from remediator.webhook import MAX_BODY, Desk, make_app, read_payload

TOKEN = "0123456789abcdef0123"
PASSWORD = "for-people-who-look"
HEAD = {"Authorization": f"Bearer {TOKEN}"}


@contextlib.contextmanager
def served(
    tmp_path: Path,
    cluster: MemoryCluster | None = None,
    level: str = "observe",
    settings_more: str = "",
    address: str = "127.0.0.1",
) -> Iterator[TestClient]:
    """A remediator on an in-memory cluster behind its HTTP edge, asked from that address."""
    (tmp_path / "token").write_text(TOKEN)
    config = tmp_path / "remediator.yml"
    config.write_text(
        f"webhook_token_file: {tmp_path}/token\ncluster: {{adapter: memory}}\nlevel: {level}\n"
        "without_alertmanager: true\n"
        + settings_more
    )
    settings = load_settings(config)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette):
        async with running(
            settings, tmp_path, load_library(()), cluster or MemoryCluster()
        ) as parts:
            desk = Desk(
                parts.engine, parts.reconciler, parts.book, parts.metrics, parts.delivery,
                Credentials(TOKEN, PASSWORD), tmp_path, lambda: True, parts.pictures, parts.discovery,
            )  # fmt: skip
            app.router.routes.extend(make_app(desk).routes)
            yield

    with TestClient(Starlette(lifespan=lifespan), client=(address, 50000)) as found:
        yield found


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """At level observe."""
    with served(tmp_path) as found:
        yield found


def _alert(**changes: Any) -> dict[str, Any]:
    labels = {"alertname": "GpuLost", "severity": "critical", "node": "node1", "gpu": "3"}
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


def test_why_of_a_job_tells_the_incident_that_moved_it(tmp_path) -> None:
    cluster, gpu = MemoryCluster(), Target.parse("node1/3")
    cluster.submit("train-a", on=gpu)
    cluster.submit("train-b", on=Target.parse("node1/4"))
    cluster.sicken(gpu)

    def why(client: TestClient, job: str) -> dict[str, Any]:
        found: dict[str, Any] = client.get("/api/v1/why", params={"target": f"job/{job}"}).json()
        return found

    with served(tmp_path, cluster, "repair") as client:
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
        (json.dumps(_body(_alert(labels={"a": 1}))).encode(), "$.alerts[0].labels[...]"),
        (json.dumps(_body(_alert(), _alert(startsAt="yesterday"))).encode(), "$.alerts[1].startsAt"),
        (json.dumps(_body(_alert(startsAt=5))).encode(), "$.alerts[0].startsAt"),
        (json.dumps(_body(_alert(startsAt="9999-99-99T00:00:00Z"))).encode(), "$.alerts[0].startsAt"),
        (json.dumps(_body(_alert(fingerprint="../../etc"))).encode(), "$.alerts[0].fingerprint"),
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
    for path in ("/api/v1/alerts", "/api/v1/pause", "/api/v1/resume"):
        assert client.post(path, json=_body(_alert()), headers=head).status_code == 401
    assert _incidents(client) == []
    assert "remediator_webhook_auth_failures_total 3.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "GpuLost", "node": "../../etc/passwd", "gpu": "0"},
        {"alertname": "GpuLost", "node": "node1", "gpu": "0\n1"},
        {"alertname": "GpuLost", "node": "node1", "gpu": "9" * 5000},
        {"alertname": "GpuLost", "node": "x" * 100_000, "gpu": "1"},
        {"alertname": "GpuLost", "node": "node1"},
        {f"label{n}": "x" for n in range(1000)},
        {"alertname": "<script>alert(1)</script>", "node": "<b>", "gpu": "\u0000"},
        {},
    ],
)
def test_hostile_labels_are_kept_bounded_and_lead_to_nothing(client, labels) -> None:
    answer = client.post("/api/v1/alerts", json=_body(_alert(labels=labels)), headers=HEAD)
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
    assert client.post("/api/v1/pause", json=order, headers=HEAD).json() == {"paused": True}
    assert "remediator_paused 1.0" in client.get("/metrics").text
    assert "&lt;b&gt;maintenance" in client.get("/").text
    assert client.post("/api/v1/resume", json={"by": "a"}, headers=HEAD).json() == {"paused": False}
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
        ("/runbooks/..%2f..%2fREADME", 404), ("/nothing", 404), ("/api/v1/alerts", 405),
    ],
)  # fmt: skip
def test_every_address_answers(client, path, status) -> None:
    answer = client.get(path)
    assert status == answer.status_code
    assert "Traceback" not in answer.text


def test_a_store_that_is_down_is_a_503_that_asks_to_come_again(client, tmp_path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "journal.db") as blocker:
        blocker.execute("DROP TABLE events")
    answer = client.post("/api/v1/alerts", json=_body(_alert()), headers=HEAD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_unknown_fields_of_a_newer_alertmanager_are_ignored() -> None:
    body = json.dumps(_body(_alert(odd=1), truncatedAlerts=2, notification_reason="first")).encode()
    alerts, truncated = read_payload(body)
    assert (len(alerts), truncated) == (1, True)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(UserError, match=r"alerts\[0\]\.startsAt"):
        read_payload(json.dumps(_body(_alert(startsAt="2026-11-22T21:47:28"))).encode())


def test_runbooks_are_served_as_pages(client) -> None:
    answer = client.get("/runbooks/GpuLost")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<h2>Check</h2>" in answer.text


def test_prometheus_is_told_the_targets_of_the_host_list_as_it_is_now(tmp_path) -> None:
    hosts = tmp_path / "hosts.yml"
    more = f"discovery: {{hosts: {hosts}, file_sd: {tmp_path}/targets.json}}\n"
    with served(tmp_path, settings_more=more) as client:
        none = client.get("/sd/targets")
        assert (none.status_code, none.text) == (503, f"{hosts}: no such file; check the path.\n")
        hosts.write_text("hosts: ['gpu[1-2]']")
        deadline = time.monotonic() + 10
        while (found := client.get("/sd/targets")).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
        assert [one["targets"] for one in found.json()] == [["gpu1:9410"], ["gpu2:9410"]]
        assert (tmp_path / "targets.json").read_bytes() == found.content
        hosts.write_text("hosts: []")
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
    tmp_path, path
) -> None:
    with served(tmp_path, address="10.0.0.9") as client:
        first = client.get(path)
        assert first.status_code == 401
        assert first.headers["www-authenticate"].startswith("Basic realm=")
        assert _refused(client) == 0, "a browser looks without a password first"
        assert client.get(path, headers=_basic(f"anybody:{PASSWORD}")).status_code == 200
        assert client.get(path, headers=HEAD).status_code == 200
        for wrong in (_basic("anybody:guess"), _basic(PASSWORD), {"Authorization": "Basic %%%"}):
            assert client.get(path, headers=wrong).status_code == 401
        assert _refused(client) == 3


@pytest.mark.parametrize("path", ["alerts", "pause", "resume", "notify/chat"])
@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9"])
def test_the_password_of_those_who_look_changes_nothing(tmp_path, path, address) -> None:
    with served(tmp_path, address=address) as client:
        found = client.post(f"/api/v1/{path}", json={"by": "x"}, headers=_basic(f"x:{PASSWORD}"))
        assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
        assert "webhook_token_file" in found.text


def test_from_another_machine_the_targets_want_the_token(tmp_path) -> None:
    (tmp_path / "hosts.yml").write_text("hosts: [a]")
    more = f"discovery: {{hosts: {tmp_path}/hosts.yml}}\n"
    with served(tmp_path, settings_more=more, address="10.0.0.9") as client:
        assert client.get("/sd/targets").status_code == 401
        assert client.get("/sd/targets", headers=HEAD).status_code == 200
