"""Reads information about reporting jobs from the embedded cluster's store."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmedic.kernel.errors import UserError

if TYPE_CHECKING:
    from fleetmedic.localcluster.client import LocalCluster


class LocalJobs:
    """The jobs of one node and the services of the worker pool, from the store.

    An unreadable store counts as empty; the `allocation` collector reports the failure.
    """

    def __init__(self, cluster_dir: Path, node: str) -> None:
        self._store = cluster_dir / "cluster.db"
        self._node = node
        self._client: LocalCluster | None = None
        self._pooled: dict[str, bool] = {}

    def users(self) -> Mapping[str, int]:
        """Return the user id of each job on this node.

        It is always the store's owner, because the controller owns the store and runs the jobs as
        its own user.
        """
        self._pooled = {}
        try:
            uid = self._store.stat().st_uid
            return {
                allocation.job_id: uid for allocation in self._cluster().allocations(self._node)
            }
        except (OSError, UserError, sqlite3.Error):
            return {}

    def pooled(self, service: str) -> bool:
        """Return whether the worker pool runs this service. Cached until the next call of `users`."""
        if service not in self._pooled:
            try:
                self._pooled[service] = bool(
                    self._store.stat() and self._cluster().workload(service)
                )
            except (OSError, UserError, sqlite3.Error):
                self._pooled[service] = False
        return self._pooled[service]

    def _cluster(self) -> LocalCluster:
        if self._client is None:
            from fleetmedic.localcluster.client import LocalCluster

            self._client = LocalCluster(self._store.parent)
        return self._client
