"""What the containers' first step makes, run on a folder of the test: secrets, machines, rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel import settings
from remediator.settings import load_settings
from rules.settings import read_settings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose"


def _init(state: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(COMPOSE / "init.py")],
        env={**os.environ, "FLEETMEDIC_STATE_DIR": str(state), "FLEETMEDIC_NODES": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
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


def test_prometheus_finds_the_rules_where_its_configuration_looks(state: Path) -> None:
    configured = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["rule_files"]
    assert list((state / "prometheus").glob(configured[0]))
    assert configured == ["rules/static/*.yml", "rules/recording/*.yml", "rules/generated/*.yml"]
    assert (state / "prometheus" / "rules" / "generated").is_dir()


def test_alertmanager_posts_to_the_remediator_with_the_token(state: Path) -> None:
    text = (state / "alertmanager" / "alertmanager.yml").read_text()
    config = yaml.safe_load(text)
    assert "http://remediator:9095/api/v1/alerts" in text
    assert "/state/secrets/webhook.token" in text
    assert all(one.startswith("/etc/alertmanager/templates") for one in config.get("templates", []))


@pytest.mark.parametrize("name", ["remediator.yml", "remediator-observe.yml"])
def test_the_remediators_settings_are_accepted(name: str) -> None:
    read = load_settings(COMPOSE / name)
    assert read.adapter == "local"
    assert str(read.level) == ("observe" if "observe" in name else "repair")


def test_the_detectors_settings_are_accepted() -> None:
    assert read_settings(COMPOSE / "rules.yml").rules_dir == "/state/prometheus/rules/generated"


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    source = settings.parse_yaml(
        (provisioning / "datasources" / "prometheus.yml").read_text(), "datasource"
    )
    provider = settings.parse_yaml(
        (provisioning / "dashboards" / "fleetmedic.yml").read_text(), "provider"
    )
    assert isinstance(source, dict)
    assert isinstance(provider, dict)
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert provider["providers"][0]["options"]["path"] == "/etc/grafana/dashboards"
