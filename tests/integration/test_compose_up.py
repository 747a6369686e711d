"""`docker compose up`, really run: from images built here to `down --volumes`, on an engine of its own.

It is one test, since one stack is started, hurt and ended in order; its parts are subtests. The engine,
the images that cannot be pulled here, and what this asks of the machine: tests/real_docker.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_docker import engine as engines
from real_docker import images
from real_docker import stack as stacks

from fleetmedic.kernel.errors import UserError

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ("exporter", "rules", "remediator", "cluster")
# a train of thought that lasts longer than this test
TRAINING = ("python", "-m", "fleetmedic.demo.training", "--steps", "9000", "--step-seconds", "0.2")
PATIENCE = 120.0
KILLED = ("remediator", "alertmanager", "exporter-node2", "prometheus", "cluster", "rules")


def pinned(service: str) -> str:
    """The image that the file names for a service."""
    found = re.fullmatch(r"\$\{[A-Z_]+:-(.+)\}", COMPOSE[service]["image"])
    assert found
    return found[1]


def override() -> str:
    """What differs from the file that users start: images are built in the host's network, for the
    engine gives containers no way out, and Grafana, whose image cannot be had, is left out."""
    built = {
        name: {"build": {"network": "host"}} for name, one in COMPOSE.items() if "build" in one
    }
    return yaml.safe_dump({"services": {**built, "grafana": {"profiles": ["absent"]}}})


@pytest.fixture(scope="module")
def engine(steady_network: None) -> Iterator[engines.Engine]:
    """A running engine that has the stand-ins; skips where the machine refuses what engines need."""
    if why := engines.refused():
        pytest.skip(f"no Docker engine can run here: {why}")
    try:
        with engines.running() as running:
            images.base(running)
            images.programs(
                running,
                {name: pinned(name) for name in ("prometheus", "alertmanager", "victoriametrics")},
            )
            yield running
    except UserError as error:
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def stack(engine: engines.Engine, new_port: Callable[[], int]) -> stacks.Stack:
    """The stack, not yet built or started."""
    return stacks.Stack(engine, {name: new_port() for name in stacks.PORTS}, override())


def wait(what: str, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait for a true answer, and return it."""
    until = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < until, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.3)
    return found


def test_the_whole_stack_comes_up_heals_and_leaves_nothing(
    stack: stacks.Stack, subtests: pytest.Subtests, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()

    def part(story: Callable[[stacks.Stack], object]) -> None:
        with subtests.test(msg=story.__name__.replace("_", " ")):
            start = time.monotonic()
            told = story(stack)
            seconds = round(time.monotonic() - start, 1)
            record_property(story.__name__, f"{seconds} s {told or ''}")
            print(f"{seconds:6.1f} s  {story.__name__.replace('_', ' ')}  {told or ''}")

    stack.compose("build", seconds=500)
    record_property("build", f"{time.monotonic() - began:.1f} s {sizes(stack)}")
    print(f"{time.monotonic() - began:6.1f} s  images are built  {sizes(stack)}")
    began = time.monotonic()
    stack.compose("up", "--wait", "--no-build")
    record_property("up", f"{time.monotonic() - began:.1f} s")
    print(f"{time.monotonic() - began:6.1f} s  up --wait")
    for story in (
        every_service_is_healthy, nobody_is_root_or_can_change_its_image,
        secrets_are_in_no_environment_image_or_command, only_loopback_listens,
        the_webhook_refuses_who_has_no_token, people_look_with_grafanas_password,
        a_fault_is_found_remediated_and_verified, every_container_killed_in_the_middle_heals,
        profiles_are_added_to_what_runs, a_dead_sender_leaves_one_incident,
        samples_come_back_from_the_long_storage, memory_stays_below_its_limits,
        a_fleet_of_ones_own_is_scraped_from_its_list,
        down_keeps_and_with_volumes_leaves_nothing,
    ):  # fmt: skip
        part(story)


def sizes(stack: stacks.Stack) -> str:
    """The images of ours, in MB."""
    listed = stack.engine.docker("images", "--format", "{{.Repository}} {{.Size}}").splitlines()
    return ", ".join(
        line.removeprefix("fleetmedic/") for line in listed if line.startswith("fleetmedic/")
    )


def every_service_is_healthy(stack: stacks.Stack) -> None:
    wait("all are well", lambda: not stack.unwell())
    expected = {name for name, one in COMPOSE.items() if "profiles" not in one} - {"grafana"}
    assert set(stack.services()) == expected
    wait("all nodes are scraped", lambda: len(stack.query('up{job="node"} == 1')) == 4)


def nobody_is_root_or_can_change_its_image(stack: stacks.Stack) -> None:
    script = "id -u; touch /new /usr/bin/new 2>&1; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status"
    for service in set(stack.services()) - {"init"}:
        said = stack.inside(service, "sh", "-c", script)
        assert not said.startswith("0\n"), service
        assert said.count("Read-only file system") == 2, f"{service}: {said}"
        assert re.search(r"CapEff:\s+0+\n", said), f"{service}: {said}"
        assert re.search(r"CapBnd:\s+0+\n", said), f"{service}: {said}"
        assert re.search(r"NoNewPrivs:\s+1", said), f"{service}: {said}"
    for service in ("exporter-node1", "rules", "remediator", "cluster"):
        tools = "command -v cc gcc make pip pip3; ls /opt/fleetmedic/bin/pip*"
        assert stack.inside(service, "sh", "-c", f"{tools}; true").split() == [], service


def secrets_are_in_no_environment_image_or_command(stack: stacks.Stack) -> None:
    folder = "/state/secrets"
    names = stack.inside("remediator", "ls", folder).split()
    assert set(names) == {"webhook.token", "grafana.password"}
    modes = stack.inside("remediator", "stat", "-c", "%a", *(f"{folder}/{name}" for name in names))
    assert modes.split() == ["640", "640"]
    values = [stack.inside("remediator", "cat", f"{folder}/{name}").strip() for name in names]
    assert all(len(value) >= 32 for value in values)
    ids = stack.engine.docker("ps", "-aq").split()
    told = stack.engine.docker("inspect", *ids)
    for name in OURS:
        told += stack.engine.docker("history", "--no-trunc", pinned_ours(name))
    assert not any(value in told for value in values)
    for container in json.loads(stack.engine.docker("inspect", *ids)):
        for variable in container["Config"]["Env"]:
            assert not re.search(r"(?i)(password|token|secret)[^=]*=", variable), variable
    archive = stack.engine.folder / "images.tar"
    stack.engine.docker("save", "-o", str(archive), *map(pinned_ours, OURS), seconds=240)
    with archive.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as every:
        assert every.find(b"fleetmedic") > 0
        assert all(every.find(value.encode()) < 0 for value in values)
    archive.unlink()


def pinned_ours(name: str) -> str:
    """The image of one of our processes."""
    return pinned("exporter-node1" if name == "exporter" else name)


def only_loopback_listens(stack: stacks.Stack) -> None:
    published = {
        stack.ports[name] for name in ("prometheus", "alertmanager", "remediator", "rules")
    }
    heard: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and int(port, 16) in published:
                heard.setdefault(int(port, 16), set()).add(address)
    assert heard == {port: {"0100007F"} for port in published}


def the_webhook_refuses_who_has_no_token(stack: stacks.Stack) -> None:
    address = f"{stack.url('remediator')}/api/v1/alerts"
    assert stack.status(address, body=b'{"version": "4", "alerts": []}') == 401


def people_look_with_grafanas_password(stack: stacks.Stack) -> None:
    """From this machine a container is asked by way of the engine's network: that is not its loopback."""
    password = stack.inside("remediator", "cat", "/state/secrets/grafana.password").strip()
    for path in ("/", "/dashboards", "/dashboards/fleetmedic-fleet", "/api/v1/incidents"):
        address = f"{stack.url('remediator')}{path}"
        assert stack.status(address) == 401
        assert stack.status(address, password=password) == 200
    order = f"{stack.url('remediator')}/api/v1/pause"
    assert stack.status(order, body=b'{"by": "anybody"}', password=password) == 401


def verified(stack: stacks.Stack, target: str) -> bool:
    """Whether the only incident of a target was repaired, and found healthy by tests and metrics."""
    found = stack.incidents(target)
    assert len(found) <= 1, found
    if not found or found[0]["state"] not in ("PROBATION", "CLOSED"):
        return False
    done = [step["action"] for step in found[0]["steps"] if step["state"] == "DONE"]
    assert {"quarantine_gpu", "reset_gpu", "verify"} <= set(done), done
    return True


def a_fault_is_found_remediated_and_verified(stack: stacks.Stack) -> str:
    stack.inside(
        "cluster", "fleetmedic", "run", "--gpus", "4", "--name", "train-a", "--", *TRAINING
    )
    job = wait("the job runs", lambda: next((j for j in stack.jobs() if j["node"]), None))
    began, before = time.monotonic(), job["restarts"]
    stack.inject(f"{job['node']}/{job['gpus'][1]}", "lost")
    wait("it is verified", lambda: verified(stack, f"gpu/{job['node']}/{job['gpus'][1]}"))
    seconds = time.monotonic() - began
    now = stack.jobs()[0]
    assert now["state"] == "RUNNING"
    assert now["restarts"] + now["moves"] > before
    assert (now["node"], now["gpus"]) != (job["node"], job["gpus"])
    return f"fault to verified {seconds:.1f} s"


def every_container_killed_in_the_middle_heals(stack: stacks.Stack) -> str:
    target = "gpu/node2/5"
    before = {name: stack.inspect(name)["RestartCount"] for name in KILLED}
    began = time.monotonic()
    stack.inject("node2/5", "lost")
    wait("it is seen", lambda: stack.incidents(target))
    for name in KILLED:
        stack.kill(name)
    wait("it is verified", lambda: verified(stack, target))
    seconds = time.monotonic() - began
    wait("all are well", lambda: not stack.unwell())
    after = {name: stack.inspect(name)["RestartCount"] for name in KILLED}
    assert all(after[name] > before[name] for name in KILLED), after
    wait("the job goes on", lambda: any(job["state"] == "RUNNING" for job in stack.jobs()))
    return f"{len(KILLED)} killed within one incident; fault to verified {seconds:.1f} s"


def profiles_are_added_to_what_runs(stack: stacks.Stack) -> None:
    stack.profiles = ("ha", "vm")
    stack.compose("up", "--wait", "--no-build")
    assert not stack.unwell()
    assert set(stack.services()) == set(COMPOSE) - {"grafana"}
    members = "count(alertmanager_cluster_members == 3)"
    wait("three Alertmanagers know of one another", lambda: value(stack, members) == 3)
    wait("both servers are scraped", lambda: value(stack, 'sum(up{job="prometheus"})') == 2)
    wait(
        "both servers tell all of them",
        lambda: value(stack, "sum(prometheus_notifications_alertmanagers_discovered)") == 6,
    )


def value(stack: stacks.Stack, expression: str, server: str = "prometheus") -> float | None:
    """The only sample of an expression."""
    found = stack.query(expression, server)
    return float(found[0]["value"][1]) if found else None


def a_dead_sender_leaves_one_incident(stack: stacks.Stack) -> str:
    first = stack.query("alertmanager_peer_position == 0")
    sender = first[0]["metric"]["instance"].partition(":")[0]
    stack.engine.docker("update", "--restart=no", f"{stacks.PROJECT}-{sender}-1")
    sent = 'sum(alertmanager_notifications_total{integration="webhook",instance!="%s:9093"})'
    before = value(stack, sent % sender) or 0
    stack.inject("node4/2", "lost")
    wait("it is seen", lambda: stack.incidents("gpu/node4/2"))
    stack.kill(sender)
    wait("it is verified", lambda: verified(stack, "gpu/node4/2"))
    wait("another one sends", lambda: (value(stack, sent % sender) or 0) > before)
    assert len(stack.incidents("gpu/node4/2")) == 1
    stack.engine.docker("update", "--restart=unless-stopped", f"{stacks.PROJECT}-{sender}-1")
    stack.engine.docker("start", f"{stacks.PROJECT}-{sender}-1")
    members = "count(alertmanager_cluster_members == 3)"
    wait("it is back among its peers", lambda: value(stack, members) == 3)
    assert len(stack.incidents("gpu/node4/2")) == 1
    return f"{sender} was dead"


def samples_come_back_from_the_long_storage(stack: stacks.Stack) -> None:
    gpus = 'count(count by (uuid) (gpu_info{cluster="local"}))'
    wait("32 GPUs", lambda: value(stack, gpus, "victoriametrics") == 32)
    wait("its own", lambda: value(stack, 'up{job="victoriametrics"}', "victoriametrics") == 1)


def memory_stays_below_its_limits(stack: stacks.Stack) -> str:
    listed = stack.engine.docker(
        "stats", "--no-stream", "--format", "{{.Name}} {{.MemPerc}} {{.MemUsage}}"
    ).splitlines()
    told = []
    for line in listed:
        name, percent, usage = line.split(maxsplit=2)
        assert float(percent.rstrip("%")) < 90, line
        told.append(f"{name.removeprefix(stacks.PROJECT + '-')} {usage.partition(' ')[0]}")
    for service in stack.services():
        assert not stack.inspect(service)["State"]["OOMKilled"], service
    return ", ".join(told)


def a_fleet_of_ones_own_is_scraped_from_its_list(stack: stacks.Stack) -> None:
    """The simulated exporters still run, and play those of the fleet."""
    listed = "cluster: main\nhosts: [{node: gpu1, address: 'exporter-node1:9410'}%s]\n"
    (stack.fleet / "hosts.yml").write_text(listed % "")
    stack.profiles, stack.overrides = (), ("compose.fleet.yml",)
    stack.compose("up", "--wait", "--no-build")

    def up() -> set[tuple[str, str]]:
        found = [one["metric"] for one in stack.query('up{job="node"} == 1')]
        return {(one["cluster"], one["node"]) for one in found}

    wait("the node of the list is scraped", lambda: ("main", "gpu1") in up())
    (stack.fleet / "hosts.yml").write_text(
        listed % ", {node: gpu2, address: 'exporter-node2:9410'}"
    )
    wait("one more is scraped", lambda: ("main", "gpu2") in up())
    assert stack.query('gpu_up{cluster="main",node="gpu2"}')


def down_keeps_and_with_volumes_leaves_nothing(stack: stacks.Stack) -> None:
    engine = stack.engine
    token = stack.inside("remediator", "cat", "/state/secrets/webhook.token")
    stack.profiles = ("*",)
    stack.compose("down")
    assert engine.docker("ps", "-aq", "--filter", "label=com.docker.compose.project").split() == []
    assert engine.docker("network", "ls", "-q", "--filter", "type=custom").split() == []
    look = ("run", "--rm", "--network=none", "-v")
    rules = pinned_ours("rules")
    kept = engine.docker(
        *look,
        f"{stacks.PROJECT}_secrets:/state/secrets:ro",
        rules,
        "cat",
        "/state/secrets/webhook.token",
    )
    assert kept == token
    journal = engine.docker(
        *look, f"{stacks.PROJECT}_journal:/state/remediator:ro", rules, "find", "/state/remediator",
        "-name", "*.db", "-size", "+0",
    )  # fmt: skip
    assert journal.split()
    stack.compose("down", "--volumes")
    assert engine.docker("volume", "ls", "-q", "--filter", "label=com.docker.compose.project") == ""
