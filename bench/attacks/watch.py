"""The true state of the hardware, and what happens to it: the basis of the checks."""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from attacks.site import Gpu, Site, quarantines, rfc
from fleetmedic.kernel.labels import Target

LATE = 45.0  # seconds after its end for which a fault is still a valid cause
SICK = (
    90.0  # seconds of undisturbed monitoring after which a failed GPU with a job must be detected
)


@dataclass
class Truth:
    """The faults by injections and repairs: intervals of Unix seconds, open or closed."""

    sick: dict[Gpu, list[list[float]]] = field(default_factory=dict)
    stalled: dict[str, float] = field(default_factory=dict)
    dark: dict[str, float] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, gpu: Gpu, at: float) -> None:
        with self.lock:
            spells = self.sick.setdefault(gpu, [])
            if not spells or spells[-1][1] < math.inf:
                spells.append([at, math.inf])

    def end(self, gpu: Gpu, at: float) -> None:
        with self.lock:
            for spell in self.sick.get(gpu, ()):
                spell[1] = min(spell[1], at)

    def now(self, gpu: Gpu) -> float | None:
        """The start of the GPU's current fault, or None."""
        with self.lock:
            spells = self.sick.get(gpu) or [[0.0, 0.0]]
            return spells[-1][0] if spells[-1][1] == math.inf else None

    def excuses(self, target: str, at: float) -> bool:
        """Whether that GPU, or a GPU of that node, had a fault at that time or shortly before."""
        where = Target.parse(target)
        with self.lock:
            return any(
                began <= at + 1 and ended >= at - LATE
                for (node, index), spells in self.sick.items()
                if node == where.name and where.gpu in (None, index)
                for began, ended in spells
            )

    def excuses_node(self, node: str, at: float, resets: list[tuple[float, str]]) -> bool:
        """Whether a repair of the whole node was valid: two failed GPUs, exporter down, failed reset."""
        sick = {
            gpu
            for gpu in self.sick
            if self.excuses(f"gpu/{gpu[0]}/{gpu[1]}", at) and gpu[0] == node
        }
        tried = any(
            at - 300 < when <= at and one.startswith(f"gpu/{node}/") for when, one in resets
        )
        return (
            len(sick) >= 2
            or bool(sick and tried)
            or (bool(sick) and self.dark.get(node, 0.0) >= at - LATE)
        )

    def ever(self, target: str) -> bool:
        where = Target.parse(target)
        return any(n == where.name and where.gpu in (None, i) for n, i in self.sick)


class Watcher(threading.Thread):
    """Records resets, reboots and placements of jobs, and failed GPUs that were not detected."""

    def __init__(self, site: Site, truth: Truth) -> None:
        super().__init__(name="watcher", daemon=True)
        self.site, self.truth, self.halt = site, truth, threading.Event()
        self.resets: list[tuple[float, str]] = []
        self.reboots: list[tuple[float, str]] = []
        self.places: dict[str, list[tuple[float, str, str | None, tuple[int, ...]]]] = {}
        self.unknown: dict[Gpu, float] = {}
        self.overlooked: dict[Gpu, str] = {}
        self.disturbed_until = 0.0
        self.sizes: list[tuple[float, int, int]] = []
        self.arrivals: list[tuple[float, float]] = []  # requests to the service so far
        self._size = 0
        self._seen: dict[Gpu, int] = {}
        self._boots: dict[str, int] = {}

    def run(self) -> None:
        while not self.halt.wait(0.25):
            with suppress(Exception):
                self.look(time.time())

    def look(self, now: float) -> None:
        hardware = self.site.hardware
        for node in hardware.nodes():
            boots = hardware.boot(node).boots
            if boots != self._boots.setdefault(node, boots):
                self._boots[node] = boots
                self.reboots.append((now, f"node/{node}"))
                for index in hardware.gpus(node):
                    if not hardware.gpu(node, index).fault:
                        self.truth.end((node, index), now)
            for index in hardware.gpus(node):
                state = hardware.gpu(node, index)
                if state.resets != self._seen.setdefault((node, index), state.resets):
                    self._seen[node, index] = state.resets
                    self.resets.append((now, f"gpu/{node}/{index}"))
                    if not state.fault:
                        self.truth.end((node, index), now)
        size = self.site.cluster.workload("serve").wanted
        if size != self._size:
            self.sizes.append((now, self._size, size))
            self._size = size
        if not self.arrivals or now >= self.arrivals[-1][0] + 1:
            self._count(now)
        on: dict[Gpu, str] = {}
        for job in self.site.cluster.jobs():
            seen = self.places.setdefault(job.id, [])
            if not seen or seen[-1][1:] != (str(job.state), job.node, job.gpus):
                seen.append((now, str(job.state), job.node, job.gpus))
            if job.state == "RUNNING" and job.node:
                on |= {(job.node, index): job.id for index in job.gpus}
        out = {str(one) for one in quarantines(self.site)}
        for gpu, job_id in on.items():
            self._overlooked(gpu, job_id, out, now)

    def _count(self, now: float) -> None:
        """Keep how many requests have reached the pool: those answered, waiting and running."""
        status, page = self.site.ask(f"{self.site.urls['pool']}/metrics")
        names = (
            "inference_requests_total{",
            "inference_requests_waiting{",
            "inference_requests_running{",
        )
        lines = [line for line in page.splitlines() if line.startswith(names)]
        if status == 200:
            self.arrivals.append((now, sum(float(line.rpartition(" ")[2]) for line in lines)))

    def rate(self, since: float, until: float) -> float:
        """The requests a second that reached the pool within a time; 0 where that was not seen."""
        seen = [one for one in self.arrivals if since <= one[0] <= until]
        if len(seen) < 2 or seen[-1][0] == seen[0][0]:
            return 0.0
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def _overlooked(self, gpu: Gpu, job_id: str, out: set[str], now: float) -> None:
        since, name = self.truth.now(gpu), f"gpu/{gpu[0]}/{gpu[1]}"
        state = self.site.hardware.gpu(*gpu)
        told = state.lost or state.hung or state.remap_pending or state.heat >= 10
        if (
            since is None
            or not told
            or name in out
            or f"node/{gpu[0]}" in out
            or name in self.truth.released
        ):
            self.unknown.pop(gpu, None)
            return
        if now < self.disturbed_until:
            return
        self.unknown[gpu] = self.unknown.get(gpu, 0.0) + 0.25
        if self.unknown[gpu] < SICK or gpu in self.overlooked:
            return
        with self.site.journal() as db:
            heard = db.execute(
                "SELECT count(*) FROM events WHERE event = 'Notified' AND at > ? AND (target IS NULL OR target IN (?, ?, ?))",
                (since, name, f"node/{gpu[0]}", f"job/{job_id}"),
            ).fetchone()[0]
        if not heard:
            self.overlooked[gpu] = (
                f"{name} is sick since {rfc(since)} with {job_id} on it, in service, and nobody was notified"
            )

    def place(self, job_id: str, at: float) -> tuple[str, str | None, tuple[int, ...]] | None:
        before = [one for one in self.places.get(job_id, ()) if one[0] <= at]
        return before[-1][1:] if before else None
