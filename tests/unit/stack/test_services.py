"""The table of processes: all on loopback, each with its own command."""

from __future__ import annotations

from pathlib import Path

from fleetmedic.stack.plan import StackOptions, decide
from fleetmedic.stack.services import health_urls, services


def table(*, gpus_found: bool) -> dict[str, tuple[str, ...]]:
    plan = decide(StackOptions(state_dir=Path("/state")), gpus_found=gpus_found)
    return {one.name: one.command for one in services(plan, lambda name: [f"/bin/{name}"])}


def test_a_simulated_stack_has_an_exporter_for_each_node() -> None:
    commands = table(gpus_found=False)
    assert list(commands) == [
        "prometheus", "alertmanager", "localcluster", "exporter-node1", "exporter-node2",
        "exporter-node3", "exporter-node4", "rules", "remediator",
    ]  # fmt: skip
    assert "--path.kmsg=/state/hardware/node2/kmsg" in commands["exporter-node2"]
    assert "--source=simulated" in commands["exporter-node2"]


def test_on_real_gpus_one_exporter_reads_nvml_and_the_kernels_own_log() -> None:
    commands = table(gpus_found=True)
    exporters = [name for name in commands if name.startswith("exporter-")]
    assert len(exporters) == 1
    assert {"--source=nvml", "--path.kmsg=/dev/kmsg"} <= set(commands[exporters[0]])
    assert not any("hardware.dir" in argument for argument in commands[exporters[0]])
    assert "--no-pool" in commands["localcluster"]


def test_everything_listens_on_loopback_only() -> None:
    for command in table(gpus_found=False).values():
        listens = [part for part in command if part.startswith("--web.listen-address")]
        assert all("=127.0.0.1:" in part for part in listens)


def test_readiness_asks_every_listener_and_the_pool() -> None:
    plan = decide(StackOptions(state_dir=Path("/state")), gpus_found=False)
    urls = health_urls(plan, services(plan, lambda name: [name]))
    assert set(urls) == set(plan.ports)
