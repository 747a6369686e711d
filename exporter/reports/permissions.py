"""Decides which user may report for a job: its owner in the cluster, otherwise the first user who
reported."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from exporter.reports.report import Key, ReportRejected

ROOT = 0
MAX_OWNED = 4096

Owned = tuple[str, str]  # a reporter's kind and name; all its parts have the same owner


class ReportPermissions:
    """The owners of jobs, pipelines and services. Root may report for all, and never becomes an
    owner.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[Owned, tuple[int, float]] = {}
        self._cluster_owners: Mapping[str, int] = {}

    def set_owners(self, owners: Mapping[str, int]) -> None:
        """Set the owners of this node's training jobs, as reported by the cluster, by job id."""
        self._cluster_owners = owners

    def check(self, key: Key, uid: int) -> None:
        """Check that the user may report for this job, pipeline or service. The first reporter
        becomes its owner. Raises ReportRejected."""
        owner = self._cluster_owners.get(key.name) if key.kind == "training" else None
        with self._lock:
            first = self._first.get(key[:2])
            if owner is None and first is not None:
                owner = first[0]
            if owner is not None and uid not in (ROOT, owner):
                raise ReportRejected("owner", f"user {uid} may not report for user {owner}")
            if uid == ROOT or first is not None:
                return
            if len(self._first) >= MAX_OWNED:
                raise ReportRejected("limit", f"more than {MAX_OWNED} jobs, pipelines and services")
            self._first[key[:2]] = (uid, time.monotonic())

    def keep(self, present: set[Owned], since: float) -> None:
        """Remove the owners of all jobs, pipelines and services that are not in `present`.

        Reporters that first reported after `since` (monotonic seconds) are kept.
        """
        with self._lock:
            for owned, (_, at) in list(self._first.items()):
                if owned not in present and at < since:
                    del self._first[owned]
