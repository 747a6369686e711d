"""The sources of an exporter, depending on its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.boot import ProcBoot
from exporter.collector_spec import CollectorContext
from exporter.collectors.allocation import SERVICES
from exporter.gpu_states import INTERVALS, GpuStates
from exporter.owners.registry import OWNER_FLAGS, owners, services
from exporter.registry import COLLECTORS
from fleetmedic.progress.process import INITIAL_NAMESPACE


@pytest.fixture
def parts(tmp_path: Path) -> CollectorContext:
    gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    nowhere = tmp_path / "nowhere"

    def log(event: str, **_: Any) -> None:
        raise AssertionError(event)

    return CollectorContext(
        gpu_states, INTERVALS, ProcBoot(nowhere), nowhere, nowhere, tmp_path, "n1", None, None,
        has_gpus=True, log=log, sysfs=nowhere,
        flags={
            "collector.allocation.kubelet-dir": tmp_path / "kubelet",
            "collector.allocation.slurm-jobs": tmp_path / "jobs",
            "collector.allocation.services": "one, two,,",
        },
    )  # fmt: skip


def test_every_scheduler_of_the_machine_is_looked_for_and_none_is_here(
    parts: CollectorContext,
) -> None:
    found = owners(parts)
    names = ["kubelet", "kubelet_claims", "slurm_notes", "slurm_steps"]
    assert [source.name for source in found] == names
    assert [source.is_present() for source in found] == [False] * 4


def test_each_is_here_where_its_flag_says(parts: CollectorContext, tmp_path: Path) -> None:
    (tmp_path / "kubelet/device-plugins").mkdir(parents=True)
    (tmp_path / "kubelet/device-plugins/kubelet_internal_checkpoint").touch()
    (tmp_path / "kubelet/dra_manager_state").touch()
    (tmp_path / "jobs").mkdir()
    here = {source.name for source in owners(parts) if source.is_present()}
    assert here == {"kubelet", "kubelet_claims", "slurm_notes"}


def test_the_embedded_cluster_comes_first_where_it_was_given(
    parts: CollectorContext, tmp_path: Path
) -> None:
    found = owners(replace(parts, cluster_dir=tmp_path))
    assert found[0].name == "local"
    assert found[0].is_present()


def test_this_machines_schedulers_are_not_asked_about_simulated_gpus(
    parts: CollectorContext, tmp_path: Path
) -> None:
    assert owners(replace(parts, simulated=True)) == ()
    found = owners(replace(parts, simulated=True, cluster_dir=tmp_path))
    assert [source.name for source in found] == ["local"]


def test_services_are_those_given_else_those_known(parts: CollectorContext) -> None:
    assert services(parts) == ("one", "two")
    assert services(replace(parts, flags={})) == SERVICES


def test_every_setting_begins_with_the_collectors_name() -> None:
    assert all(flag.name.startswith("collector.allocation.") for flag in OWNER_FLAGS)


@pytest.mark.parametrize(
    ("simulated", "space", "said"),
    [(False, 7, 1), (False, INITIAL_NAMESPACE, 0), (False, 0, 0), (True, 7, 0)],
)
def test_in_a_container_it_is_told_that_processes_of_others_are_not_seen(
    parts: CollectorContext, monkeypatch: pytest.MonkeyPatch, simulated: bool, space: int, said: int
) -> None:
    monkeypatch.setattr("exporter.registry.pid_namespace", lambda: space)
    events: list[str] = []
    given = replace(parts, simulated=simulated, log=lambda event, **_: events.append(event))
    assert COLLECTORS.get("allocation").make(given) is not None
    assert events == ["unowned_processes_unknown"] * said
