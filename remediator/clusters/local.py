"""The adapter of the embedded cluster and its simulated hardware.

The embedded cluster places, runs and retries jobs. The adapter sends requests to it and reads its
state. Reset, reboot and the test under load act on the hardware directory. Without that directory,
the cluster lacks these capabilities.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.localcluster import client as embedded
from fleetmedic.localcluster import model
from fleetmedic.wording.counts import counted
from remediator.clusters.base import (
    Capability,
    Cluster,
    ClusterError,
    GpuFacts,
    InstanceLock,
    JobFacts,
    JobFailure,
    NodeFacts,
    ProbeResult,
    QuarantineConflict,
    QuarantineFacts,
    Unsupported,
    WorkloadFacts,
    implemented,
)
from remediator.clusters.burnin import burn_in

T = TypeVar("T")
# The controller writes a heartbeat each second. An order that it cannot carry out now could be carried out much later,
# when the target is healthy again.
CONTROLLER_LATE = 15.0
_HARDWARE = frozenset({Capability.GPU_RESET, Capability.REBOOT, Capability.PROBE})


class LocalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings `cluster.local` in remediator.yml. `burn_in` is the duration of a test under load."""

    cluster_dir: str
    hardware_dir: str | None = None
    burn_in: str = "1s"


@dataclass(frozen=True, slots=True)
class _Holdings:
    """The GPUs that each job holds, from a single read of the cluster."""

    nodes: list[model.NodeView]

    def places_of(self, job_id: str) -> tuple[Target, ...]:
        return tuple(
            Target(TargetKind.GPU, node.name, gpu.index)
            for node in self.nodes
            for gpu in node.gpus
            if gpu.job_id == job_id
        )


class LocalClusterAdapter(Cluster):
    """The adapter of the embedded cluster. Calls run in threads; the first call opens the store."""

    def __init__(self, name: str, settings: LocalSettings) -> None:
        self.name = name
        self._folder = Path(settings.cluster_dir)
        try:
            self._burn_in = parse_duration(settings.burn_in)
        except UserError as error:
            raise UserError(f"cluster.local: at $.burn_in: {error}") from None
        given = Path(settings.hardware_dir) if settings.hardware_dir else None
        self._hardware = Hardware(given) if given is not None and given.is_dir() else None
        self.capabilities = implemented(LocalClusterAdapter) - (
            frozenset() if self._hardware else _HARDWARE
        )
        self._client: embedded.LocalCluster | None = None
        self._opening = threading.Lock()

    async def list_nodes(self) -> tuple[NodeFacts, ...]:
        return tuple(_node(view) for view in await self._ask(lambda c: c.nodes()))

    async def quarantine(self, target: Target, *, op_id: str, owner: str, reason: str) -> None:
        await self._ask(lambda c: c.quarantine(target, op_id=op_id, owner=owner, reason=reason))

    async def quarantined(self, target: Target) -> QuarantineFacts | None:
        return _find(await self.list_nodes(), target).quarantine

    async def release(self, target: Target, *, op_id: str, owner: str) -> None:
        held = await self.quarantined(target)
        if held is not None and held.owner != owner:
            raise QuarantineConflict(f"{target} is quarantined by {held.owner}: {held.reason}")
        await self._ask(lambda c: c.release(target, op_id=op_id, owner=owner))

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        return await self._ask(lambda c: _jobs_on(c, target))

    async def job(self, job_id: str) -> JobFacts | None:
        def look(client: embedded.LocalCluster) -> JobFacts | None:
            holdings = _Holdings(client.nodes())
            try:
                return _job(client.job(job_id), holdings)
            except UserError:
                return None

        return await self._ask(look)

    async def signal(self, job_id: str, *, op_id: str) -> None:
        await self._order(lambda c: c.signal(job_id, op_id=op_id))

    async def signalled(self, job_id: str, *, op_id: str) -> bool:
        return op_id in (await self._ask(lambda c: c.job(job_id))).signals

    async def restart(
        self, job_id: str, *, op_id: str, exclude: tuple[Target, ...], always: bool = False
    ) -> None:
        def order(client: embedded.LocalCluster) -> None:
            # `exclude` may have changed since the operation was accepted.
            if op_id not in client.job(job_id).restart_ops:
                client.restart(job_id, op_id=op_id, exclude=exclude, always=always)

        await self._order(order)

    async def restarted(self, job_id: str, *, op_id: str) -> bool:
        job = await self._ask(lambda c: c.job(job_id))
        return job.state.ended or op_id in job.restarts_done

    async def fail(self, job_id: str, *, op_id: str, reason: str) -> None:
        await self._order(lambda c: c.fail(job_id, op_id=op_id, reason=reason))

    async def failed(self, job_id: str, *, op_id: str) -> bool:
        return op_id in (await self._ask(lambda c: c.job(job_id))).failed_by

    async def reset_gpu(self, target: Target, *, op_id: str) -> None:
        hardware = self._need_hardware("reset a GPU")
        if not await self.reset_seen(target, op_id=op_id):
            index = _gpu_index(target)
            await self._require_idle(target)
            await _outside(lambda: hardware.reset(target.name, index, op_id))

    async def reset_seen(self, target: Target, *, op_id: str) -> bool:
        hardware, index = self._need_hardware("reset a GPU"), _gpu_index(target)
        return (await _outside(lambda: hardware.gpu(target.name, index))).last_reset_op == op_id

    async def reboot_node(self, target: Target, *, op_id: str) -> None:
        hardware = self._need_hardware("reboot a node")
        if not await self.reboot_seen(target, op_id=op_id):
            await self._require_idle(target)
            await _outside(lambda: hardware.reboot(target.name, op_id))

    async def reboot_seen(self, target: Target, *, op_id: str) -> bool:
        hardware = self._need_hardware("reboot a node")
        if target.kind is not TargetKind.NODE:
            raise ClusterError(f"reboot: expected a node, got {target}.")
        return (await _outside(lambda: hardware.boot(target.name))).last_reboot_op == op_id

    async def probe(self, target: Target) -> ProbeResult:
        hardware = self._need_hardware("test a GPU")
        gpus = _indices(_find(await self.list_nodes(), target))
        results = await asyncio.gather(
            *(burn_in(hardware, target.name, index, self._burn_in) for index in gpus)
        )
        failed = [result.text for result in results if not result.passed]
        if failed or not results:
            return ProbeResult(False, " ".join(failed) or f"{target} has no GPU to test.")
        if target.kind is TargetKind.GPU:
            return results[0]
        number = counted(len(results), "GPU")
        return ProbeResult(True, f"{number} of {target.name} tested: each passed its test.")

    async def scale(self, workload: str, replicas: int, *, op_id: str) -> None:
        await self._order(lambda c: c.scale(workload, replicas, op_id=op_id))

    async def workload(self, name: str) -> WorkloadFacts | None:
        def look(client: embedded.LocalCluster) -> WorkloadFacts | None:
            try:
                found = client.workload(name)
            except UserError:
                return None
            return WorkloadFacts(
                found.name, found.wanted, found.ready, found.minimum, found.maximum
            )

        return await self._ask(look)

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        held = await self._ask(
            lambda c: c.lock(installation, ttl=ttl, host=host, take_over=take_over)
        )
        return InstanceLock(
            held.installation, held.host, held.since, held.renewed.wall, held.taken_over
        )

    async def close(self) -> None:
        if self._client is not None:
            await _outside(self._client.store.close)

    # internal

    async def _ask(self, call: Callable[[embedded.LocalCluster], T]) -> T:
        return await _outside(lambda: call(self._open()))

    async def _order(self, call: Callable[[embedded.LocalCluster], object]) -> None:
        """Send a request to the embedded cluster's controller.

        Raises ClusterError if the controller does not run.
        """

        def send(client: embedded.LocalCluster) -> None:
            beat = client.heartbeat()
            if beat is None or time.time() - beat > CONTROLLER_LATE:
                since = (
                    ""
                    if beat is None
                    else f" since {datetime.fromtimestamp(beat, UTC):%H:%M:%S} UTC"
                )
                raise ClusterError(
                    f"the controller of the embedded cluster has not responded{since}.",
                    transient=True,
                )
            call(client)

        await self._ask(send)

    def _open(self) -> embedded.LocalCluster:
        with self._opening:
            if self._client is None:
                root = self._hardware.root if self._hardware else None
                self._client = embedded.LocalCluster(self._folder, root)
            return self._client

    def _need_hardware(self, verb: str) -> Hardware:
        if self._hardware is None:
            raise Unsupported(
                f"the cluster {self.name!r} cannot {verb}: this requires simulated GPUs, but "
                "cluster.local.hardware_dir is not an existing directory."
            )
        return self._hardware

    async def _require_idle(self, target: Target) -> None:
        if jobs := await self.jobs_on(target):
            names = ", ".join(job.job_id for job in jobs)
            raise ClusterError(
                f"{target} is in use by {names}; move these jobs first.", transient=True
            )


async def _outside(call: Callable[[], T]) -> T:
    """Run a blocking call of the cluster in a thread, and convert its exceptions to ClusterError."""
    try:
        return await asyncio.to_thread(call)
    except model.Conflict as error:
        raise QuarantineConflict(str(error)) from None
    except UserError as error:
        raise ClusterError(str(error)) from None
    except (sqlite3.Error, OSError) as error:
        raise ClusterError(
            f"the embedded cluster's files cannot be used: {error}.", transient=True
        ) from None


def _jobs_on(client: embedded.LocalCluster, target: Target) -> tuple[JobFacts, ...]:
    holdings = _Holdings(client.nodes())
    found = _find(tuple(_node(view) for view in holdings.nodes), target)
    gpus = found.gpus if isinstance(found, NodeFacts) else (found,)
    holders = {gpu.job_id for gpu in gpus if gpu.job_id is not None}
    views = [client.job(job_id) for job_id in holders]
    if target.kind is TargetKind.NODE:
        # A job may run on a node without holding a GPU.
        views += [one for one in client.jobs() if one.node == target.name and not one.gpus]
    facts = (_job(view, holdings) for view in views)
    return tuple(
        sorted(
            (job for job in facts if target.name in job.nodes and not job.finished),
            key=lambda job: job.job_id,
        )
    )


def _job(view: model.JobView, holdings: _Holdings) -> JobFacts:
    places = holdings.places_of(view.id)
    running = view.state is model.JobState.RUNNING
    if not places and running and view.node:
        places = (Target(TargetKind.NODE, view.node),)
    return JobFacts(
        job_id=view.id,
        state=view.state.value,
        places=places,
        running=running,
        finished=view.state.ended,
        attempts=view.attempts,
        restarts=view.restarts,
        reason=view.text,
        failure=JobFailure(*view.failure) if view.failure else None,
    )


def _node(view: model.NodeView) -> NodeFacts:
    gpus = tuple(
        GpuFacts(gpu.index, gpu.uuid, _quarantine(gpu.quarantined), gpu.job_id, gpu.marked)
        for gpu in view.gpus
    )
    return NodeFacts(view.name, view.alive, gpus, _quarantine(view.quarantined))


def _quarantine(view: model.Quarantine | None) -> QuarantineFacts | None:
    return QuarantineFacts(view.owner, view.reason, view.op_id, view.at) if view else None


def _find(nodes: tuple[NodeFacts, ...], target: Target) -> NodeFacts | GpuFacts:
    node = next((node for node in nodes if target.node and node.name == target.node), None)
    found = node if node is None or target.gpu is None else node.gpu(target.gpu)
    if found is None:
        raise ClusterError(f"{target} not found in the embedded cluster.")
    return found


def _indices(found: NodeFacts | GpuFacts) -> tuple[int, ...]:
    return (
        tuple(gpu.index for gpu in found.gpus) if isinstance(found, NodeFacts) else (found.index,)
    )


def _gpu_index(target: Target) -> int:
    if target.gpu is None:
        raise ClusterError(f"reset: expected a GPU, got {target}.")
    return target.gpu
