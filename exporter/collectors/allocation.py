"""Which job holds which GPU, from the embedded cluster's store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.collectors.base import CollectorError
from exporter.exposition import Sample

if TYPE_CHECKING:
    from fleetmedic.localcluster.client import LocalCluster

MAX_ROWS = 4096


class Allocation:
    """The allocations of one node, read from the store in a short transaction."""

    name = "allocation"
    inline = False
    interval = 2.0

    def __init__(self, cluster_dir: Path, node: str) -> None:
        self._folder = cluster_dir
        self._node = node
        self._cluster: LocalCluster | None = None

    def collect(self, now: float) -> Iterator[Sample]:
        for held in self._client().allocations(self._node)[:MAX_ROWS]:
            labels = (str(held.gpu), held.uuid, held.job_id, held.user)
            yield Sample("gpu_allocation_info", labels, 1)

    def _client(self) -> LocalCluster:
        """The store's client. A store that is not there is not made here."""
        if not (self._folder / "cluster.db").is_file():
            self._cluster = None
            raise CollectorError(f"there is no cluster store in {self._folder}")
        if self._cluster is None:
            from fleetmedic.localcluster.client import LocalCluster

            self._cluster = LocalCluster(self._folder)
        return self._cluster
