"""Delete the events that are older than the retention, so that the journal's file stops growing.

A replay of the remaining events must lead to the same decisions as before. Therefore these events stay:
events of incidents in memory, and of incidents whose targets an operator keeps out of service; events of alerts
in memory; pauses, storms, and orders without an incident, which are few.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

import msgspec

from remediator.core.events import Kind
from remediator.core.journal_state import JournalState
from remediator.core.retention import DAY

BATCH = 2_000
_STAY = frozenset({Kind.PAUSED, Kind.RESUMED, Kind.ORDERED, Kind.STORM_BEGAN, Kind.STORM_ENDED})
_OF_ALERTS = frozenset({Kind.ALERT_RECEIVED, Kind.SUPPRESSED})
_OLD = (
    "SELECT seq, incident, event, data FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?"
)
_NEWER = "SELECT 1 FROM events WHERE incident = ? AND seq >= ? LIMIT 1"


@dataclass(slots=True)
class Pruning:
    """One pass over the old events, in batches. `before` is the time (Unix seconds) up to which events are old.

    `incidents` and `alerts` are the ids and keys whose events stay.
    """

    before: float
    incidents: frozenset[str]
    alerts: frozenset[str]
    end: int | None = None
    passed: int = 0
    done: bool = False
    _judged: dict[str, bool] = field(default_factory=dict)

    def batch(self, connection: sqlite3.Connection) -> int:
        """Delete one batch. Returns the number of deleted events. The caller runs a transaction."""
        if self.end is None:
            self.end = first_since(connection, self.before)
        rows = connection.execute(_OLD, (self.passed, self.end, BATCH)).fetchall()
        self.done = len(rows) < BATCH
        if rows:
            self.passed = rows[-1][0]
        single: list[tuple[int]] = []
        whole: dict[str, None] = {}
        for seq, incident, kind, data in rows:
            if incident is None:
                if self._is_over(Kind(kind), data):
                    single.append((seq,))
            elif self._has_ended(connection, incident):
                whole[incident] = None
        deleted = connection.executemany("DELETE FROM events WHERE seq = ?", single).rowcount
        deleted = max(deleted, 0)
        for incident in whole:
            connection.execute("DELETE FROM relations WHERE incident = ?", (incident,))
            gone = connection.execute("DELETE FROM events WHERE incident = ?", (incident,))
            deleted += gone.rowcount
        return deleted

    def _is_over(self, kind: Kind, data: bytes) -> bool:
        if kind in _STAY:
            return False
        return kind not in _OF_ALERTS or msgspec.json.decode(data).get("key") not in self.alerts

    def _has_ended(self, connection: sqlite3.Connection, incident: str) -> bool:
        """Return whether all events of an incident are old, and the incident is not needed."""
        if incident not in self._judged:
            newer = connection.execute(_NEWER, (incident, self.end)).fetchone()
            self._judged[incident] = incident not in self.incidents and newer is None
        return self._judged[incident]


def pruning(state: JournalState) -> Pruning | None:
    """Return what to delete after a snapshot of this state; None if the journal keeps all events."""
    # The time of the state's last sweep: what is deleted here has left the state before.
    before = state.swept // DAY * DAY - state.retention.events
    if before <= 0:
        return None
    kept = (pin.incident for pin in state.kept.values())
    return Pruning(before, frozenset((*state.incidents, *kept)), frozenset(state.episodes))


def first_since(connection: sqlite3.Connection, at: float) -> int:
    """Return the sequence number from which on events are not older than `at` (Unix seconds).

    The times of events are in order, except for small steps of the clock.
    """
    row = connection.execute("SELECT MIN(seq), MAX(seq) FROM events").fetchone()
    if row[0] is None:
        return 0
    low, high = int(row[0]), int(row[1]) + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(
            "SELECT seq, at FROM events WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
        ).fetchone()
        if found is not None and found[1] < at:
            low = int(found[0]) + 1
        else:
            high = middle
    return low
