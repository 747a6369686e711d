"""What must hold of the containers, read without Docker: pinned, unprivileged, closed, ordered."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from fleetmedic.cli import cli

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_LIVED = [name for name in SERVICES if not name.startswith("init")]
DEFAULT = [name for name in SERVICES if "profiles" not in SERVICES[name]]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROMETHEUS: dict[str, Any] = yaml.safe_load(
    (ROOT / "deploy" / "compose" / "prometheus.yml").read_text()
)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_its_image_can_be_replaced(name: str) -> None:
    image = SERVICES[name]["image"]
    match = re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[a-z0-9/-]+:([a-z0-9.-]+)\}", image)
    assert match, image
    assert match[1] != "latest"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privilege_and_cannot_change_its_image(name: str) -> None:
    service = SERVICES[name]
    assert not str(service["user"]).startswith(("0", "root"))
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp") for mount in service["tmpfs"])
    assert not service.get("privileged")
    assert not service.get("cap_add")
    assert "mem_limit" in service
    assert "pids_limit" in service


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_reached_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port)


@pytest.mark.parametrize("name", LONG_LIVED)
def test_a_service_says_when_it_is_well(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_starts_after_what_it_needs_is_well(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other.startswith("init") else "service_healthy"
        assert how["condition"] == wanted, other
        # what a profile would start is waited for where that profile is chosen
        optional = other not in DEFAULT and name in DEFAULT
        assert how.get("required", True) is not optional or name == "prometheus-2", other
    order = list(SERVICES)

    def reaches_init(service: str, seen: frozenset[str] = frozenset()) -> bool:
        assert service not in seen, f"{service} waits for itself"
        needs = SERVICES[service].get("depends_on", {})
        return "init" in needs or any(reaches_init(one, seen | {service}) for one in needs)

    assert name == order[0] or reaches_init(name)


def test_every_volume_is_named_and_used() -> None:
    used = {
        mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service["volumes"]
        if not mount.startswith((".", "/"))
    }
    assert used == set(COMPOSE["volumes"])


def test_every_file_that_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for mount in service["volumes"]:
            if mount.startswith("."):
                assert (ROOT / mount.split(":")[0]).exists(), mount
                assert mount.endswith(":ro"), mount


def test_every_volume_of_ours_covers_a_folder_that_the_image_gives_to_our_user() -> None:
    folders = re.search(r"for folder in ([^;]+);", DOCKERFILE)
    assert folders
    ours = {f"/state/{name}" for name in folders[1].split()}
    for name, service in SERVICES.items():
        if service["image"].startswith("${FLEETMEDIC"):
            for mount in service["volumes"]:
                target = mount.split(":")[1]
                assert target in ours or mount.startswith("."), f"{name}: {mount}"


def test_every_named_limit_of_memory_fits_a_machine_of_4_gb() -> None:
    """The steps that end before the others begin do not count."""
    sizes = {"m": 1, "g": 1024}
    total = 0
    for name in set(DEFAULT) & set(LONG_LIVED):
        limit = re.fullmatch(r"(?:\$\{[A-Z]+_MEMORY:-)?(\d+)([mg])\}?", SERVICES[name]["mem_limit"])
        assert limit, name
        total += int(limit[1]) * sizes[limit[2]]
    assert total <= 4096


def test_a_profile_adds_services_and_changes_none() -> None:
    added = {name: SERVICES[name]["profiles"] for name in SERVICES if name not in DEFAULT}
    assert sorted(name for name, chosen in added.items() if chosen == ["ha"]) == [
        "alertmanager-2", "alertmanager-3", "init-ha", "prometheus-2",
    ]  # fmt: skip
    assert sorted(name for name, chosen in added.items() if chosen == ["vm"]) == [
        "init-vm", "victoriametrics",
    ]  # fmt: skip


def test_the_alertmanagers_wait_five_seconds_for_one_another() -> None:
    for name in ("alertmanager", "alertmanager-2", "alertmanager-3"):
        assert "--cluster.peer-timeout=5s" in SERVICES[name]["command"]
        peers = [word for word in SERVICES[name]["command"] if word.startswith("--cluster.peer=")]
        assert len(peers) == (0 if name == "alertmanager" else 3), "the first stands alone without"


def test_nobody_is_let_in_without_a_password_and_none_is_written_down() -> None:
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith("/state/secrets/")
    for service in SERVICES.values():
        for key in service.get("environment", {}):
            assert not re.search("PASSWORD$|TOKEN$|SECRET$", key), key


def test_prometheus_scrapes_every_service_under_the_jobs_of_the_local_stack() -> None:
    jobs = {job["job_name"]: job["static_configs"] for job in PROMETHEUS["scrape_configs"]}
    assert set(jobs) == {"node", "remediator", "rules", "prometheus", "alertmanager", "service"}
    assert [one["labels"]["node"] for one in jobs["node"]] == ["node1", "node2", "node3", "node4"]
    for targets in jobs.values():
        for group in targets:
            assert group["labels"]["cluster"] == "local"
            host = group["targets"][0].split(":")[0]
            assert host in SERVICES


def test_each_exporter_reads_its_own_machine() -> None:
    for number in range(1, 5):
        command = SERVICES[f"exporter-node{number}"]["command"]
        named = {word for part in command for word in re.findall(r"node\d", part)}
        assert named == {f"node{number}"}


def test_the_dockerfile_needs_no_syntax_image_and_leaves_no_compiler() -> None:
    assert "# syntax" not in DOCKERFILE
    assert not re.search(r"\b(gcc|g\+\+|build-essential|clang|make|curl|git)\b", DOCKERFILE)
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert [name for _, name in stages[-4:]] == ["exporter", "rules", "remediator", "cluster"]
    final = DOCKERFILE.split("FROM base AS exporter", maxsplit=1)[1]
    assert "RUN" not in final
    assert final.count("HEALTHCHECK") == final.count("LABEL org.opencontainers.image.title") == 4
    assert f'image.version="{VERSION}"' in DOCKERFILE
    assert all(source == "base" for source, _ in stages[-4:])
    assert "latest" not in DOCKERFILE
    base = DOCKERFILE.split("FROM base AS build", maxsplit=1)[0]
    assert re.findall(r"^USER (.+)$", base, re.MULTILINE)[-1] == "10001:10001"
    assert "--mount" not in DOCKERFILE


def test_every_target_is_built_by_a_service() -> None:
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built == {"exporter", "rules", "remediator", "cluster"}


def test_the_builder_gets_everything_that_the_wheel_is_made_of() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for word in " ".join(copied).split():
        assert f"!{word}" in ignore, word
        assert (ROOT / word).exists(), word


def test_the_environment_example_names_every_variable_and_its_default() -> None:
    text = "".join(
        (ROOT / name).read_text() for name in ("docker-compose.yml", "compose.fleet.yml")
    )
    wanted = dict(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", text))
    example = dict(
        line.lstrip("#").split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if re.match(r"#?[A-Z_]+=", line)
    )
    assert example == wanted | {"COMPOSE_PROFILES": ""}, "the last is Compose's own"


@pytest.mark.parametrize("name", SERVICES)
def test_a_command_of_ours_has_only_options_that_exist(name: str) -> None:
    words = SERVICES[name].get("command", [])
    if words[:1] != ["fleetmedic"]:
        return
    command: click.Command = cli
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--"):
            known = {flag for one in command.params for flag in one.opts}
            assert word.split("=")[0] in known, f"{command.name} has no {word}"
        else:
            assert isinstance(command, click.Group), word
            found = command.get_command(click.Context(command), word)
            assert found is not None, word
            command = found
    assert not isinstance(command, click.Group)
