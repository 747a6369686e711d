"""The remediator's questions, asked of a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.stack import binaries
from remediator.alertmanager import AlertmanagerClient, AlertmanagerPeers, ListedAlert
from remediator.http import HttpError
from remediator.prometheus import PrometheusClient, QuerySample

pytestmark = pytest.mark.integration
DEADLINE = 30.0


def start(command: list[str], ready: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(ready, timeout=1):
                return process
        except OSError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text()[-2000:])


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(DEADLINE)


@pytest.fixture(scope="module")
def prometheus(
    parts: Any, new_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Prometheus that scrapes itself each second."""
    _ = parts["prometheus"]
    folder, address = tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{new_port()}"
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "self", "static_configs": [{"targets": [address]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    process = start(
        [
            *binaries.command("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
        ],
        f"http://{address}/-/ready",
        folder / "log",
    )
    yield f"http://{address}"
    stop(process)


@pytest.fixture(scope="module")
def alertmanager(
    parts: Any, new_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An Alertmanager that tells nobody."""
    _ = parts["alertmanager"]
    folder, address = tmp_path_factory.mktemp("alertmanager"), f"127.0.0.1:{new_port()}"
    (folder / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    process = start(
        [
            *binaries.command("alertmanager"),
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        f"http://{address}/-/ready",
        folder / "log",
    )
    yield f"http://{address}"
    stop(process)


def post(url: str, body: object) -> None:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5):
        pass


def ask(url: str, question: Callable[[PrometheusClient], Any]) -> Any:
    async def asked() -> Any:
        async with PrometheusClient(url) as client:
            return await question(client)

    return asyncio.run(asked())


def listed(url: str, holds: Callable[[list[ListedAlert]], bool], *others: str) -> list[ListedAlert]:
    """What Alertmanager lists for the receiver, once that holds."""

    async def asked() -> list[ListedAlert]:
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(AlertmanagerClient(one, ("none",)))
                for one in (*others, url)
            ]
            return list((await AlertmanagerPeers(clients).query_alerts()).listed.values())

    deadline = time.monotonic() + DEADLINE
    while not holds(found := asyncio.run(asked())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds(found)
    return found


def test_samples_carry_their_own_scrape_time_and_queries_their_evaluation(prometheus: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not (found := ask(prometheus, lambda p: p.samples("up", at=time.time()))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (sample,) = found
    assert (sample.labels["job"], sample.value) == ("self", 1.0)
    assert time.time() - 5 < sample.at < time.time()
    later = time.time() + 60
    (evaluated,) = ask(prometheus, lambda p: p.query("up", at=later))
    assert evaluated.at == pytest.approx(later, abs=0.01)
    (aged,) = ask(prometheus, lambda p: p.samples("up", at=later))
    assert later - aged.at > 50


def test_scalars_empty_answers_and_refusals(prometheus: str) -> None:
    (two,) = ask(prometheus, lambda p: p.query("1 + 1"))
    assert (two.labels, two.value) == ({}, 2.0)
    (nan,) = ask(prometheus, lambda p: p.query("vector(0) / 0"))
    assert isinstance(nan, QuerySample)
    assert math.isnan(nan.value)
    assert ask(prometheus, lambda p: p.query("no_such_metric")) == []
    for expr, said in (("up{", "parse error"), ("up[5m]", "matrix")):
        with pytest.raises(HttpError, match=said):
            ask(prometheus, lambda p, expr=expr: p.query(expr))


def test_a_silenced_alert_is_listed_with_its_silence(alertmanager: str) -> None:
    now = datetime.now(UTC)
    labels = {"alertname": "GpuLost", "node": "node2", "gpu": "3", "cluster": "local"}
    begun = (now - timedelta(seconds=5)).isoformat(timespec="milliseconds")
    post(
        f"{alertmanager}/api/v2/alerts",
        [{"labels": labels, "annotations": {"summary": "gone"}, "startsAt": begun}],
    )
    (one,) = listed(alertmanager, lambda found: len(found) == 1)
    assert (dict(one.alert.labels), one.alert.firing, one.active) == (labels, True, True)
    assert one.alert.starts_at == pytest.approx(now.timestamp() - 5, abs=0.002)
    assert one.updated == pytest.approx(time.time(), abs=DEADLINE)
    silence = {
        "matchers": [{"name": "gpu", "value": "3", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "test",
        "comment": "new board",
    }
    post(f"{alertmanager}/api/v2/silences", silence)
    (held,) = listed(alertmanager, lambda found: [one.active for one in found] == [False])

    async def silences() -> Any:
        async with AlertmanagerClient(alertmanager, ("none",)) as client:
            return await client.query_silences()

    (identity,) = held.silenced_by
    found = asyncio.run(silences())[identity]
    assert (found.by, found.comment) == ("test", "new board")


def test_a_peer_answers_where_the_first_is_away(
    alertmanager: str, new_port: Callable[[], int]
) -> None:
    away = f"http://127.0.0.1:{new_port()}"
    assert listed(alertmanager, lambda found: isinstance(found, list), away, away) is not None
