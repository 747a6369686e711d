"""Exports the recommended action for each GPU."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from exporter.exposition import Sample
from exporter.gpu_states import GpuStates
from exporter.xids.kernel_log import KernelLog


class GpuAction:
    """Exports one series per GPU with a known state. Its value is the rank of the recommended
    action."""

    name = "gpu_action"
    inline = True
    interval = 1.0

    def __init__(self, gpu_states: GpuStates, kernel_log: KernelLog) -> None:
        self._gpu_states = gpu_states
        self._kernel_log = kernel_log

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._gpu_states.snapshot(now)
        wanted = self._kernel_log.recommendations(view, now)
        for gpu in view.gpus:
            if (each := wanted.get(gpu.uuid)) is not None:
                labels = (str(gpu.index), gpu.uuid, each.action, each.reason)
                yield Sample("gpu_recommended_action", labels, each.rank)

    def token(self, now: float) -> Hashable:
        """Return the samples themselves as the token: there are only a few, so comparing them is cheap."""
        return tuple(self.collect(now))
