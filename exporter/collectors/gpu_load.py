"""Load, clocks, power and temperature of the GPUs that are up."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.board import Board, GpuView, Intervals, Status
from exporter.collectors.base import CollectorError
from exporter.exposition import Sample
from exporter.sources.base import Limits, Load


class GpuLoad:
    """What the board holds of each GPU's load."""

    name = "gpu_load"
    inline = True

    def __init__(self, board: Board, intervals: Intervals) -> None:
        self._board = board
        self.interval = intervals.load

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._board.view(now)
        up = [gpu for gpu in view.gpus if gpu.status is Status.UP]
        if view.failure or (up and not any(gpu.load for gpu in up)):
            raise CollectorError(view.failure or "no GPU that is up has given its load in time")
        for gpu in up:
            yield from _load(gpu)
            yield from _limits(gpu)


def _load(gpu: GpuView) -> Iterator[Sample]:
    load = gpu.load
    if load is None:
        return
    key = (str(gpu.index), gpu.uuid)
    values: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
        ("gpu_utilization_ratio", key, load.utilization),
        ("gpu_memory_activity_ratio", key, load.memory_activity),
        ("gpu_memory_total_bytes", key, load.memory_total),
        ("gpu_memory_used_bytes", key, load.memory_used),
        ("gpu_memory_free_bytes", key, load.memory_free),
        ("gpu_temperature_celsius", (*key, "gpu"), load.temperature),
        ("gpu_temperature_celsius", (*key, "memory"), load.memory_temperature),
        ("gpu_power_watts", (*key, "gpu"), load.power),
        ("gpu_energy_joules_total", key, load.energy),
        ("gpu_clock_hertz", (*key, "sm"), load.sm_clock),
        ("gpu_clock_hertz", (*key, "memory"), load.memory_clock),
    )
    for name, labels, value in values:
        if value is not None:
            yield Sample(name, labels, value)
    yield from _clock_events(key, load)


def _clock_events(key: tuple[str, str], load: Load) -> Iterator[Sample]:
    for reason, active in (load.clock_events or {}).items():
        yield Sample("gpu_clock_event_active", (*key, reason), active)
    for reason, seconds in (load.clock_event_seconds or {}).items():
        yield Sample("gpu_clock_event_seconds_total", (*key, reason), seconds)


def _limits(gpu: GpuView) -> Iterator[Sample]:
    limits = gpu.limits or Limits()
    key = (str(gpu.index), gpu.uuid)
    values = (
        ("gpu_power_limit_watts", "enforced", limits.power),
        ("gpu_temperature_threshold_celsius", "slowdown", limits.slowdown),
        ("gpu_temperature_threshold_celsius", "shutdown", limits.shutdown),
        ("gpu_clock_max_hertz", "sm", limits.sm_clock),
        ("gpu_clock_max_hertz", "memory", limits.memory_clock),
    )
    for name, label, value in values:
        if value is not None:
            yield Sample(name, (*key, label), value)
