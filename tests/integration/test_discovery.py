"""A real Prometheus scrapes what the real remediator's host list names, by http_sd and by file_sd."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetmedic.stack import binaries
from fleetmedic.stack.config_snippets import discovered

pytestmark = pytest.mark.integration
# Prometheus itself plays every exporter: two nodes are two names of one machine.
WHERE = {"a": "127.0.0.1", "b": "localhost"}
Targets = set[tuple[str, str, str, str, str]]


@dataclass(frozen=True)
class Fleet:
    """A host list, and the Prometheus that hears of it both ways."""

    hosts: Path
    prometheus: str

    def targets(self) -> Targets:
        """Of each target that is up: the job, its cluster, node and rack, its address."""
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/targets", timeout=5) as answer:
            found = json.loads(answer.read())["data"]["activeTargets"]
        return {
            (one["scrapePool"], *(labels.get(name, "") for name in ("cluster", "node", "rack", "instance")))
            for one in found
            for labels in (one["labels"],)
            if one["health"] == "up"
        }  # fmt: skip

    def until(self, wanted: Targets) -> None:
        end = time.monotonic() + 60
        while (found := self.targets()) != wanted:
            assert time.monotonic() < end, found
            time.sleep(0.1)


@pytest.fixture(scope="module", params=["prometheus", "prometheus-3"])
def fleet(
    request: pytest.FixtureRequest, parts: Any, new_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:  # fmt: skip
    """Remediator and Prometheus run; the list names one host."""
    _ = parts[request.param]
    folder = tmp_path_factory.mktemp("fleet")
    own, address = f"127.0.0.1:{new_port()}", f"127.0.0.1:{new_port()}"
    hosts, targets = folder / "hosts.yml", folder / "targets.json"
    hosts.write_text(_list(address, "a"))
    (folder / "token").write_text("0123456789abcdef0123")
    (folder / "remediator.yml").write_text(
        f"webhook_token_file: {folder}/token\ncluster: {{adapter: memory, name: main}}\n"
        "without_alertmanager: true\n"
        f"discovery: {{hosts: {hosts}, file_sd: {targets}}}\n"
    )
    keep = {"regex": "__meta_fleetmedic_(.+)", "action": "labelmap"}
    asked = discovered(f"http://{own}", folder / "token")
    asked["http_sd_configs"][0]["refresh_interval"] = "1s"
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "http", **asked, "relabel_configs": [keep]},
            {
                "job_name": "file",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
                "relabel_configs": [keep],
            },
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    commands = [
        [
            sys.executable, "-m", "fleetmedic.cli", "remediator", "serve",
            "--config", f"{folder}/remediator.yml", "--data-dir", f"{folder}/data",
            "--web.listen-address", own,
        ],
        [
            *binaries.command(request.param), f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={address}",
        ],
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        processes = [subprocess.Popen(one, stdout=log, stderr=log) for one in commands]
    try:
        _ready(f"http://{address}/-/ready", folder / "log")
        yield Fleet(hosts, f"http://{address}")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def _ready(url: str, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.1)


def _list(address: str, *nodes: str) -> str:
    port = address.rpartition(":")[2]
    rows = [f"- {{node: {node}, address: '{WHERE[node]}:{port}', labels: {{rack: r-{node}}}}}" for node in nodes]  # fmt: skip
    return "\n".join(["hosts:", *rows, ""])


def _wanted(address: str, *nodes: str) -> Targets:
    port = address.rpartition(":")[2]
    return {
        (job, "main", node, f"r-{node}", f"{WHERE[node]}:{port}")
        for job in ("http", "file")
        for node in nodes
    }


def test_hosts_come_and_go_without_a_restart_and_a_bad_list_takes_nobody_away(fleet: Fleet) -> None:
    address = fleet.prometheus
    fleet.until(_wanted(address, "a"))
    fleet.hosts.write_text(_list(address, "a", "b"))
    fleet.until(_wanted(address, "a", "b"))
    fleet.hosts.write_text("hosts: [")
    bad = time.monotonic()
    while time.monotonic() < bad + 4:  # several refreshes of both kinds
        assert fleet.targets() == _wanted(address, "a", "b")
        time.sleep(0.2)
    fleet.hosts.write_text(_list(address, "b"))
    fleet.until(_wanted(address, "b"))
