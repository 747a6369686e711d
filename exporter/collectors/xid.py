"""Exports XID and NVSwitch errors.

XIDs are counted from the kernel log and the driver's events together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.gpu_states import GpuStates, NodeSnapshot
from exporter.xids.kernel_log import ErrorCounts, KernelLog
from exporter.xids.pairing import WITNESSES


class XidErrors:
    """Exports the error counts of GPUs and NVSwitches."""

    name = "xid"
    inline = False
    interval = 1.0

    def __init__(self, gpu_states: GpuStates, kernel_log: KernelLog) -> None:
        self._gpu_states = gpu_states
        self._kernel_log = kernel_log
        self._taken: tuple[NodeSnapshot, ErrorCounts] | None = None

    def token(self, now: float) -> Hashable:
        """Return a token of the error counts, so that unchanged counts are not rendered again each second."""
        view, counted = self._taken = self._take(now)
        return tuple((gpu.index, gpu.uuid) for gpu in view.gpus), counted

    def collect(self, now: float) -> Iterator[Sample]:
        view, counted = self._taken or self._take(now)
        self._taken = None
        yield from self._gpus(view, counted)
        yield from self._switches(counted)
        for witness in WITNESSES:
            yield Sample(
                "gpu_exporter_xid_source_total", (witness,), counted.sources.get(witness, 0)
            )
        yield Sample("gpu_exporter_kmsg_readable", (), not counted.failure)
        yield Sample("gpu_exporter_xid_unmatched_total", (), counted.unmatched)
        yield Sample("gpu_exporter_kmsg_dropped_total", (), counted.dropped)

    def _take(self, now: float) -> tuple[NodeSnapshot, ErrorCounts]:
        view = self._gpu_states.snapshot(now)
        counted = self._kernel_log.counted(now)
        if view.failure and not view.gpus:
            raise CollectorError("no GPU is known yet, so XIDs cannot be assigned to a GPU")
        if counted.failure and view.source != "nvml":
            raise CollectorError(counted.failure)
        return view, counted

    def _gpus(self, view: NodeSnapshot, counted: ErrorCounts) -> Iterator[Sample]:
        zeros = dict.fromkeys(self._kernel_log.zeros, 0)
        for gpu in view.gpus:
            key = (str(gpu.index), gpu.uuid)
            for code, count in (zeros | counted.xids.get(gpu.uuid, {})).items():
                yield Sample("gpu_xid_errors_total", (*key, code), count)
        for gpu in view.gpus:
            total = sum(counted.xids.get(gpu.uuid, {}).values())
            yield Sample("gpu_xid_events_total", (str(gpu.index), gpu.uuid), total)
        for gpu in view.gpus:
            key = (str(gpu.index), gpu.uuid)
            for code, at in counted.xids_latest.get(gpu.uuid, {}).items():
                yield Sample("gpu_xid_last_timestamp_seconds", (*key, code), round(at, 3))

    def _switches(self, counted: ErrorCounts) -> Iterator[Sample]:
        for switch, counts in counted.sxids.items():
            for code, count in counts.items():
                yield Sample("gpu_sxid_errors_total", (code, switch), count)
        for switch, latest in counted.sxids_latest.items():
            for code, at in latest.items():
                yield Sample("gpu_sxid_last_timestamp_seconds", (code, switch), round(at, 3))
