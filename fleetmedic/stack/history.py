"""Preload 24 h of healthy metrics for a simulated fleet, as training data for the detectors.

A new simulated fleet has no history, and without history a detector returns no result. This module
generates a day of jobs, computes the sensor values of healthy GPUs with the model of the simulated
exporter, and writes them to Prometheus as TSDB blocks. The job names begin with `past-`. The jobs
end before the present, and no sample overlaps with live scrapes.
"""

from __future__ import annotations

import bisect
import random
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from fleetmedic.hardware.physics import SensorValues, sensor_values
from fleetmedic.hardware.state import GpuLoad, GpuState, Hardware
from fleetmedic.kernel.errors import UserError

SECONDS = 24 * 3600.0
STEP = 60.0
# Longer than Prometheus' lookback of five minutes, so that no past job shows as running.
QUIET_END = 900.0
BEFORE_NOW = 120.0
# Models are pooled over the fleet: more GPUs add little data and take longer.
MAX_GPUS = 64
BLOCK = 7200.0
WORKERS = 2
PROMTOOL_SECONDS = 60.0
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class PastGpu:
    """A GPU of the generated history. `state` is its healthy state."""

    node: str
    index: int
    state: GpuState


@dataclass(frozen=True, slots=True)
class PastJob:
    """A generated job from `begin` to `end` (Unix seconds) on some GPUs of one node."""

    job_id: str
    node: str
    gpus: tuple[int, ...]
    begin: float
    end: float
    utilization: float


@dataclass(frozen=True, slots=True)
class PastFault:
    """A generated fault of one GPU.

    `speed` is its clock as a fraction of normal; `heat` is added to its temperature.
    """

    node: str
    index: int
    begin: float
    end: float
    speed: float = 1.0
    heat: float = 0.0


@dataclass(frozen=True, slots=True)
class GeneratedSeries:
    """One generated series: metric name, labels, and (time, value) points."""

    family: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """The number of written series and samples, and the duration in seconds."""

    series: int
    samples: int
    seconds: float


def fleet(hardware: Hardware) -> list[PastGpu]:
    """Return the GPUs of the hardware directory in healthy state: whole nodes, up to MAX_GPUS."""
    gpus: list[PastGpu] = []
    for node in hardware.nodes():
        found = [(index, hardware.gpu(node, index)) for index in hardware.gpus(node)]
        if gpus and len(gpus) + len(found) > MAX_GPUS:
            break
        for index, state in found:
            well = replace(state, lost=False, hung=False, speed=1.0, heat=0.0, remap_failure=False)
            gpus.append(PastGpu(node, index, well))
    return gpus


def schedule(gpus: Sequence[PastGpu], begin: float, end: float, seed: int = 1) -> list[PastJob]:
    """Generate jobs with four and eight GPUs for every node. No job runs in the last QUIET_END
    seconds."""
    chance = random.Random(seed)  # noqa: S311 - generated data, not a secret
    nodes: dict[str, list[int]] = {}
    for gpu in gpus:
        nodes.setdefault(gpu.node, []).append(gpu.index)
    jobs: list[PastJob] = []
    for node, indices in nodes.items():
        at = begin + chance.uniform(60, 1800)
        while at < end - QUIET_END - 1800:
            until = min(at + chance.uniform(1.5, 5.0) * 3600, end - QUIET_END)
            for part in _parts(indices, chance):
                # Jobs on the same node do not begin and end together.
                first, last = at + chance.uniform(0, 600), until - chance.uniform(0, 600)
                jobs.append(
                    PastJob(
                        f"past-{len(jobs) + 1:03d}",
                        node,
                        part,
                        first,
                        last,
                        chance.uniform(0.55, 0.98),
                    )
                )
            at = until + chance.uniform(300, 1500)
    return jobs


def _parts(indices: list[int], chance: random.Random) -> Iterator[tuple[int, ...]]:
    left = list(indices)
    while left:
        size = 8 if len(left) >= 8 and chance.random() < 0.5 else min(4, len(left))
        yield tuple(left[:size])
        left = left[size:]


def generate_series(
    gpus: Sequence[PastGpu],
    jobs: Sequence[PastJob],
    times: Sequence[float],
    faults: Sequence[PastFault] = (),
    *,
    instances: Mapping[str, str] | None = None,
    cluster: str = "local",
) -> list[GeneratedSeries]:
    """Return the series of every metric that a detector reads. Pure function.

    `instances` maps a node to its `instance` label. The slowest GPU limits the speed of its job;
    the utilization of the other GPUs falls while they wait.
    """
    speeds = _FaultLookup(faults)
    known = {(gpu.node, gpu.index): gpu.state.uuid for gpu in gpus}
    out: list[GeneratedSeries] = []
    for gpu in gpus:
        own = [job for job in jobs if job.node == gpu.node and gpu.index in job.gpus]
        base = _labels(gpu.node, gpu.index, gpu.state.uuid, instances, cluster)
        out += _sensors(base, times, list(_readings(gpu, own, times, speeds)))
        info = tuple((at, 1.0) for at in times)
        out.append(GeneratedSeries("gpu_info", {**base, "name": gpu.state.name}, info))
    for job in jobs:
        held = tuple((at, 1.0) for at in times if job.begin <= at < job.end)
        for index in job.gpus:
            base = _labels(job.node, index, known[job.node, index], instances, cluster)
            labels = {**base, "job_id": job.job_id, "user": "simulated"}
            out.append(GeneratedSeries("gpu_allocation_info", labels, held))
    return [track for track in out if track.points]


class _FaultLookup:
    """Returns the generated fault of a GPU at a given time."""

    def __init__(self, faults: Sequence[PastFault]) -> None:
        self._by_gpu: dict[tuple[str, int], list[PastFault]] = {}
        for fault in faults:
            self._by_gpu.setdefault((fault.node, fault.index), []).append(fault)

    def at(self, node: str, index: int, at: float) -> PastFault | None:
        for fault in self._by_gpu.get((node, index), ()):
            if fault.begin <= at < fault.end:
                return fault
        return None

    def pace(self, job: PastJob, at: float) -> float:
        if not self._by_gpu:
            return 1.0
        found = (self.at(job.node, index, at) for index in job.gpus)
        return min((fault.speed for fault in found if fault), default=1.0)


def _readings(
    gpu: PastGpu, jobs: list[PastJob], times: Sequence[float], speeds: _FaultLookup
) -> Iterator[SensorValues]:
    jobs = sorted(jobs, key=lambda job: job.begin)
    begins = [job.begin for job in jobs]
    for at in times:
        place = bisect.bisect_right(begins, at) - 1
        job = jobs[place] if place >= 0 and at < jobs[place].end else None
        fault = speeds.at(gpu.node, gpu.index, at)
        state = replace(gpu.state, speed=fault.speed, heat=fault.heat) if fault else gpu.state
        load = GpuLoad()
        if job:
            load = GpuLoad(job.utilization * speeds.pace(job, at) / state.speed, 0.72)
        yield sensor_values(state, load, at)


def _sensors(
    base: dict[str, str], times: Sequence[float], found: list[SensorValues]
) -> Iterator[GeneratedSeries]:
    families: tuple[tuple[str, dict[str, str], list[float]], ...] = (
        ("gpu_utilization_ratio", {}, [r.utilization for r in found]),
        ("gpu_clock_hertz", {"domain": "sm"}, [r.sm_clock for r in found]),
        ("gpu_power_watts", {"scope": "gpu"}, [r.power for r in found]),
        ("gpu_temperature_celsius", {"sensor": "gpu"}, [r.temperature for r in found]),
        ("gpu_temperature_celsius", {"sensor": "memory"}, [r.memory_temperature for r in found]),
    )
    for family, extra, values in families:
        yield GeneratedSeries(family, {**base, **extra}, tuple(zip(times, values, strict=True)))


def _labels(
    node: str, index: int, uuid: str, instances: Mapping[str, str] | None, cluster: str
) -> dict[str, str]:
    instance = (instances or {}).get(node, HOST)
    return {
        "cluster": cluster,
        "job": "node",
        "instance": instance,
        "node": node,
        "gpu": str(index),
        "uuid": uuid,
    }


def backfill(
    promtool: Path,
    hardware: Hardware,
    data_dir: Path,
    exporter_ports: dict[str, int],
    now: float,
    *,
    cluster: str = "local",
) -> BackfillReport:
    """Write 24 h of healthy metrics as TSDB blocks into Prometheus' data directory.

    The last sample is two minutes before `now`. Prometheus must not be running. Raises UserError if
    promtool cannot write the blocks. Blocks that were already written remain; they are harmless.
    """
    began = time.monotonic()
    end = (now - BEFORE_NOW) // STEP * STEP
    times = [end - SECONDS + STEP * n for n in range(1, int(SECONDS / STEP) + 1)]
    gpus = fleet(hardware)
    jobs = schedule(gpus, times[0], end)
    instances = {node: f"{HOST}:{port}" for node, port in exporter_ports.items()}
    found = generate_series(gpus, jobs, times, instances=instances, cluster=cluster)
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fleetmedic-history-") as folder:
        pieces = _write_pieces(found, Path(folder))
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda piece: _make_blocks(promtool, piece, data_dir), pieces))
    samples = sum(len(track.points) for track in found)
    return BackfillReport(len(found), samples, time.monotonic() - began)


def _write_pieces(found: list[GeneratedSeries], folder: Path) -> list[Path]:
    """Write one file per TSDB block, because promtool reads its whole input once for every block."""
    pieces: dict[int, dict[str, list[str]]] = {}
    for track in found:
        inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in track.labels.items())
        head = f"{track.family}{{{inner}}}"
        for at, value in track.points:
            piece = pieces.setdefault(int(at // BLOCK), {})
            piece.setdefault(track.family, []).append(f"{head} {value:.12g} {at:.0f}\n")
    paths = []
    for number, families in sorted(pieces.items()):
        path = folder / f"{number}.om"
        path.write_text("".join(_exposition(families)))
        paths.append(path)
    return paths


def _exposition(families: dict[str, list[str]]) -> Iterable[str]:
    for family, lines in families.items():
        yield f"# TYPE {family} {'info' if family.endswith('_info') else 'gauge'}\n"
        yield from lines
    yield "# EOF\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _make_blocks(promtool: Path, piece: Path, data_dir: Path) -> None:
    command = [
        str(promtool),
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        str(piece),
        str(data_dir),
    ]
    try:
        done = subprocess.run(
            [*command, "--quiet"],
            capture_output=True,
            text=True,
            timeout=PROMTOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"{promtool} could not write the simulated history ({error}). Use --no-history to start "
            "without it."
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise UserError(
            f"{promtool} rejected the simulated history ({said}). Use --no-history to start without it."
        )
