"""The detectors beside a real Prometheus that was given a simulated yesterday."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fleetmedic.hardware.state import Hardware
from fleetmedic.stack.history import backfill
from rules.detectors.registry import DETECTORS
from rules.history import Prometheus
from rules.publish import PublishError, PublishPaths, publish

pytestmark = pytest.mark.integration
FILES = DETECTORS.names()
EVIL = "groups: [{name: evil, rules: [{record: a:b, expr: 'up{'}]}]\n"


@dataclass
class Stand:
    """A Prometheus with history, and where the detectors put their files."""

    url: str
    folder: Path
    promtool: Path

    @property
    def generated(self) -> Path:
        return self.folder / "generated"

    @property
    def settings(self) -> Path:
        return self.folder / "rules.yml"


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def until(true: Callable[[], bool], seconds: float, what: str) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"{what} did not come within {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - began


def page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""


@pytest.fixture(scope="module")
def stand(
    parts: dict[str, Path], new_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("detectors")
    hardware = Hardware(folder / "hardware")
    hardware.create(nodes=4, gpus=8)
    ports = {f"node{n}": 9409 + n for n in range(1, 5)}
    report = backfill(parts["promtool"], hardware, folder / "data", ports, time.time())
    assert report.samples > 100_000
    port = new_port()
    (folder / "generated").mkdir()
    config = {"rule_files": ["generated/*.yml"], "global": {"evaluation_interval": "1s"}}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    found = Stand(f"http://127.0.0.1:{port}", folder, parts["promtool"])
    settings = {
        "prometheus_url": found.url, "rules_dir": str(found.generated),
        "work_dir": str(folder / "work"), "promtool": str(parts["promtool"]), "factor": 30,
        "interval": "1s", "runbook_base": "http://127.0.0.1:1/runbooks",
    }  # fmt: skip
    found.settings.write_text(yaml.safe_dump(settings))
    command = (
        parts["prometheus"], f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle", "--log.level=error",
    )  # fmt: skip
    with running(*command):
        until(lambda: "Ready" in page(f"{found.url}/-/ready"), 20, "Prometheus")
        yield found


def test_the_service_puts_rules_live_keeps_them_and_leaves_in_time(
    stand: Stand, new_port: Callable[[], int]
) -> None:
    address = f"127.0.0.1:{new_port()}"
    command = (
        sys.executable, "-m", "fleetmedic.cli", "rules", "serve", "--config", stand.settings,
        "--web.listen-address", address,
    )  # fmt: skip
    with running(*command) as service:
        until(
            lambda: all((stand.generated / f"{name}.yml").exists() for name in FILES), 60, "rules"
        )
        prometheus = Prometheus(stand.url)
        until(lambda: bool(prometheus.rule_names("detector-gpu-covariance")), 5, "the group")
        assert "GpuPeerOutlier" in (prometheus.rule_names("detector-peer-band") or ())
        until(lambda: "detector_threshold{" in page(f"http://{address}/metrics"), 5, "a threshold")
        metrics = page(f"http://{address}/metrics")
        for name in FILES:
            assert f'detector_run_success{{detector="{name}"}} 1.0' in metrics
            assert f'detector_last_run_timestamp_seconds{{detector="{name}"}}' in metrics
        assert "detector_score{" not in metrics, "nobody works now: unknown is not zero"

        good = (stand.generated / "peer_band.yml").read_text()
        (stand.generated / "peer_band.yml").write_text("groups: []\n")
        until(lambda: (stand.generated / "peer_band.yml").read_text() == good, 5, "the repair")
        began = time.monotonic()
        service.send_signal(signal.SIGTERM)
        assert service.wait(5) == 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (EVIL, "lint"),
        ("groups:\n- name: g\n  rules:\n  - {record: 'a:b:c', expr: up, for: 5m}\n", "promtool"),
        ("groups: [{name: g, rules: [{record: 'a:b:c', expr: up}]}]\n", "not loaded"),
    ],
    ids=["unparsable", "refused by promtool", "another group than promised"],
)
def test_a_broken_candidate_never_replaces_a_good_file(stand: Stand, text: str, gate: str) -> None:
    places = PublishPaths(stand.folder / "work", stand.generated, stand.promtool)
    prometheus = Prometheus(stand.url)
    good = "groups: [{name: good, rules: [{record: 'x:up:sum', expr: sum(up)}]}]\n"
    publish("candidate", good, "good", places, prometheus)
    with pytest.raises(PublishError, match=gate):
        publish("candidate", text, "g2", places, prometheus)
    assert (stand.generated / "candidate.yml").read_text() == good
    assert prometheus.rule_names("good") == {"x:up:sum"}


def test_a_prometheus_that_refuses_to_reload_keeps_the_former_file(stand: Stand) -> None:
    places = PublishPaths(stand.folder / "work", stand.generated, stand.promtool)
    prometheus = Prometheus(stand.url)
    good = "groups: [{name: good2, rules: [{record: 'y:up:sum', expr: sum(up)}]}]\n"
    publish("other", good, "good2", places, prometheus)
    strange = stand.generated / "strange.yml"
    strange.write_text(EVIL)
    try:
        with pytest.raises(PublishError, match="failed to reload"):
            publish("other", good.replace("sum(up)", "count(up)"), "good2", places, prometheus)
    finally:
        strange.unlink()
    assert (stand.generated / "other.yml").read_text() == good


def test_what_is_already_live_is_not_loaded_again(stand: Stand) -> None:
    places = PublishPaths(stand.folder / "work", stand.generated, stand.promtool)
    text = "groups: [{name: same, rules: [{record: 'z:up:sum', expr: sum(up)}]}]\n"
    assert publish("same", text, "same", places, Prometheus(stand.url))
    assert not publish("same", text, "same", places, Prometheus(stand.url))


def test_fit_says_what_was_learned(stand: Stand) -> None:
    command = (sys.executable, "-m", "fleetmedic.cli", "rules", "fit", "--config", stand.settings)
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "peer_band: ok" in done.stdout
    assert "alerts in the backtest on this history: 0" in done.stdout
