"""Each route has an audience; a foreign host name and a sender that a stranger reports open nothing."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from ipaddress import ip_network

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from fleetmedic.kernel.share import share
from remediator.admission import FORWARDED, Access, Admission, Audience, GuardedRoute, RefusedError

TOKEN = "0123456789abcdef0123"
HEAD = {"Authorization": f"Bearer {TOKEN}"}
Serve = Callable[..., AbstractContextManager[TestClient]]


def routes(client: TestClient) -> dict[str, str]:
    """Each route of the application, as METHOD PATH, and its audience."""
    found = {}
    for one in client.app.state.served.app.routes:  # type: ignore[attr-defined]
        assert isinstance(one, GuardedRoute), f"{one.path} declares no audience"
        method = "POST" if "POST" in (one.methods or ()) else "GET"
        found[f"{method} {re.sub(r':int', '', one.path)}"] = str(one.audience)
    return found


def test_each_route_declares_its_audience_and_the_docs_have_the_same_table(served: Serve) -> None:
    text = share("docs/remediator.md").read_text()
    table = text.partition("### Authorization")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+ [^`]+)` \| ([^|]+) \|$", table, re.MULTILINE)
    with served() as client:
        assert routes(client) == dict(rows)


def test_only_probes_and_metrics_are_open_to_any_host_name_and_what_changes_needs_the_token(
    served: Serve,
) -> None:
    with served() as client:
        found = routes(client)
    monitoring = {route for route, who in found.items() if who == Audience.MONITORING}
    assert monitoring == {"GET /-/healthy", "GET /-/ready", "GET /metrics"}
    assert {who for route, who in found.items() if route.startswith("POST")} == {Audience.OPERATOR}


@pytest.mark.parametrize(
    "host",
    ["localhost:9095", "LOCALHOST", "127.0.0.1:9095", "[::1]:9095", "10.0.0.9", "gpu-mon.", "gpu-mon:80",
     socket.gethostname()],
)  # fmt: skip
def test_an_address_and_the_names_of_this_machine_are_answered(served: Serve, host: str) -> None:
    with served(settings_more="allowed_hosts: [GPU-mon]\n") as client:
        assert client.get("/api/v1/incidents", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9095", "", "127.0.0.1.evil.example", "localhost.evil.example", "1:2:3",
     "[evil.example]", "x" * 9000, "[::1]evil.com", "[::1", "[::1]:80@evil.com", "[::1%evil.com]", "[::1]:80:80",
     "fe80::1%x", "::1:80", "::1", "127.0.0.1%evil", "127.0.0.1:80@evil.com", "127.0.0.1:evil", "a@127.0.0.1", "[127.0.0.1]"],
)  # fmt: skip
@pytest.mark.parametrize(
    "head", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}]
)
def test_a_foreign_host_name_without_a_credential_is_refused(
    served: Serve, host: str, head: dict[str, str]
) -> None:
    with served() as client:
        for path in ("/", "/api/v1/incidents", "/dashboards", "/runbooks/GpuLost", "/sd/targets"):
            answer = client.get(path, headers={"Host": host} | head)
            assert (answer.status_code, "allowed_hosts" in answer.text) == (403, True), path
        for path in ("/-/healthy", "/-/ready", "/metrics"):
            assert client.get(path, headers={"Host": host}).status_code == 200
        assert client.get("/", headers={"Host": host} | HEAD).status_code == 200


@pytest.mark.parametrize(
    "path", ["/nothing", "/runbooks/", "/dashboards/", "/incidents/", "/nothing/", "/api/v1/pause"]
)
def test_an_unknown_path_and_a_wrong_method_are_answered_under_a_known_host_name_only(
    served: Serve, path: str
) -> None:
    with served() as client:
        status, text = 404, "Path not found. `/` lists the incidents.\n"
        if path.startswith("/api"):
            status, text = 405, "Wrong method. Expected POST.\n"
        answer = client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.text) == (status, text)
        foreign = {"Host": "evil.example"}
        answer = client.get(path, headers=foreign, follow_redirects=False)
        assert (answer.status_code, "allowed_hosts" in answer.text) == (403, True)
        assert "location" not in answer.headers
        assert (
            client.get(path, headers=foreign | HEAD, follow_redirects=False).status_code == status
        )
        assert client.get("/api/v1/pause").headers["allow"] == "POST"


def reads(peer: str, head: dict[str, str], *proxies: str) -> bool:
    """Whether this machine is believed to send a request without a credential."""
    access = Access(TOKEN, proxies=tuple(map(ip_network, proxies)))
    given = {"host": "127.0.0.1"} | head
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (peer, 1)}
    try:
        Admission(access, lambda: None).require(Request(scope), Audience.VIEWER)
    except RefusedError:
        return False
    return True


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_this_machine_reads_without_a_credential(peer: str) -> None:
    assert reads(peer, {})


@pytest.mark.parametrize(
    ("peer", "passed"),
    [
        ("127.0.0.1", "10.0.0.9"),
        ("10.0.0.9", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "junk"),
    ],
)
def test_no_proxy_is_trusted_by_default(peer: str, passed: str) -> None:
    assert not reads(peer, {"x-forwarded-for": passed})


@pytest.mark.parametrize("value", ["127.0.0.1", "443", ""])
@pytest.mark.parametrize(
    "name",
    [*sorted(FORWARDED), "x-forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-server"],
)  # fmt: skip
def test_a_request_that_some_proxy_passed_on_is_not_taken_for_one_of_this_machine(
    name: str, value: str
) -> None:
    assert not reads("127.0.0.1", {name: value})


def test_an_empty_sender_from_a_configured_proxy_is_not_this_machine() -> None:
    assert not reads("127.0.0.1", {"x-forwarded-for": ""}, "127.0.0.1")


def test_the_docs_name_each_header_that_shows_a_proxy() -> None:
    text = share("docs/remediator.md").read_text().lower()
    assert [name for name in sorted(FORWARDED) if f"`{name}`" not in text] == []


def test_a_configured_proxy_reports_the_sender_and_senders_cannot_add_themselves() -> None:
    assert reads("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, "127.0.0.1")
    assert not reads("127.0.0.1", {"x-forwarded-for": "10.0.0.9"}, "127.0.0.1")
    assert not reads("127.0.0.1", {"x-forwarded-for": "127.0.0.1, 10.0.0.9"}, "127.0.0.1")
    assert not reads("10.2.0.2", {"x-forwarded-for": "127.0.0.1"}, "10.1.0.0/16")
    assert not reads("10.1.0.2", {"x-forwarded-for": "junk"}, "10.1.0.0/16")


@pytest.mark.parametrize("sender", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_the_loopback_address_of_another_machine_is_not_this_machine(sender: str) -> None:
    assert not reads("192.0.2.2", {"x-forwarded-for": sender}, "192.0.2.2")
    for passed in (f"{sender}, 192.0.2.2", f"{sender}, 127.0.0.1", f"127.0.0.1, {sender}"):
        assert not reads("192.0.2.2", {"x-forwarded-for": passed}, "192.0.2.2", "127.0.0.0/8")
    passed = f"{sender}, 192.0.2.2"
    assert not reads("127.0.0.1", {"x-forwarded-for": passed}, "192.0.2.2", "127.0.0.1")


def test_a_chain_of_proxies_on_this_machine_reports_this_machine() -> None:
    passed = {"x-forwarded-for": "::1, 127.0.0.2"}
    assert reads("127.0.0.1", passed, "127.0.0.0/8")
    assert not reads("127.0.0.1", passed, "10.0.0.0/8")


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("allowed_hosts: ['http://x']", "$.allowed_hosts[0]"),
        ("allowed_hosts: [a, '']", "$.allowed_hosts[1]"),
        ("allowed_hosts: ['a:80']", "$.allowed_hosts[0]"),
        ("trusted_proxies: [proxy]", "$.trusted_proxies[0]"),
        ("trusted_proxies: [10.0.0.1/8]", "$.trusted_proxies[0]"),
        ("trusted_proxies: [10.0.0.1, 0.0.0.0/0]", "$.trusted_proxies[1]: 0.0.0.0/0 contains all"),
        ("trusted_proxies: ['::/0']", "$.trusted_proxies[0]: ::/0 contains all"),
    ],
)
def test_a_wrong_name_or_network_is_refused_with_its_place(
    served: Serve, more: str, place: str
) -> None:
    with pytest.raises(Exception, match=re.escape(place)), served(settings_more=more + "\n"):
        pass
