"""Which job holds which GPU, from every scheduler of this node, and who uses a GPU without holding it.

A source that fails loses its own rows and nothing else. Processes are called unowned only while every
source answers: unknown is not nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from exporter.board import Board
from exporter.collectors.base import CollectorError
from exporter.exposition import Sample
from exporter.owners.base import Holding, Owners
from exporter.owners.processes import UNREADABLE, look
from exporter.sources.base import Reading
from exporter.view import BoardView, Status

MAX_ROWS = 4096
# Programs that watch or serve every GPU of a node and hold none.
# The kernel keeps 15 characters of a name.
SERVICES: tuple[str, ...] = (
    "nvidia-persiste", "nv-hostengine", "dcgm-exporter", "nvidia-smi", "nvidia-cuda-mps",
    "nv-fabricmanage", "Xorg", "fleetmedic",
)  # fmt: skip
# A process may start a moment before its job is written down, or end a moment after.
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Gone:
    """A process that was seen without an owner, and when that was first so."""

    started: int
    since: float


class Allocation:
    """The collector. `services` are names of programs that own no GPU and need not."""

    name = "allocation"
    inline = False
    interval = 2.0

    def __init__(
        self,
        board: Board,
        sources: Sequence[Owners],
        procfs: Path,
        services: Sequence[str] = SERVICES,
    ) -> None:
        self._board = board
        self._sources = tuple(sources)
        self._procfs = procfs
        self._services = frozenset(services)
        self._strays: dict[int, _Gone] = {}

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._board.view(now)
        names = _names(view)
        held: dict[tuple[int, str], list[Holding]] = {}
        asked = [source for source in self._sources if source.here()]
        failed = []
        for source in asked:
            try:
                found = list(islice(source.holdings(now), MAX_ROWS))
            except CollectorError as error:
                failed.append(str(error))
                yield Sample("gpu_exporter_allocation_source_success", (source.name,), 0)
                continue
            yield Sample("gpu_exporter_allocation_source_success", (source.name,), 1)
            for holding in found:
                if (gpu := names.get(holding.gpu)) is not None:
                    held.setdefault(gpu, []).append(holding)
        yield from _rows(held)
        if asked and not failed:
            yield from self._unowned(view, held, now)
        if failed and len(failed) == len(asked):
            raise CollectorError("; ".join(failed))

    def _unowned(
        self, view: BoardView, held: Mapping[tuple[int, str], list[Holding]], now: float
    ) -> Iterator[Sample]:
        """Of each GPU whose processes are known, how many belong to nobody who holds it."""
        seen: dict[int, _Gone] = {}
        for gpu in view.gpus:
            pids = _pids(gpu.readings("processes"))
            if gpu.status is not Status.UP or pids is None:
                continue
            keys = {holding.key for holding in held.get((gpu.index, gpu.uuid), ())}
            count = self._strangers(pids, keys, seen, now)
            if count is not None:
                yield Sample("gpu_unowned_processes", (str(gpu.index), gpu.uuid), count)
        self._strays = seen

    def _strangers(
        self, pids: list[int], keys: set[str], seen: dict[int, _Gone], now: float
    ) -> int | None:
        """How many of these processes nobody answers for; None when one of them cannot be read."""
        count = 0
        for pid in pids:
            process = look(self._procfs, pid)
            if process is None or process.name in self._services or process.keys & keys:
                continue
            if UNREADABLE in process.keys:
                return None
            before = self._strays.get(pid)
            # a number that was given to another process begins anew
            fresh = before is None or before.started != process.started
            stray = _Gone(process.started, now) if fresh or before is None else before
            seen[pid] = stray
            count += now - stray.since >= SETTLE_SECONDS
        return count


def _names(view: BoardView) -> dict[str, tuple[int, str]]:
    """Each name by which a scheduler may call a GPU: uuid, index, uuids of its partitions."""
    found: dict[str, tuple[int, str]] = {}
    for gpu in view.gpus:
        key = (gpu.index, gpu.uuid)
        found[str(gpu.index)] = key
        found[gpu.uuid] = key
        for name, labels, _ in gpu.readings("mig"):
            if name == "gpu_mig_info":
                found[labels[2]] = key
    return found


def _rows(held: Mapping[tuple[int, str], list[Holding]]) -> Iterator[Sample]:
    """One row for each holder of each GPU; two sources that tell of the same job are one."""
    for (index, uuid), holdings in sorted(held.items()):
        merged: dict[tuple[str, str], Holding] = {}
        for holding in holdings:
            key = (holding.key, holding.container)
            merged[key] = _merge(merged[key], holding) if key in merged else holding
        for holding in merged.values():
            labels = (
                str(index), uuid, holding.job_id, holding.user, holding.account, holding.namespace,
                holding.pod, holding.container,
            )  # fmt: skip
            yield Sample("gpu_allocation_info", labels, 1)


def _merge(one: Holding, other: Holding) -> Holding:
    """What either knows."""
    return Holding(
        one.gpu, one.key, one.job_id or other.job_id, one.user or other.user,
        one.account or other.account, one.namespace or other.namespace, one.pod or other.pod,
        one.container or other.container,
    )  # fmt: skip


def _pids(readings: Sequence[Reading]) -> list[int] | None:
    """The processes on a GPU; None when they are not known, or not all of them."""
    counts = [int(value) for name, _, value in readings if name == "gpu_processes"]
    pids = [
        int(labels[0])
        for name, labels, _ in readings
        if name == "gpu_process_memory_bytes" and labels[0].isdigit()
    ]
    return pids if counts and len(pids) >= max(counts) else None
