"""Exports which job holds each GPU, and counts processes that use a GPU without an allocation.

Holdings come from all schedulers of this node. If a source fails, only its samples are missing, and the
failure is exported. Unowned processes are counted only while all sources work. Otherwise a process could
have an owner that the failed source knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.gpu_states import GpuStates
from exporter.owners.base import UNMATCHED, Holding, HoldingSource
from exporter.owners.processes import SERVICES, UNREADABLE, read_process
from exporter.snapshot import GpuStatus, NodeSnapshot
from exporter.sources.base import Reading
from fleetmedic.kernel.errors import UserError

MAX_ROWS = 4096
NAME_LENGTH = 15  # the kernel truncates the name of a program to this length
# A process may start shortly before its job is recorded, or end shortly after.
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _UnownedProcess:
    """A process without an owner: its start time (clock ticks since boot) and when it was first
    seen (Unix time)."""

    started: int
    since: float


@dataclass(slots=True)
class _UnownedState:
    """The collector's record of unowned processes between two runs.

    `unowned` contains the processes without an owner by pid. `absent` contains, by GPU and pid, the
    Unix time at which the driver first reported a process that is missing in /proc.
    """

    unowned: dict[int, _UnownedProcess] = field(default_factory=dict)
    absent: dict[tuple[str, int], float] = field(default_factory=dict)


class AllocationCollector:
    """Exports GPU allocations and unowned processes.

    `services` are programs that may use GPUs without an allocation. `log` is called when a source
    starts to fail, fails for another reason, or recovers. `unseen`: the driver does not report all
    processes to this exporter, so unowned processes are not counted.
    """

    name = "allocation"
    inline = False
    interval = 2.0

    def __init__(
        self,
        gpu_states: GpuStates,
        sources: Sequence[HoldingSource],
        procfs: Path,
        services: Sequence[str] = SERVICES,
        log: Callable[..., None] | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        self._gpu_states = gpu_states
        self._sources = tuple(sources)
        self._procfs = procfs
        self._services = frozenset(name[:NAME_LENGTH] for name in services)
        self._log = log
        self._unseen = unseen
        self._logged: dict[str, str] = {}
        self._previous = _UnownedState()

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._gpu_states.snapshot(now)
        names = _gpu_by_name(view)
        holdings_by_gpu: dict[tuple[int, str], list[Holding]] = {}
        answered = failed = 0
        for source in self._sources:
            found, why = _read_source(source, now)
            if found is None and not why:
                continue
            self._log_change(source.name, why)
            yield Sample("gpu_exporter_allocation_source_success", (source.name,), int(not why))
            if found is None:
                failed += 1
                continue
            answered += 1
            for holding in found:
                if (gpu := names.get(holding.gpu)) is not None:
                    holdings_by_gpu.setdefault(gpu, []).append(holding)
        yield from _samples(holdings_by_gpu)
        if answered and not failed and not self._unseen:
            yield from self._unowned(view, holdings_by_gpu, now)

    def _log_change(self, source: str, why: str) -> None:
        """Log when an allocation source starts to fail, fails for another reason, or recovers."""
        if self._logged.get(source, "") != why and self._log is not None:
            event = "owners_failed" if why else "owners_work_again"
            self._log(event, source=source, why=why[:500])
        self._logged[source] = why

    def _unowned(
        self,
        view: NodeSnapshot,
        holdings_by_gpu: Mapping[tuple[int, str], list[Holding]],
        now: float,
    ) -> Iterator[Sample]:
        """Yield the number of unowned processes per GPU. GPUs with an unidentified process are
        omitted."""
        seen = _UnownedState()
        for gpu in view.gpus:
            values = gpu.groups.get("processes")
            pids = _pids(values.readings) if values is not None else None
            if gpu.status is not GpuStatus.UP or values is None or pids is None:
                continue
            keys = {holding.key for holding in holdings_by_gpu.get((gpu.index, gpu.uuid), ())}
            counts = [self._is_unowned(gpu.uuid, pid, keys, values.at, seen, now) for pid in pids]
            matched = not any(key.startswith(UNMATCHED) for key in keys)
            if matched and not any(count is None for count in counts):
                total = sum(count or 0 for count in counts)
                yield Sample("gpu_unowned_processes", (str(gpu.index), gpu.uuid), total)
        self._previous = seen

    def _is_unowned(
        self, uuid: str, pid: int, keys: set[str], at: float, seen: _UnownedState, now: float
    ) -> bool | None:
        """Return whether a process has no owner; None if this is unknown.

        `at` is the Unix time at which the driver reported the process.
        """
        process = read_process(self._procfs, pid)
        if process is None:
            # The process has ended. If the driver reports it again, /proc is that of another container.
            first = seen.absent[uuid, pid] = self._previous.absent.get((uuid, pid), at)
            return None if at > first else False
        if process.name in self._services or process.keys & keys:
            return False
        if UNREADABLE in process.keys:
            return None
        before = self._previous.unowned.get(pid)
        # a pid that was reused for another process starts again
        if before is None or before.started != process.started:
            before = _UnownedProcess(process.started, now)
        seen.unowned[pid] = before
        return now - before.since >= SETTLE_SECONDS


def _read_source(source: HoldingSource, now: float) -> tuple[list[Holding] | None, str]:
    """Return the GPU holdings that a source reports, and an error message.

    The holdings are None if the source failed. Both are empty if the source does not exist on this
    node.
    """
    try:
        if not source.is_present():
            return None, ""
        found = list(islice(source.holdings(now), MAX_ROWS + 1))
    except Exception as error:  # noqa: BLE001 - a bug in one source must not affect the others
        known = isinstance(error, CollectorError | UserError)
        return None, str(error) if known else f"{source.name}: {type(error).__name__}: {error}"
    if len(found) > MAX_ROWS:
        return None, f"{source.name} reports more than {MAX_ROWS} holders"
    return found, ""


def _gpu_by_name(view: NodeSnapshot) -> dict[str, tuple[int, str]]:
    """Map each name that a scheduler may use for a GPU to its index and UUID.

    The names are the UUID, the index, the device file, and the UUIDs of MIG devices.
    """
    found: dict[str, tuple[int, str]] = {}
    for gpu in view.gpus:
        key = (gpu.index, gpu.uuid)
        found[str(gpu.index)] = key
        found[f"nvidia{gpu.device.minor or gpu.index}"] = key
        found[gpu.uuid] = key
        for name, labels, _ in gpu.readings("mig"):
            if name == "gpu_mig_info":
                found[labels[2]] = key
    return found


def _samples(holdings_by_gpu: Mapping[tuple[int, str], list[Holding]]) -> Iterator[Sample]:
    """Yield one sample per holder of each GPU. If two sources report the same job, it is one
    holder."""
    for (index, uuid), holdings in sorted(holdings_by_gpu.items()):
        merged: dict[tuple[str, str], Holding] = {}
        for holding in holdings:
            key = (holding.key, holding.container)
            merged[key] = _merge(merged[key], holding) if key in merged else holding
        for holding in merged.values():
            labels = (
                str(index),
                uuid,
                holding.job_id,
                holding.user,
                holding.account,
                holding.namespace,
                holding.pod,
                holding.container,
            )
            yield Sample("gpu_allocation_info", labels, 1)


def _merge(one: Holding, other: Holding) -> Holding:
    """Merge two records of the same holder into one. If both set a field, the value of `one` is used."""
    return Holding(
        one.gpu,
        one.key,
        one.job_id or other.job_id,
        one.user or other.user,
        one.account or other.account,
        one.namespace or other.namespace,
        one.pod or other.pod,
        one.container or other.container,
    )


def _pids(readings: Sequence[Reading]) -> list[int] | None:
    """Return the pids of the processes on a GPU; None unless the driver reported all of them."""
    counts = [int(value) for name, _, value in readings if name == "gpu_processes"]
    pids = [
        int(labels[0])
        for name, labels, _ in readings
        if name == "gpu_process_memory_bytes" and labels[0].isascii() and labels[0].isdigit()
    ]
    return pids if counts and len(pids) >= max(counts) else None
