"""One view of the cluster that all decisions of a moment share, with indexes instead of scans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.clusters.base import Cluster, ClusterError, NodeFacts
from remediator.core.model import OWNER
from remediator.core.storm import PoolSize

# A query of the cluster may use at most this share of the time (0 to 1), except right before a step.
BUSY_SHARE = 0.05
# The longest age (seconds) that a snapshot may reach because a query takes long.
OLDEST = 1.0


@dataclass(frozen=True, slots=True)
class _IndexedNode:
    """A node, with the UUIDs of its GPUs in lower case and the targets that the remediator quarantined."""

    node: NodeFacts
    uuids: tuple[str, ...]
    ours: tuple[Target, ...]


class ClusterSnapshot:
    """The nodes of the cluster at one moment.

    The index of a node that is the same object in `before` is used again, because most nodes do not
    change between two snapshots.
    """

    def __init__(
        self, nodes: Iterable[NodeFacts] = (), before: ClusterSnapshot | None = None
    ) -> None:
        self.nodes = tuple(nodes)
        known = before._indexed if before else {}
        self._indexed: dict[str, _IndexedNode] = {
            node.name: _index(node, known.get(node.name)) for node in self.nodes
        }

    def node(self, name: str) -> NodeFacts | None:
        """Return the node of that name, or None."""
        found = self._indexed.get(name)
        return found.node if found else None

    def home(self, uuid: str) -> str | None:
        """Return the name of the node with this GPU; None if no node has it. Case does not matter."""
        return self._homes.get(uuid.lower())

    @property
    def pools(self) -> Iterable[str]:
        """Return the names of all pools."""
        return self._sizes

    def size(self, pool: str) -> PoolSize:
        """Return a pool with the number of GPUs of each of its nodes."""
        return self._sizes.get(pool) or PoolSize(pool, {})

    def gpus(self, pool: str) -> int:
        """Return the number of GPUs of a pool."""
        return self._gpu_counts.get(pool, 0)

    @cached_property
    def ours(self) -> frozenset[Target]:
        """All GPUs and nodes that the remediator quarantined, according to the cluster."""
        return frozenset(target for one in self._indexed.values() for target in one.ours)

    @cached_property
    def _homes(self) -> Mapping[str, str]:
        return {uuid: name for name, one in self._indexed.items() for uuid in one.uuids}

    @cached_property
    def _sizes(self) -> Mapping[str, PoolSize]:
        sizes: dict[str, dict[str, int]] = {}
        for node in self.nodes:
            sizes.setdefault(node.pool, {})[node.name] = len(node.gpus)
        return {pool: PoolSize(pool, gpus) for pool, gpus in sizes.items()}

    @cached_property
    def _gpu_counts(self) -> Mapping[str, int]:
        return {pool: sum(size.gpus.values()) for pool, size in self._sizes.items()}


def _index(node: NodeFacts, known: _IndexedNode | None) -> _IndexedNode:
    if known is not None and known.node is node:
        return known
    gpus = [
        Target(TargetKind.GPU, node.name, gpu.index)
        for gpu in node.gpus
        if gpu.quarantine and gpu.quarantine.owner == OWNER
    ]
    whole = node.quarantine is not None and node.quarantine.owner == OWNER
    ours = [Target(TargetKind.NODE, node.name), *gpus] if whole else gpus
    uuids = tuple(gpu.uuid.lower() for gpu in node.gpus if gpu.uuid)
    return _IndexedNode(node, uuids, tuple(ours))


class ClusterView:
    """Queries the cluster, and shares each result among all decisions of the same moment.

    A result from before one of the remediator's own operations is never used afterwards.
    """

    def __init__(self, cluster: Cluster, monotonic: Callable[[], float] = monotonic) -> None:
        self._cluster = cluster
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._found: ClusterSnapshot | ClusterError | None = None
        self._last: ClusterSnapshot | None = None
        self._taken = -1e9
        self._took = 0.0
        self._operations = 0
        self._counted = 0

    def changed(self) -> None:
        """Record that the remediator has just called an operation of the cluster."""
        self._operations += 1

    async def snapshot(self, max_age: float) -> ClusterSnapshot:
        """Return the cluster at a moment at most `max_age` seconds before this call.

        If the cluster answers slowly, the result may be older, but not older than OLDEST seconds. With a
        `max_age` of 0 the cluster is always queried. Raises ClusterError.
        """
        asked = self._monotonic()
        async with self._asking:
            if not self._is_recent(asked, max_age):
                await self._query()
        if isinstance(self._found, ClusterError):
            raise self._found
        assert self._found is not None  # noqa: S101 - the query has set it
        return self._found

    def _is_recent(self, asked: float, max_age: float) -> bool:
        if self._found is None or self._counted != self._operations:
            return False
        slack = max(max_age, min(OLDEST, self._took / BUSY_SHARE)) if max_age > 0 else 0.0
        if isinstance(self._found, ClusterError):
            # Many decisions wait for an unreachable cluster: they share its error.
            slack = max(slack, OLDEST)
        return self._taken > asked - slack

    async def _query(self) -> None:
        self._counted, self._taken, self._found = self._operations, self._monotonic(), None
        try:
            nodes = await self._cluster.list_nodes()
            if self._last is None or nodes is not self._last.nodes:
                self._last = ClusterSnapshot(nodes, self._last)
            self._found = self._last
        except ClusterError as error:
            self._found = error
        self._took = self._monotonic() - self._taken
