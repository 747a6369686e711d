"""The holders of each GPU, merged from several schedulers, and unowned processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.collector import CollectorError
from exporter.collectors.allocation import MAX_ROWS, SERVICES, SETTLE_SECONDS, AllocationCollector
from exporter.exposition import Sample
from exporter.gpu_states import INTERVALS, GpuStates
from exporter.owners.base import UNMATCHED, Holding
from exporter.reading.protocol import Devices, GroupReadings, Hello, Present, Round, Slots
from exporter.sources.base import Device, Reading
from fleetmedic.kernel.errors import UserError

NOW = 1000.0


@dataclass
class Scheduler:
    """A fake source."""

    name: str = "local"
    found: list[Holding] = field(default_factory=list)
    why: str = ""
    raised: type[Exception] = CollectorError
    is_here: bool = True

    def is_present(self) -> bool:
        return self.is_here

    def holdings(self, now: float) -> Iterator[Holding]:
        yield from self.found
        if self.why:
            raise self.raised(self.why)


def processes(*pids: int, compute: int | None = None) -> tuple[Reading, ...]:
    count = len(pids) if compute is None else compute
    memory = (Reading("gpu_process_memory_bytes", (str(pid), ""), 1.0) for pid in pids)
    return (Reading("gpu_processes", ("compute",), count), *memory)


@pytest.fixture
def gpu_states(tmp_path: Path) -> GpuStates:
    made = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    found = tuple(Device(slot, f"GPU-{slot}", f"0000:{slot + 1}0:00.0") for slot in range(2))
    for message in (Hello("nvml"), Slots((0, 1)), Devices(found, ())):
        made.apply(message, NOW)
    return made


def seen(gpu_states: GpuStates, now: float, *groups: tuple[int, str, tuple[Reading, ...]]) -> None:
    for slot in (0, 1):
        gpu_states.apply(Present(slot), now)
    for slot, group, readings in groups:
        gpu_states.apply(GroupReadings(slot, group, now, readings), now)  # type: ignore[arg-type]
    gpu_states.apply(Round(now), now)


def rows(samples: list[Sample], name: str = "gpu_allocation_info") -> list[tuple[str, ...]]:
    return [sample.labels for sample in samples if sample.name == name]


def collect(
    gpu_states: GpuStates, *sources: Scheduler, procfs: Path = Path("/proc"), now: float = NOW
) -> list[Sample]:
    return list(AllocationCollector(gpu_states, sources, procfs).collect(now))


def test_a_gpu_is_known_by_uuid_index_and_partition(gpu_states: GpuStates) -> None:
    seen(gpu_states, NOW, (1, "mig", (Reading("gpu_mig_info", ("1", "0", "MIG-x", "3g"), 1.0),)))
    source = Scheduler(
        found=[Holding("GPU-0", "job:a", "a", "u"), Holding("MIG-x", "pod:1", pod="p")]
    )
    assert rows(collect(gpu_states, source)) == [
        ("0", "GPU-0", "a", "u", "", "", "", ""),
        ("1", "GPU-1", "", "", "", "", "p", ""),
    ]


def test_a_gpu_that_this_node_has_not_is_passed_over(gpu_states: GpuStates) -> None:
    assert rows(collect(gpu_states, Scheduler(found=[Holding("GPU-9", "job:a", "a")]))) == []


def test_two_sources_that_tell_of_one_job_are_one_row_with_what_either_knows(
    gpu_states: GpuStates,
) -> None:
    notes = Scheduler("slurm_notes", [Holding("0", "slurm:7", "7")])
    steps = Scheduler("slurm_steps", [Holding("0", "slurm:7", "7", "ann", "research")])
    assert rows(collect(gpu_states, notes, steps)) == [
        ("0", "GPU-0", "7", "ann", "research", "", "", "")
    ]


def test_two_jobs_on_one_gpu_are_two_rows(gpu_states: GpuStates) -> None:
    source = Scheduler(found=[Holding("0", "job:a", "a"), Holding("0", "job:b", "b")])
    assert len(rows(collect(gpu_states, source))) == 2


def test_a_source_that_fails_loses_its_own_rows_and_says_so(gpu_states: GpuStates) -> None:
    samples = collect(
        gpu_states, Scheduler("kubelet", [Holding("0", "pod:1")], "broken"),
        Scheduler("local", [Holding("1", "job:a", "a")]),
        Scheduler("slurm_notes", is_here=False),
    )  # fmt: skip
    assert rows(samples) == [("1", "GPU-1", "a", "", "", "", "", "")]
    success = {
        s.labels[0]: s.value for s in samples if s.name == "gpu_exporter_allocation_source_success"
    }
    assert success == {"kubelet": 0, "local": 1}


@pytest.mark.parametrize("raised", [OSError, UserError, ValueError, RuntimeError])
def test_a_source_with_a_mistake_costs_no_other(
    gpu_states: GpuStates, raised: type[Exception]
) -> None:
    broken = Scheduler("kubelet", why="broken", raised=raised)
    samples = collect(gpu_states, broken, Scheduler("local", [Holding("1", "job:a", "a")]))
    assert rows(samples) == [("1", "GPU-1", "a", "", "", "", "", "")]


def test_a_source_without_end_is_a_failure_and_not_cut_short(gpu_states: GpuStates) -> None:
    many = [Holding("0", f"job:{number}", str(number)) for number in range(MAX_ROWS + 1)]
    samples = collect(gpu_states, Scheduler("slurm_notes", many), Scheduler())
    assert rows(samples) == []
    assert ("slurm_notes",) in rows(samples, "gpu_exporter_allocation_source_success")


def test_what_a_source_complains_of_is_logged_when_it_begins_and_ends(
    gpu_states: GpuStates,
) -> None:
    said: list[tuple[str, str, str]] = []

    def log(event: str, *, source: str, why: str) -> None:
        said.append((event, source, why))

    source = Scheduler("kubelet", why="broken")
    collector = AllocationCollector(gpu_states, [source, Scheduler()], Path("/proc"), log=log)
    for why in ("broken", "broken", ""):
        source.why = why
        list(collector.collect(NOW))
    assert said == [("owners_failed", "kubelet", "broken"), ("owners_work_again", "kubelet", "")]


def test_a_gpu_is_known_by_its_device_file_which_need_not_have_its_number(tmp_path: Path) -> None:
    gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    found = tuple(
        Device(slot, f"GPU-{slot}", f"0000:{slot + 1}0:00.0", minor=str(1 - slot))
        for slot in range(2)
    )
    for message in (Hello("nvml"), Slots((0, 1)), Devices(found, ())):
        gpu_states.apply(message, NOW)
    seen(gpu_states, NOW)
    assert rows(collect(gpu_states, Scheduler(found=[Holding("nvidia0", "pod:1", pod="p")]))) == [
        ("1", "GPU-1", "", "", "", "", "p", "")
    ]


def test_a_node_whose_only_source_fails_still_says_which(gpu_states: GpuStates) -> None:
    """The collector must not fail: the frame drops the samples of a failed collector, including those that
    report the failed source."""
    samples = collect(gpu_states, Scheduler("kubelet", why="broken"))
    assert [(s.name, s.labels, s.value) for s in samples] == [
        ("gpu_exporter_allocation_source_success", ("kubelet",), 0)
    ]


def _process(
    procfs: Path, pid: int, *, job: str = "", name: str = "python", started: int = 5
) -> None:
    folder = procfs / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stat").write_text(f"{pid} ({name}) S {'0 ' * 18}{started} 0")
    (folder / "cgroup").write_text("0::/user.slice\n")
    (folder / "environ").write_bytes(f"FLEETMEDIC_JOB_ID={job}\0".encode() if job else b"")


def _unowned(
    collector: AllocationCollector,
    gpu_states: GpuStates,
    *groups: tuple[Reading, ...],
    after: float,
) -> dict[str, float]:
    for now in (NOW, NOW + after):
        seen(
            gpu_states,
            now,
            *((slot, "processes", readings) for slot, readings in enumerate(groups)),
        )
        found = list(collector.collect(now))
    return {s.labels[0]: s.value for s in found if s.name == "gpu_unowned_processes"}


@pytest.fixture
def procfs(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    for pid, job in ((10, "a"), (11, "b"), (12, "")):
        _process(folder, pid, job=job)
    _process(folder, 13, name="nvidia-smi")
    return folder


def test_a_process_of_no_job_that_holds_the_gpu_is_unowned_after_half_a_minute(
    gpu_states: GpuStates, procfs: Path
) -> None:
    source = Scheduler(found=[Holding("0", "job:a", "a"), Holding("1", "job:b", "b")])
    collector = AllocationCollector(gpu_states, [source], procfs)
    groups = (processes(10, 12), processes(10, 11, 13))
    assert _unowned(collector, gpu_states, *groups, after=SETTLE_SECONDS - 1) == {"0": 0, "1": 0}
    collector = AllocationCollector(gpu_states, [source], procfs)
    # 12 has no owner; 10 belongs to a job that does not hold GPU 1; 13 serves all GPUs
    assert _unowned(collector, gpu_states, *groups, after=SETTLE_SECONDS) == {"0": 1, "1": 1}


def test_a_number_that_another_process_was_given_begins_anew(
    gpu_states: GpuStates, procfs: Path
) -> None:
    collector = AllocationCollector(gpu_states, [Scheduler()], procfs)
    _unowned(collector, gpu_states, processes(12), after=SETTLE_SECONDS)
    _process(procfs, 12, started=6)
    seen(gpu_states, NOW + 40, (0, "processes", processes(12)))
    found = [s.value for s in collector.collect(NOW + 40) if s.name == "gpu_unowned_processes"]
    assert found == [0]


@pytest.mark.parametrize(
    "sources",
    [(), (Scheduler(is_here=False),), (Scheduler(), Scheduler("kubelet", why="broken"))],
    ids=["none", "not here", "one fails"],
)
def test_without_a_word_of_every_scheduler_nobody_is_called_unowned(
    gpu_states: GpuStates, procfs: Path, sources: tuple[Scheduler, ...]
) -> None:
    collector = AllocationCollector(gpu_states, sources, procfs)
    assert _unowned(collector, gpu_states, processes(12), after=SETTLE_SECONDS) == {}


@pytest.mark.parametrize("name", ["nvidia-persiste", "watcher-of-all-"])
def test_programs_that_serve_every_gpu_are_known_by_what_the_kernel_keeps_of_their_names(
    gpu_states: GpuStates, procfs: Path, name: str
) -> None:
    _process(procfs, 12, name=name)
    services = (*SERVICES, "watcher-of-all-gpus")
    collector = AllocationCollector(gpu_states, [Scheduler()], procfs, services)
    assert _unowned(collector, gpu_states, processes(12), after=SETTLE_SECONDS) == {"0": 0}


def test_a_process_that_cannot_be_read_leaves_its_gpu_unknown(
    gpu_states: GpuStates, procfs: Path
) -> None:
    (procfs / "12" / "environ").unlink()
    (procfs / "12" / "environ").mkdir()
    collector = AllocationCollector(gpu_states, [Scheduler()], procfs)
    found = _unowned(collector, gpu_states, processes(12), processes(11), after=SETTLE_SECONDS)
    assert found == {"1": 1}


def test_processes_that_the_driver_counts_and_does_not_name_are_unknown(
    gpu_states: GpuStates, procfs: Path
) -> None:
    collector = AllocationCollector(gpu_states, [Scheduler()], procfs)
    assert _unowned(collector, gpu_states, processes(compute=2), after=SETTLE_SECONDS) == {}
    assert _unowned(collector, gpu_states, processes(), after=SETTLE_SECONDS) == {"0": 0}


def test_where_the_driver_hides_processes_nobody_is_called_unowned_and_holders_stay(
    gpu_states: GpuStates, procfs: Path
) -> None:
    source = Scheduler(found=[Holding("0", "job:a", "a")])
    collector = AllocationCollector(gpu_states, [source], procfs, unseen=True)
    assert _unowned(collector, gpu_states, processes(), processes(12), after=SETTLE_SECONDS) == {}
    assert len(rows(list(collector.collect(NOW)))) == 1


def test_a_process_that_has_ended_is_nobodys_fault(gpu_states: GpuStates, procfs: Path) -> None:
    seen(gpu_states, NOW, (0, "processes", processes(99)))
    collector = AllocationCollector(gpu_states, [Scheduler()], procfs)
    for now in (NOW, NOW + 2):  # two runs with the same reading
        found = [s.value for s in collector.collect(now) if s.name == "gpu_unowned_processes"]
        assert found == [0]


def test_a_process_that_the_driver_names_again_and_proc_does_not_show_is_unknown(
    gpu_states: GpuStates, procfs: Path
) -> None:
    collector = AllocationCollector(gpu_states, [Scheduler()], procfs)
    found = _unowned(collector, gpu_states, processes(99), processes(11), after=SETTLE_SECONDS)
    assert found == {"1": 1}


def test_a_holder_whose_processes_cannot_be_told_leaves_its_gpu_unknown(
    gpu_states: GpuStates, procfs: Path
) -> None:
    source = Scheduler(found=[Holding("0", f"{UNMATCHED}:13_4", "13_4")])
    collector = AllocationCollector(gpu_states, [source], procfs)
    found = _unowned(collector, gpu_states, processes(12), processes(12), after=SETTLE_SECONDS)
    assert found == {"1": 1}
