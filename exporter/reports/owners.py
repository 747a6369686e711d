"""Who may report what: the job's owner where the cluster knows it, else whoever did so first."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from exporter.reports.report import Key, Rejected

ROOT = 0
MAX_OWNED = 4096

Owned = tuple[str, str]  # a reporter's kind and name, without its parts: they are of one owner


class Owners:
    """User ids by what they may report. Root may report everything, and takes nothing from anybody.
    Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[Owned, tuple[int, float]] = {}
        self._known: Mapping[str, int] = {}

    def told(self, known: Mapping[str, int]) -> None:
        """The cluster's word on whose the training jobs of this node are, by job."""
        self._known = known

    def check(self, key: Key, uid: int) -> None:
        """Note the first who reports it. Raises Rejected for another."""
        owner = self._known.get(key.name) if key.kind == "training" else None
        with self._lock:
            first = self._first.get(key[:2])
            if owner is None and first is not None:
                owner = first[0]
            if owner is not None and uid not in (ROOT, owner):
                raise Rejected("owner", f"user {uid} may not report for user {owner}")
            if uid == ROOT or first is not None:
                return
            if len(self._first) >= MAX_OWNED:
                raise Rejected("limit", f"more than {MAX_OWNED} jobs, pipelines and services")
            self._first[key[:2]] = (uid, time.monotonic())

    def keep(self, present: set[Owned], since: float) -> None:
        """Forget who reported what is not `present`, unless it was first reported after `since`
        (monotonic seconds)."""
        with self._lock:
            for owned, (_, at) in list(self._first.items()):
                if owned not in present and at < since:
                    del self._first[owned]
