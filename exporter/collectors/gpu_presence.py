"""Exports whether each GPU is present, lost or responding. A lost GPU keeps its index and UUID."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.gpu_states import GpuSnapshot, GpuStates, GpuStatus, NodeSnapshot

# Status -> up, present, lost, responding. None means no series: a lost GPU neither responds nor hangs.
_VERDICTS: dict[GpuStatus, tuple[int, int, int, int | None]] = {
    GpuStatus.UP: (1, 1, 0, 1),
    GpuStatus.LOST: (0, 0, 1, None),
    GpuStatus.HUNG: (0, 1, 0, 0),
}
_NAMES = ("gpu_up", "gpu_present", "gpu_lost", "gpu_responding")


class GpuPresence:
    """Exports the status of each GPU, and the state of the worker processes that read the GPUs."""

    name = "gpu_presence"
    inline = True
    interval = 1.0

    def __init__(self, gpu_states: GpuStates) -> None:
        self._gpu_states = gpu_states

    def token(self, now: float) -> Hashable:
        view = self._gpu_states.snapshot(now)
        return (
            tuple((g.index, g.device, g.status, g.slow, g.left_out) for g in view.gpus),
            view.failure,
            view.expected,
            view.stuck,
            view.released,
            view.abandoned,
            view.events_up,
            view.event_restarts,
        )

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._gpu_states.snapshot(now)
        judged = [gpu for gpu in view.gpus if gpu.status is not GpuStatus.UNKNOWN]
        if view.failure and not judged:
            raise CollectorError(view.failure)
        for gpu in view.gpus:
            yield from _gpu(gpu)
        yield Sample("gpu_expected", (), view.expected)
        yield Sample("gpu_worker_stuck", (), int(view.stuck))
        yield from _processes(view)


def _gpu(gpu: GpuSnapshot) -> Iterator[Sample]:
    key, device = (str(gpu.index), gpu.uuid), gpu.device
    for name, value in zip(_NAMES, _VERDICTS.get(gpu.status, ()), strict=False):
        if value is not None:
            yield Sample(name, key, value)
    if gpu.status is GpuStatus.UP:
        yield Sample("gpu_slow", key, int(gpu.slow))
    for group in gpu.left_out:
        yield Sample("gpu_exporter_left_out", (*key, f"gpu_{group}"), 1)
    labels = (
        *key,
        device.name,
        device.serial,
        device.pci_bus_id,
        device.driver,
        device.cuda,
        device.vbios,
        device.architecture,
        device.minor,
    )
    yield Sample("gpu_info", labels, 1)


def _processes(view: NodeSnapshot) -> Iterator[Sample]:
    yield Sample("gpu_exporter_released", (), int(view.released))
    yield Sample("gpu_exporter_abandoned_workers", (), view.abandoned)
    if view.events_up is not None:
        yield Sample("gpu_exporter_event_process_up", (), int(view.events_up))
        yield Sample("gpu_exporter_event_process_restarts_total", (), view.event_restarts)
