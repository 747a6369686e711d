"""docker-compose.yml is read by a real Compose (2.x), alone and with the override for real GPUs.

Compose is taken from PATH, or from FLEETMEDIC_HOME/parts/compose; where it is in neither place it is
fetched there as the later releases of other parts are (fleetmedic/stack/newer_releases.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import newer_releases

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.integration


def _run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=180,
        env={**os.environ, **environment},
    )  # fmt: skip


def _version(*command: str) -> tuple[int, ...]:
    try:
        told = _run(*command, "version", "--short").stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.match(r"v?(\d+)\.(\d+)", told)
    return tuple(int(part) for part in match.groups()) if match else ()


def _installed() -> list[str] | None:
    for command in (
        ["docker", "compose"],
        ["docker-compose"],
        [str(newer_releases.path("compose"))],
    ):
        if shutil.which(command[0]) and _version(*command) >= (2, 0):
            return command
    return None


def _fetch() -> list[str]:
    """Download and unpack Compose among the other parts, or skip and say why not."""
    try:
        newer_releases.fetch("compose")
    except UserError as error:
        pytest.skip(f"no Compose 2 on PATH: {error}")
    found = _installed()
    if not found:
        pytest.skip("the fetched Compose does not run on this machine")
    return found


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """The command line of a Compose of version 2 or later."""
    return _installed() or _fetch()


def _config(compose: list[str], *files: str, **environment: str) -> dict[str, Any]:
    options = [word for file in files for word in ("-f", file)]
    done = _run(*compose, *options, "config", "--format", "json", **environment)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_compose_accepts_the_file_without_a_word(compose: list[str]) -> None:
    done = _run(*compose, "-f", "docker-compose.yml", "config", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_service_is_resolved_with_its_image_and_its_health(compose: list[str]) -> None:
    services = _config(compose, "docker-compose.yml")["services"]
    assert set(services) == {
        "init", "prometheus", "alertmanager", "grafana", "cluster", "rules", "remediator",
        "exporter-node1", "exporter-node2", "exporter-node3", "exporter-node4",
    }  # fmt: skip
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert name == "init" or service["healthcheck"]["test"][0] == "CMD", name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name


def test_the_example_environment_is_the_default(compose: list[str]) -> None:
    plain = _config(compose, "docker-compose.yml")
    options = ["--env-file", ".env.example", "-f", "docker-compose.yml"]
    done = _run(*compose, *options, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == plain


def test_the_example_environment_names_what_compose_reads(compose: list[str]) -> None:
    done = _run(
        *compose,
        "-f",
        "docker-compose.yml",
        "-f",
        "compose.fleet.yml",
        "config",
        "--variables",
        "--format",
        "json",
    )
    assert done.returncode == 0, done.stderr
    read = {name: one["DefaultValue"] for name, one in json.loads(done.stdout).items()}
    example = dict(
        line.lstrip("#").split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if re.match(r"#?[A-Z_]+=", line)
    )
    assert example == read | {"COMPOSE_PROFILES": ""}


def test_ports_and_images_can_be_chosen(compose: list[str]) -> None:
    services = _config(
        compose, "docker-compose.yml", GRAFANA_PORT="13000", PROMETHEUS_IMAGE="mirror/prometheus:1"
    )["services"]
    assert services["grafana"]["ports"][0]["published"] == "13000"
    assert services["prometheus"]["image"] == "mirror/prometheus:1"


def test_with_real_gpus_the_remediator_only_watches(compose: list[str]) -> None:
    services = _config(compose, "docker-compose.yml", "compose.nvidia.yml")["services"]
    assert "--source=nvml" in services["exporter-node1"]["command"]
    mounts = {mount["target"]: mount for mount in services["remediator"]["volumes"]}
    assert mounts["/etc/fleetmedic/remediator.yml"]["source"].endswith("remediator-observe.yml")
    assert {name for name in services if name.startswith("exporter")} == {"exporter-node1"}
    assert services["init"]["environment"]["FLEETMEDIC_GPUS"] == "real"
    # the cluster's name for the machine is that under which Prometheus knows it
    assert services["cluster"]["hostname"] == "node1"
    hardware = [mount["source"] for mount in services["cluster"]["volumes"]]
    assert "hardware" not in hardware


def test_with_a_fleet_prometheus_asks_for_the_list_and_nothing_is_simulated(
    compose: list[str], tmp_path: Path
) -> None:
    services = _config(
        compose, "docker-compose.yml", "compose.fleet.yml",
        FLEETMEDIC_FLEET=str(tmp_path), COMPOSE_PROFILES="ha",
    )["services"]  # fmt: skip
    assert not {name for name in services if name.startswith("exporter")}
    mounts = {mount["target"]: mount for mount in services["remediator"]["volumes"]}
    assert mounts["/etc/fleetmedic/remediator.yml"]["source"].endswith("remediator-fleet.yml")
    assert (mounts["/etc/fleetmedic/fleet"]["source"], mounts["/etc/fleetmedic/fleet"]["read_only"]) == (str(tmp_path), True)  # fmt: skip
    for name in ("prometheus", "prometheus-2"):
        assert "10001" in services[name]["group_add"]
        assert "secrets" in {mount["source"] for mount in services[name]["volumes"]}
    for name in ("init", "init-ha"):
        assert services[name]["environment"]["FLEETMEDIC_GPUS"] == "fleet"


def test_the_profiles_bring_their_services(compose: list[str]) -> None:
    plain = set(_config(compose, "docker-compose.yml")["services"])
    every = set(_config(compose, "docker-compose.yml", COMPOSE_PROFILES="ha,vm")["services"])
    assert every - plain == {
        "init-ha", "prometheus-2", "alertmanager-2", "alertmanager-3", "init-vm", "victoriametrics",
    }  # fmt: skip


@pytest.mark.parametrize("profiles", [(), ("ha", "vm")])
def test_prometheus_and_alertmanager_accept_their_configuration(
    parts: dict[str, Path], tmp_path: Path, profiles: tuple[str, ...]
) -> None:
    for folder in ("secrets", "alertmanager", "prometheus/rules", "prometheus-config", "hardware"):
        (tmp_path / folder).mkdir(parents=True)
    for step in ((), *((profile,) for profile in profiles)):
        init = (sys.executable, "deploy/compose/init.py", *step)
        made = _run(*init, FLEETMEDIC_STATE_DIR=str(tmp_path))
        assert made.returncode == 0, made.stderr
    prometheus = str(tmp_path / "prometheus-config" / "prometheus.yml")
    done = _run(str(parts["promtool"]), "check", "config", "--syntax-only", prometheus)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "alertmanager" / "alertmanager.yml"
    there = config.read_text().replace("/etc/alertmanager", str(config.parent))
    config.write_text(there.replace("/state/secrets", str(tmp_path / "secrets")))
    checked = _run(str(parts["amtool"]), "check-config", str(config))
    assert checked.returncode == 0, checked.stdout + checked.stderr
