"""Exports the readings of the GPUs that respond, with one collector per group of readings."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.gpu_states import GpuStates, GpuStatus
from exporter.sources.base import Group


class GpuReadings:
    """Exports the current readings of one group, except the `hidden` families."""

    inline = True

    def __init__(
        self,
        gpu_states: GpuStates,
        group: Group,
        interval: float,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.name = f"gpu_{group}"
        self.interval = interval
        self._gpu_states = gpu_states
        self._group: Group = group
        self._hidden = hidden

    def token(self, now: float) -> Hashable:
        view = self._gpu_states.snapshot(now)
        group = self._group
        return view.failure, tuple(
            (gpu.index, gpu.uuid, gpu.status, values.at if (values := gpu.groups.get(group)) else 0)
            for gpu in view.gpus
        )

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._gpu_states.snapshot(now)
        up = [gpu for gpu in view.gpus if gpu.status is GpuStatus.UP]
        if view.failure or (up and not any(self._group in gpu.groups for gpu in up)):
            raise CollectorError(view.failure or f"no GPU has current values of {self._group}")
        for gpu in up:
            key = (str(gpu.index), gpu.uuid)
            for name, labels, value in gpu.readings(self._group):
                if name not in self._hidden:
                    yield Sample(name, (*key, *labels), value)
