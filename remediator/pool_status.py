"""The status of the pools that all decisions of a moment share.

Each result is computed once for each change of its inputs, because thousands of incidents ask for it.
"""

from __future__ import annotations

from remediator import pools
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.core.facts import PoolFacts
from remediator.core.journal_state import JournalState
from remediator.core.model import Incident
from remediator.core.storm import storm_in
from remediator.reported_hardware import Reported


class PoolStatus:
    """Computes what is out of service in a pool, and whether there is a storm. It keeps the last results."""

    def __init__(self, journal_state: JournalState) -> None:
        self._state = journal_state
        self._out: tuple[tuple[object, ...], pools.OutOfService] | None = None
        self._storms: tuple[tuple[object, ...], dict[str, str | None]] = ((), {})

    def view(
        self,
        snapshot: ClusterSnapshot,
        pool: str,
        incident: Incident,
        since: float,
        *,
        observe: bool,
    ) -> PoolFacts:
        """Return how much of a pool is out of service, not counting the incident's target.

        Quarantines before `since` (Unix seconds) do not count as recent. `observe`: the targets that
        would be out of service at another level count too.
        """
        would = pools.rehearsed(self._state, incident) if observe else ()
        if would:
            out = pools.out_of_service(snapshot, self._state, [target for target, _ in would])
        else:
            out = self._out_of_service(snapshot)
        target = incident.target
        return pools.pool_view(
            snapshot, pool, target, self._state, out, since=since, rehearsed=would
        )

    def storm(self, snapshot: ClusterSnapshot, pool: str, reported: Reported) -> str | None:
        """Return a description if too much of a pool is reported unhealthy now, otherwise None."""
        inputs = (snapshot, reported)
        if not _same(self._storms[0], inputs):
            self._storms = (inputs, {})
        found = self._storms[1]
        if pool not in found:
            found[pool] = storm_in(snapshot.size(pool), reported.targets)
        return found[pool]

    def _out_of_service(self, snapshot: ClusterSnapshot) -> pools.OutOfService:
        inputs = (snapshot, self._state.taking, self._state.kept)
        if self._out is None or not _same(self._out[0], inputs):
            self._out = (inputs, pools.out_of_service(snapshot, self._state))
        return self._out[1]


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    return len(before) == len(now) and all(one is two for one, two in zip(before, now, strict=True))
