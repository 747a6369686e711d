"""Which job holds which GPU, from every scheduler of this node, and who uses a GPU without holding it.

A source that fails loses its own rows and nothing else, and is told of as such; the collector itself has
not failed. Processes are called unowned only while every source answers: unknown is not nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from exporter.board import Board
from exporter.collectors.base import CollectorError
from exporter.owners.base import UNMATCHED, Holding, Owners
from exporter.owners.processes import UNREADABLE, look
from exporter.pages.exposition import Sample
from exporter.sources.base import Reading
from exporter.view import BoardView, Status
from fleetmedic.kernel.errors import UserError

MAX_ROWS = 4096
# Programs that watch or serve every GPU of a node and hold none.
SERVICES: tuple[str, ...] = (
    "nvidia-persistenced", "nvidia-fabricmanager", "nv-fabricmanager", "nvidia-imex", "nv-hostengine", "dcgm-exporter",
    "dcgmi", "nvidia-smi", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server", "Xorg", "fleetmedic",
)  # fmt: skip
NAME_LENGTH = 15  # the kernel keeps no more of a program's name
# A process may start a moment before its job is written down, or end a moment after.
SETTLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Stray:
    """A process that was seen without an owner, and when that was first so."""

    started: int
    since: float


@dataclass(slots=True)
class _Seen:
    """What one look remembers for the next: strays by pid, and by GPU and pid when the driver first
    told of a process that /proc does not show."""

    strays: dict[int, _Stray] = field(default_factory=dict)
    absent: dict[tuple[str, int], float] = field(default_factory=dict)


class Allocation:
    """The collector. `services` are names of programs that own no GPU and need not; `log` is told when
    a source begins to fail, fails for another reason, or works again. `unseen`: the driver does not tell
    this exporter of every process, so nothing is said of processes that nobody owns."""

    name = "allocation"
    inline = False
    interval = 2.0

    def __init__(
        self,
        board: Board,
        sources: Sequence[Owners],
        procfs: Path,
        services: Sequence[str] = SERVICES,
        log: Callable[..., None] | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        self._board = board
        self._sources = tuple(sources)
        self._procfs = procfs
        self._services = frozenset(name[:NAME_LENGTH] for name in services)
        self._log = log
        self._unseen = unseen
        self._complaints: dict[str, str] = {}
        self._seen = _Seen()

    def collect(self, now: float) -> Iterator[Sample]:
        view = self._board.view(now)
        names = _names(view)
        held: dict[tuple[int, str], list[Holding]] = {}
        answered = failed = 0
        for source in self._sources:
            found, why = _ask(source, now)
            if found is None and not why:
                continue
            self._tell(source.name, why)
            yield Sample("gpu_exporter_allocation_source_success", (source.name,), int(not why))
            if found is None:
                failed += 1
                continue
            answered += 1
            for holding in found:
                if (gpu := names.get(holding.gpu)) is not None:
                    held.setdefault(gpu, []).append(holding)
        yield from _rows(held)
        if answered and not failed and not self._unseen:
            yield from self._unowned(view, held, now)

    def _tell(self, source: str, why: str) -> None:
        """Log what a source complains of when that begins, changes or ends."""
        if self._complaints.get(source, "") != why and self._log is not None:
            event = "owners_failed" if why else "owners_work_again"
            self._log(event, source=source, why=why[:500])
        self._complaints[source] = why

    def _unowned(
        self, view: BoardView, held: Mapping[tuple[int, str], list[Holding]], now: float
    ) -> Iterator[Sample]:
        """Of each GPU whose processes are known, how many belong to nobody who holds it."""
        seen = _Seen()
        for gpu in view.gpus:
            values = gpu.groups.get("processes")
            pids = _pids(values.readings) if values is not None else None
            if gpu.status is not Status.UP or values is None or pids is None:
                continue
            keys = {holding.key for holding in held.get((gpu.index, gpu.uuid), ())}
            counts = [self._stray(gpu.uuid, pid, keys, values.at, seen, now) for pid in pids]
            matched = not any(key.startswith(UNMATCHED) for key in keys)
            if matched and not any(count is None for count in counts):
                total = sum(count or 0 for count in counts)
                yield Sample("gpu_unowned_processes", (str(gpu.index), gpu.uuid), total)
        self._seen = seen

    def _stray(
        self, uuid: str, pid: int, keys: set[str], at: float, seen: _Seen, now: float
    ) -> bool | None:
        """Whether nobody answers for a process; None when that cannot be known. The driver told of it
        at Unix time `at`."""
        process = look(self._procfs, pid)
        if process is None:
            # It has ended. If the driver tells of it again, /proc is another machine's or container's.
            first = seen.absent[uuid, pid] = self._seen.absent.get((uuid, pid), at)
            return None if at > first else False
        if process.name in self._services or process.keys & keys:
            return False
        if UNREADABLE in process.keys:
            return None
        before = self._seen.strays.get(pid)
        # a number that was given to another process begins anew
        if before is None or before.started != process.started:
            before = _Stray(process.started, now)
        seen.strays[pid] = before
        return now - before.since >= SETTLE_SECONDS


def _ask(source: Owners, now: float) -> tuple[list[Holding] | None, str]:
    """What a source tells, or why it cannot; neither when it is not on this node."""
    try:
        if not source.here():
            return None, ""
        found = list(islice(source.holdings(now), MAX_ROWS + 1))
    except Exception as error:  # noqa: BLE001 - one source's mistake must not cost the others
        known = isinstance(error, CollectorError | UserError)
        return None, str(error) if known else f"{source.name}: {type(error).__name__}: {error}"
    if len(found) > MAX_ROWS:
        return None, f"{source.name} tells of more than {MAX_ROWS} holders"
    return found, ""


def _names(view: BoardView) -> dict[str, tuple[int, str]]:
    """Each name by which a scheduler may call a GPU: uuid, index, device file, uuids of its partitions."""
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
        if name == "gpu_process_memory_bytes" and labels[0].isascii() and labels[0].isdigit()
    ]
    return pids if counts and len(pids) >= max(counts) else None
