"""What the containers' first step makes, run on a folder of the test: secrets, machines, rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetmedic.hardware.state import Hardware
from remediator.settings import load_settings
from rules.settings import read_settings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose"


def _run(
    state: Path, *arguments: str, where: Path = COMPOSE, **environment: str
) -> subprocess.CompletedProcess[str]:
    given = {"FLEETMEDIC_STATE_DIR": str(state), "FLEETMEDIC_NODES": "2"} | environment
    return subprocess.run(
        [sys.executable, str(where / "init.py"), *arguments], env={**os.environ, **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _init(state: Path, *arguments: str, **environment: str) -> str:
    done = _run(state, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with the folders that the image brings, after the first step ran once."""
    made = tmp_path_factory.mktemp("state")
    for folder in (
        "secrets",
        "alertmanager",
        "prometheus/rules",
        "prometheus-config",
        "hardware",
        "exporter",
        "progress",
    ):
        (made / folder).mkdir(parents=True)
    _init(made)
    return made


def test_secrets_are_made_once_and_read_by_the_group_alone(state: Path) -> None:
    files = {path.name: path.read_text() for path in (state / "secrets").iterdir()}
    assert set(files) == {"webhook.token", "grafana.password"}
    assert all(len(secret) >= 32 for secret in files.values())
    assert len(set(files.values())) == 2
    modes = {path.stat().st_mode & 0o777 for path in (state / "secrets").iterdir()}
    assert modes == {0o640}
    Hardware(state / "hardware").change("node1", 0, lost=True)
    _init(state)
    assert {path.name: path.read_text() for path in (state / "secrets").iterdir()} == files
    assert Hardware(state / "hardware").gpu("node1", 0).lost


def test_there_are_machines_with_their_folders(state: Path) -> None:
    assert Hardware(state / "hardware").nodes() == ["node1", "node2"]
    assert (state / "exporter" / "node2").is_dir()
    assert (state / "progress" / "node2").is_dir()


def _yaml(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((COMPOSE / name).read_text())
    return read


def _prometheus(state: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        (state / "prometheus-config" / "prometheus.yml").read_text()
    )
    return config


def _targets(state: Path, job: str) -> list[str]:
    jobs = {one["job_name"]: one["static_configs"] for one in _prometheus(state)["scrape_configs"]}
    return [target for group in jobs.get(job, []) for target in group["targets"]]


def test_prometheus_scrapes_the_machines_that_there_are(state: Path) -> None:
    _init(state)
    assert _targets(state, "node") == ["exporter-node1:9410", "exporter-node2:9410"]


def test_profiles_add_their_parts_in_any_order_until_the_next_plain_start(state: Path) -> None:
    _init(state)
    plain = _prometheus(state)
    _init(state, "vm")
    _init(state, "ha")
    _init(state, "ha")
    told = _prometheus(state)["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert told == ["alertmanager:9093", "alertmanager-2:9093", "alertmanager-3:9093"]
    assert _targets(state, "alertmanager") == told
    assert _targets(state, "prometheus") == ["prometheus:9090", "prometheus-2:9090"]
    assert _targets(state, "victoriametrics") == ["victoriametrics:8428"]
    written = _prometheus(state)["remote_write"]
    assert [one["url"] for one in written] == ["http://victoriametrics:8428/api/v1/write"]
    _init(state)
    assert _prometheus(state) == plain


def test_with_a_fleet_prometheus_asks_the_remediator_which_machines_there_are(
    state: Path, tmp_path: Path
) -> None:
    for folder in state.iterdir():
        (tmp_path / folder.name).mkdir()
    (tmp_path / "prometheus/rules").mkdir()
    _init(tmp_path, FLEETMEDIC_GPUS="fleet")
    jobs = {one["job_name"]: one for one in _prometheus(tmp_path)["scrape_configs"]}
    (asked,) = jobs["node"]["http_sd_configs"]
    assert asked["url"] == "http://remediator:9095/sd/targets"
    assert asked["authorization"]["credentials_file"] == "/state/secrets/webhook.token"
    assert "static_configs" not in jobs["node"]
    assert "service" not in jobs, "nobody serves there"
    assert not list((tmp_path / "hardware").iterdir())


def test_with_real_gpus_there_is_this_machine_and_nothing_simulated(
    state: Path, tmp_path: Path
) -> None:
    for folder in state.iterdir():
        (tmp_path / folder.name).mkdir()
    (tmp_path / "prometheus/rules").mkdir()
    _init(tmp_path, FLEETMEDIC_GPUS="real")
    assert _targets(tmp_path, "node") == ["exporter-node1:9410"]
    assert _targets(tmp_path, "service") == [], "nobody serves there"
    assert not list((tmp_path / "hardware").iterdir())
    assert (tmp_path / "exporter" / "node1").is_dir()


def test_prometheus_finds_the_rules_where_its_configuration_looks(state: Path) -> None:
    kinds = ("static", "generated")
    assert _prometheus(state)["rule_files"] == [f"/etc/prometheus/rules/{k}/*.yml" for k in kinds]
    assert list((state / "prometheus/rules/static").glob("*.yml"))
    assert (state / "prometheus" / "rules" / "generated").is_dir()


def test_alertmanager_posts_to_the_remediator_with_the_token(state: Path) -> None:
    text = (state / "alertmanager" / "alertmanager.yml").read_text()
    config = yaml.safe_load(text)
    assert "http://remediator:9095/api/v1/alerts" in text
    assert "/state/secrets/webhook.token" in text
    assert all(one.startswith("/etc/alertmanager/templates") for one in config.get("templates", []))


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """The folder of the first step, whose notifications.yml a test may edit."""
    shutil.copytree(COMPOSE, tmp_path / "compose")
    return tmp_path / "compose"


def test_alertmanager_gets_the_notifications_that_the_remediator_reads(
    state: Path, edited: Path
) -> None:
    file = edited / "notifications.yml"
    file.write_text("maintenance: [{name: rack, match: {node: node2}, windows: [{}]}]")
    assert _run(state, where=edited).returncode == 0
    config = yaml.safe_load((state / "alertmanager" / "alertmanager.yml").read_text())
    assert [one["name"] for one in config["time_intervals"]] == ["maintenance-rack"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    there = _yaml("remediator.yml")["notify"]["file"]
    assert f"./deploy/compose/notifications.yml:{there}:ro" in services["remediator"]["volumes"]
    assert "./deploy/compose:/opt/compose:ro" in services["init"]["volumes"]


def test_wrong_notifications_end_the_first_step_with_one_sentence(
    state: Path, edited: Path
) -> None:
    (edited / "notifications.yml").write_text("quiet: [{weekdays: [funday]}]")
    done = _run(state, where=edited)
    assert done.returncode == 1
    assert "'funday' is not a weekday" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["remediator.yml", "remediator-observe.yml", "remediator-fleet.yml"]
)
def test_the_remediators_settings_are_accepted(name: str) -> None:
    read = load_settings(COMPOSE / name)
    assert read.adapter == "local"
    assert _yaml(name)["notify"]["file"] == "/etc/fleetmedic/notifications.yml"
    assert str(read.level) == ("repair" if name == "remediator.yml" else "observe")
    assert read.alertmanager_settle == 15


def test_the_detectors_settings_are_accepted() -> None:
    assert read_settings(COMPOSE / "rules.yml").rules_dir == "/state/prometheus/rules/generated"
