"""docker-compose.yml is read by a real Compose (2.x), alone and with the override for real GPUs.

Compose is taken from PATH, or from FLEETMEDIC_HOME/parts/compose; where it is in neither place it is
fetched there from the machine's own apt archive (a later suite of it, in a private apt state:
nothing is installed and the machine's package lists stay as they are).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fleetmedic.kernel.home import home

ROOT = Path(__file__).resolve().parents[2]
# Debian's later suites, newest last; the first that offers Compose 2 is taken.
SUITES = ("trixie", "forky", "sid")
WHERE_IT_LIES = (
    "usr/libexec/docker/cli-plugins/docker-compose",
    "usr/lib/docker/cli-plugins/docker-compose",
    "usr/bin/docker-compose",
)

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
    unpacked = [str(home() / "parts" / "compose" / place) for place in WHERE_IT_LIES]
    for command in (["docker", "compose"], ["docker-compose"], *([path] for path in unpacked)):
        if shutil.which(command[0]) and _version(*command) >= (2, 0):
            return command
    return None


def _archive() -> str:
    """The address of the Debian archive in the machine's own apt sources."""
    told = _run("apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)").stdout
    for line in told.splitlines():
        address, release, component = line.split("|")
        if component == "main" and "security" not in address and "-" not in release:
            return address
    pytest.skip("this machine's apt sources name no Debian archive")


def _fetch() -> list[str]:
    """Download and unpack Compose below FLEETMEDIC_HOME/parts, or skip and say why not."""
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            pytest.skip(f"no Compose 2 on PATH, and no {program} to fetch it with")
    address = _archive()
    parts = home() / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parts, prefix=".compose-") as name:
        work = Path(name)
        for folder in ("lists/partial", "cache/archives/partial", "root"):
            (work / folder).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text(
            "".join(f"deb {address} {suite} main\n" for suite in SUITES)
        )
        options = [
            f"-oDir::State={work}", f"-oDir::State::lists={work}/lists",
            f"-oDir::State::status={work}/status", f"-oDir::Cache={work}/cache",
            f"-oDir::Etc::sourcelist={work}/sources.list", "-oDir::Etc::sourceparts=-",
            "-oAPT::Sandbox::User=", "-oAcquire::Languages=none", "-oAcquire::http::Timeout=20",
        ]  # fmt: skip
        try:
            _run("apt-get", *options, "-qq", "update", cwd=work)
            got = _run("apt-get", *options, "-qq", "download", "docker-compose", cwd=work)
        except subprocess.TimeoutExpired:
            pytest.skip("no Compose 2 on PATH, and the archive does not answer")
        packages = list(work.glob("docker-compose_*.deb"))
        if not packages:
            pytest.skip(f"no Compose 2 on PATH, and none could be fetched: {got.stderr[-200:]}")
        _run("dpkg-deb", "-x", str(packages[0]), str(work / "root"), cwd=work)
        shutil.rmtree(parts / "compose", ignore_errors=True)
        (work / "root").replace(parts / "compose")
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


def test_ports_and_images_can_be_chosen(compose: list[str]) -> None:
    services = _config(
        compose, "docker-compose.yml", GRAFANA_PORT="13000", PROMETHEUS_IMAGE="mirror/prometheus:1"
    )["services"]
    assert services["grafana"]["ports"][0]["published"] == "13000"
    assert services["prometheus"]["image"] == "mirror/prometheus:1"


def test_with_real_gpus_the_remediator_only_watches(compose: list[str]) -> None:
    services = _config(compose, "docker-compose.yml", "deploy/compose/gpu.yml")["services"]
    assert "--source=nvml" in services["exporter-node1"]["command"]
    mounts = {mount["target"]: mount for mount in services["remediator"]["volumes"]}
    assert mounts["/etc/fleetmedic/remediator.yml"]["source"].endswith("remediator-observe.yml")


def test_prometheus_and_alertmanager_accept_their_configuration(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    done = _run(
        str(parts["promtool"]), "check", "config", "--syntax-only", "deploy/compose/prometheus.yml"
    )
    assert done.returncode == 0, done.stderr
    for folder in ("secrets", "alertmanager", "prometheus/rules"):
        (tmp_path / folder).mkdir(parents=True)
    made = _run(sys.executable, "deploy/compose/init.py", FLEETMEDIC_STATE_DIR=str(tmp_path))
    assert made.returncode == 0, made.stderr
    config = tmp_path / "alertmanager" / "alertmanager.yml"
    there = config.read_text().replace("/etc/alertmanager", str(config.parent))
    config.write_text(there.replace("/state/secrets", str(tmp_path / "secrets")))
    checked = _run(str(parts["amtool"]), "check-config", str(config))
    assert checked.returncode == 0, checked.stdout + checked.stderr
