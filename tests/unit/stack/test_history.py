from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.hardware.physics import sensor_values
from fleetmedic.hardware.state import GpuLoad, Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import history
from fleetmedic.stack.history import (
    GeneratedSeries,
    PastFault,
    PastJob,
    fleet,
    generate_series,
    schedule,
)
from rules.detectors.registry import DETECTORS

BEGIN, HOURS = 1_700_000_000.0, 24
TIMES = [BEGIN + 300 * n for n in range(HOURS * 12)]
END = TIMES[-1]


@pytest.fixture
def hardware(tmp_path: Path) -> Hardware:
    found = Hardware(tmp_path / "hardware")
    found.create(nodes=2, gpus=8)
    return found


def of(found: list[GeneratedSeries], family: str, **labels: str) -> list[GeneratedSeries]:
    return [t for t in found if t.family == family and labels.items() <= t.labels.items()]


def test_jobs_of_four_and_eight_come_and_go_and_are_over_before_the_end(hardware: Hardware) -> None:
    jobs = schedule(fleet(hardware), BEGIN, END)
    assert {len(job.gpus) for job in jobs} == {4, 8}
    assert len({job.job_id for job in jobs}) == len(jobs)
    assert all(job.job_id.startswith("past-") for job in jobs)
    assert max(job.end for job in jobs) <= END - history.QUIET_END
    assert all(job.begin < job.end for job in jobs)


def test_no_gpu_has_two_jobs_at_once(hardware: Hardware) -> None:
    jobs = schedule(fleet(hardware), BEGIN, END)
    for gpu in fleet(hardware):
        own = sorted((j.begin, j.end) for j in jobs if j.node == gpu.node and gpu.index in j.gpus)
        assert all(own[n][1] <= own[n + 1][0] for n in range(len(own) - 1))


def test_labels_are_those_of_the_live_series(hardware: Hardware) -> None:
    gpus = fleet(hardware)
    jobs = schedule(gpus, BEGIN, END)
    found = generate_series(gpus, jobs, TIMES, instances={"node1": "127.0.0.1:9410"})
    (clock,) = of(found, "gpu_clock_hertz", node="node1", gpu="3")
    assert clock.labels == {
        "cluster": "local", "job": "node", "instance": "127.0.0.1:9410", "node": "node1",
        "gpu": "3", "uuid": hardware.gpu("node1", 3).uuid, "domain": "sm",
    }  # fmt: skip
    assert len(of(found, "gpu_temperature_celsius", sensor="memory")) == 16
    held = of(found, "gpu_allocation_info")[0]
    assert {"job_id", "user"} <= set(held.labels)
    assert {value for _, value in held.points} == {1.0}


def test_every_metric_that_a_detector_reads_is_generated(hardware: Hardware) -> None:
    gpus = fleet(hardware)
    found = generate_series(gpus, schedule(gpus, BEGIN, END), TIMES)
    read = {query.selector.partition("{")[0] for each in DETECTORS for query in each.queries}
    assert {track.family for track in found} == read
    (info,) = of(found, "gpu_info", node="node1", gpu="3")
    assert info.labels["name"] == hardware.gpu("node1", 3).name


def test_the_sensors_are_those_of_the_simulated_hardware(hardware: Hardware) -> None:
    gpus = fleet(hardware)
    job = PastJob("past-1", "node1", (0, 1, 2, 3), BEGIN, END, 0.9)
    found = generate_series(gpus, [job], TIMES)
    (power,) = of(found, "gpu_power_watts", node="node1", gpu="2")
    at, watts = power.points[7]
    assert watts == sensor_values(gpus[2].state, GpuLoad(0.9, 0.72), at).power


def test_what_ails_a_gpu_today_is_not_in_its_yesterday(hardware: Hardware) -> None:
    hardware.change("node1", 0, lost=True, speed=0.7, heat=40.0)
    gpu = fleet(hardware)[0]
    assert gpu.state.healthy


def test_a_slow_gpu_is_slow_while_it_lasts_and_the_others_wait(hardware: Hardware) -> None:
    job = PastJob("past-1", "node1", (0, 1, 2, 3), BEGIN, END, 0.9)
    fault = PastFault("node1", 2, TIMES[100], TIMES[200], speed=0.75)
    found = generate_series(fleet(hardware), [job], TIMES, (fault,))
    clocks = {
        t.labels["gpu"]: [v for _, v in t.points]
        for t in of(found, "gpu_clock_hertz", node="node1")
    }
    loads = {
        t.labels["gpu"]: [v for _, v in t.points]
        for t in of(found, "gpu_utilization_ratio", node="node1")
    }
    assert clocks["2"][150] < 0.8 * clocks["1"][150]
    assert clocks["2"][250] > 0.95 * clocks["1"][250]
    assert loads["1"][150] < 0.8 * loads["2"][150]


def test_a_large_fleet_is_remembered_by_whole_nodes_up_to_a_bound(tmp_path: Path) -> None:
    hardware = Hardware(tmp_path / "many")
    hardware.create(nodes=10, gpus=8)
    found = fleet(hardware)
    assert len(found) == history.MAX_GPUS
    assert len({gpu.node for gpu in found}) == 8


def test_a_promtool_that_fails_is_a_sentence(
    hardware: Hardware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SECONDS", 3600.0)
    for promtool in (Path("/bin/false"), tmp_path / "nothing"):
        with pytest.raises(UserError, match="simulated history"):
            history.backfill(promtool, hardware, tmp_path / "data", {}, END)
