"""Reads the allocations of the embedded cluster from its store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.collector import CollectorError
from exporter.owners.base import Holding

if TYPE_CHECKING:
    from fleetmedic.localcluster.client import LocalCluster


class LocalOwners:
    """Reads the GPU allocations of one node from the store, in one short transaction."""

    name = "local"

    def __init__(self, cluster_dir: Path, node: str) -> None:
        self._folder = cluster_dir
        self._node = node
        self._cluster: LocalCluster | None = None

    def is_present(self) -> bool:
        return True

    def holdings(self, now: float) -> Iterator[Holding]:
        for allocation in self._client().allocations(self._node):
            key = f"job:{allocation.job_id}"
            yield Holding(
                allocation.uuid or str(allocation.gpu),
                key,
                job_id=allocation.job_id,
                user=allocation.user,
            )

    def _client(self) -> LocalCluster:
        """Return a client of the cluster's store. A missing store is not created."""
        if not (self._folder / "cluster.db").is_file():
            self._cluster = None
            raise CollectorError(f"no cluster store in {self._folder}")
        if self._cluster is None:
            from fleetmedic.localcluster.client import LocalCluster

            self._cluster = LocalCluster(self._folder)
        return self._cluster
