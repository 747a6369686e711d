"""ECC counters and row remaps of the GPUs that are up."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.board import Board, GpuView, Intervals, Status
from exporter.collectors.base import CollectorError
from exporter.exposition import Sample


class GpuHealth:
    """What the board holds of each GPU's memory health."""

    name = "gpu_health"
    inline = True

    def __init__(self, board: Board, intervals: Intervals) -> None:
        self._board = board
        self.interval = intervals.health

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._board.view(now)
        up = [gpu for gpu in view.gpus if gpu.status is Status.UP]
        if view.failure or (up and not any(gpu.health for gpu in up)):
            raise CollectorError(view.failure or "no GPU that is up has given its health in time")
        for gpu in up:
            yield from _health(gpu)


def _health(gpu: GpuView) -> Iterator[Sample]:
    health = gpu.health
    if health is None:
        return
    key = (str(gpu.index), gpu.uuid)
    values: list[tuple[str, tuple[str, ...], float | None]] = [
        ("gpu_ecc_errors_total", (*key, ecc.error, ecc.scope, ecc.location), ecc.count)
        for ecc in health.ecc
    ]
    values += [
        ("gpu_row_remap_total", (*key, "correctable"), health.remap_correctable),
        ("gpu_row_remap_total", (*key, "uncorrectable"), health.remap_uncorrectable),
        ("gpu_row_remap_pending", key, health.remap_pending),
        ("gpu_row_remap_failure", key, health.remap_failure),
    ]
    for name, labels, value in values:
        if value is not None:
            yield Sample(name, labels, value)
