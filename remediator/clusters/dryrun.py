"""Wrap a cluster for dry runs: queries go to the real cluster, operations are only recorded.

A plan must be able to run to its end. So recorded operations are reported as done, and recorded
quarantines as present. Tests under load do not run, so they do not pass. Every caller gets the
lock, because a dry run changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.wording.counts import counted
from remediator.clusters.base import (
    Cluster,
    ClusterError,
    InstanceLock,
    JobFacts,
    NodeFacts,
    ProbeResult,
    QuarantineConflict,
    QuarantineFacts,
    WorkloadFacts,
    implemented,
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An operation that the dry run recorded, but did not execute."""

    verb: str
    subject: str
    op_id: str
    text: str


class DryRunCluster(Cluster):
    """A cluster for dry runs. `recorded` lists the operations that were requested, oldest first."""

    def __init__(self, real: Cluster, *, clock: Callable[[], float] = time.time) -> None:
        self._real = real
        self._clock = clock
        self._recorded: list[Recorded] = []
        self._quarantines: dict[Target, QuarantineFacts | None] = {}
        self.name = real.name
        self.capabilities = real.capabilities & implemented(DryRunCluster)

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        """Return the operations that a real run would have executed, oldest first."""
        return tuple(self._recorded)

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        return tuple(self._overlaid(node) for node in await self._real.list_nodes())

    async def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> None:
        held = await self._held_by_us(target, owner)
        if held is None and not self._asked(op_id):
            self._quarantines[target] = QuarantineFacts(owner, reason, op_id, self._clock())
            self._record("quarantine", str(target), op_id, reason)

    async def quarantined(self, target: Target) -> QuarantineFacts | None:
        real = await self._real.quarantined(target)
        return self._quarantines.get(target, real)

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        held = await self._held_by_us(target, owner)
        if held is not None and not self._asked(op_id):
            self._quarantines[target] = None
            self._record("release", str(target), op_id, held.reason)

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        return await self._real.jobs_on(target)

    async def job(self, job_id: str) -> JobFacts | None:
        return await self._real.job(job_id)

    async def signal(self, job_id: str, *, op_id: str) -> None:
        self._record("signal", job_id, op_id, "write a checkpoint now")

    async def signalled(self, job_id: str, *, op_id: str) -> bool:
        return self._asked(op_id) or await self._real.signalled(job_id, op_id=op_id)

    async def restart(
        self, job_id: str, *, op_id: str, exclude: tuple[Target, ...], always: bool = False
    ) -> None:
        away = ", ".join(str(target) for target in exclude) or "nothing"
        self._record("restart", job_id, op_id, f"start elsewhere, excluding {away}")

    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        return self._asked(op_id) or await self._real.restarted(job_id, op_id=op_id)

    async def fail(self, job_id: str, *, op_id: str, reason: str) -> None:
        self._record("fail", job_id, op_id, reason)

    async def failed(self, job_id: str, *, op_id: str) -> bool:
        return self._asked(op_id) or await self._real.failed(job_id, op_id=op_id)

    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        self._record("reset", str(target), op_id, "reset the GPU")

    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        return self._asked(op_id) or await self._real.reset_seen(target, op_id=op_id)

    async def reboot_node(self, target: Target, *, op_id: str) -> None:
        self._record("reboot", str(target), op_id, "reboot the node")

    async def reboot_seen(self, target: Target, *, op_id: str) -> bool:
        return self._asked(op_id) or await self._real.reboot_seen(target, op_id=op_id)

    async def probe(self, target: Target) -> ProbeResult:
        return ProbeResult(False, f"{target} was not tested: this is a dry run.")

    async def scale(self, workload: str, replicas: int, *, op_id: str) -> None:
        found = await self._real.workload(workload)
        if found is None:
            raise ClusterError(f"workload {workload!r} not found in cluster {self.name!r}.")
        self._record(
            "scale", workload, op_id, f"from {found.wanted} to {counted(replicas, 'replica')}"
        )

    async def workload(self, name: str) -> WorkloadFacts | None:
        return await self._real.workload(name)

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        now = self._clock()
        return InstanceLock(installation, host, now, now)

    async def close(self) -> None:
        await self._real.close()

    async def _held_by_us(self, target: Target, owner: str) -> QuarantineFacts | None:
        held = await self.quarantined(target)
        if held is not None and held.owner != owner:
            raise QuarantineConflict(f"{target} is quarantined by {held.owner}: {held.reason}")
        return held

    def _asked(self, op_id: str) -> bool:
        return any(entry.op_id == op_id for entry in self._recorded)

    def _record(self, verb: str, subject: str, op_id: str, text: str) -> None:
        if not self._asked(op_id):
            self._recorded.append(Recorded(verb, subject, op_id, text))

    def _overlaid(self, node: NodeFacts) -> NodeFacts:
        gpus = tuple(
            replace(
                gpu,
                quarantine=self._quarantines.get(
                    Target(TargetKind.GPU, node.name, gpu.index), gpu.quarantine
                ),
            )
            for gpu in node.gpus
        )
        whole = self._quarantines.get(Target(TargetKind.NODE, node.name), node.quarantine)
        return replace(node, gpus=gpus, quarantine=whole)
