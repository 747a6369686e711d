"""The pages behind a reverse proxy that serves them under a path prefix, and without the proxy."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.integration
TOKEN = "0123456789abcdef0123"
PREFIX = "/gpu"
PATIENCE = 60.0
LINK = re.compile(r'(?:href|src)="([^"]*)"')
ALERT = {
    "status": "firing",
    "labels": {"alertname": "GpuLost", "severity": "critical", "cluster": "local", "node": "node1",
               "gpu": "3", "uuid": "GPU-1-3"},
    "annotations": {"summary": "x"}, "startsAt": "2026-11-22T21:47:28Z", "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://x", "fingerprint": "2b63d398ea3bd5e4",
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A remediator with one incident: its own URL, and its URL at the proxy."""

    direct: str
    proxied: str


@pytest.fixture(scope="module")
def site(new_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("proxied"), new_port()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "remediator.yml").write_text(
        f"webhook_token_file: {folder}/token\ncluster: {{adapter: memory}}\n"
        "without_alertmanager: true\ntrusted_proxies: [127.0.0.1]\n"
    )
    command = [
        sys.executable, "-m", "fleetmedic.cli", "remediator", "serve", f"--config={folder}/remediator.yml",
        f"--data-dir={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    proxy = _proxy(port)
    try:
        found = Site(f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{proxy.server_port}{PREFIX}/")
        deadline = time.monotonic() + PATIENCE
        while not _incident(found.direct):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield found
    finally:
        proxy.shutdown()
        proxy.server_close()
        process.terminate()
        process.wait(PATIENCE)


def _incident(direct: str) -> bool:
    """Send the alert; whether it has become an incident."""
    payload = {"version": "4", "groupKey": "{}", "receiver": "r", "alerts": [ALERT]}
    request = urllib.request.Request(
        f"{direct}api/v1/alerts",
        json.dumps(payload).encode(),
        {"Authorization": f"Bearer {TOKEN}"},
    )
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except OSError:
        return False
    return bool(json.loads(_get(f"{direct}api/v1/incidents")[2])["incidents"])


def _proxy(port: int) -> ThreadingHTTPServer:
    """A reverse proxy that removes the prefix, like `location /gpu/ { proxy_pass http://REMEDIATOR/; }`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404, "outside the prefix")
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            head = {name: value for name, value in self.headers.items() if name != "Connection"}
            head["X-Forwarded-For"] = self.client_address[0]
            upstream.request("GET", self.path.removeprefix(PREFIX), headers=head)
            answer = upstream.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "date", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            upstream.close()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def _get(url: str) -> tuple[int, str, str]:
    """The status, the URL after redirects, and the body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.url, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, url, error.read().decode(errors="replace")


@pytest.mark.parametrize("way", ["proxied", "direct"])
def test_every_link_of_every_page_works(site: Site, way: str) -> None:
    root = getattr(site, way)
    status = {}
    waiting = [root, urljoin(root, "d/fleetmedic-gpu/slug?var-node=node1")]
    while waiting:
        url = waiting.pop()
        if url in status:
            continue
        status[url], at, body = _get(url)
        assert at.startswith(root), f"{url} leads to {at}"
        if body.startswith("<!doctype html>"):
            found = {
                urldefrag(urljoin(at, one.replace("&amp;", "&"))).url for one in LINK.findall(body)
            }
            local = {one for one in found if one.startswith(root.partition(PREFIX)[0])}
            assert all(one.startswith(root) for one in local), f"{url}: {local}"
            waiting += local
    assert {url: one for url, one in status.items() if one != 200} == {}
    for path in ("incidents/inc-", "runbooks/GpuLost", "static/page.css", "dashboards/fleetmedic-gpu?var-",
                 "api/v1/why?", "api/v1/incidents/inc-", "metrics"):  # fmt: skip
        assert any(url.startswith(root + path) for url in status), path


def test_a_dashboard_is_drawn_and_links_under_the_prefix(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.goto(f"{site.proxied}dashboards/fleetmedic-fleet")
    page.wait_for_selector("html[data-drawn]:not([data-drawn=''])", state="attached")
    links = page.eval_on_selector_all("a", "all => all.map(one => one.href)")
    page.close()
    data = f"{site.proxied}api/v1/dashboards/fleetmedic-fleet"
    assert data in asked
    assert any(one.startswith(f"{data}/panels/") for one in asked)
    assert [one for one in asked + links if not one.startswith(site.proxied)] == []
    assert any(one.startswith(f"{site.proxied}dashboards/fleetmedic-gpu?from=") for one in links)
