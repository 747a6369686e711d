"""Read the journal: events, incidents that are no longer in memory, and the latest snapshot.

Another process may read while the remediator writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator.core.events import Event, Kind
from remediator.core.lifecycle import IllegalTransition, evolve, new_incident
from remediator.core.model import Incident
from remediator.core.reasons import Reason
from remediator.journal_schema import FILE
from remediator.journal_upgrades import upgraded

_SELECT = "SELECT seq, at, incident, target, event, reason, text, data FROM events"
# The literal lets SQLite use the index `opened`.
_COUNT = "SELECT COUNT(*) FROM events WHERE event = 'IncidentOpened'"
_LATEST = "SELECT incident FROM events WHERE event = 'IncidentOpened' ORDER BY seq DESC LIMIT ?"
_OWN = "SELECT incident FROM events WHERE target = ? AND event = 'IncidentOpened' ORDER BY seq DESC LIMIT ?"
_RELATED = (
    "SELECT relations.incident FROM relations JOIN events ON events.incident = relations.incident "
    "WHERE relations.target = ? AND event = 'IncidentOpened' ORDER BY events.seq DESC LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class JournalReader:
    """The journal of one data directory, read only. Every method raises UserError for a damaged file.

    Without a journal file, there are no events.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """Return the path of the journal file."""
        return self.folder / FILE

    def replay(self, after: int = 0) -> Iterator[Event]:
        """Yield the events with a sequence number above `after`, in order."""
        for row in self._rows(f"{_SELECT} WHERE seq > ? ORDER BY seq", (after,)):
            yield _event(row)

    def lines(self, *, after: int = 0, limit: int = -1) -> list[dict[str, Any]]:
        """Return the events with a sequence number above `after` as JSON objects."""
        query = f"{_SELECT} WHERE seq > ? ORDER BY seq LIMIT ?"
        return [line(_event(row)) for row in self._rows(query, (after, limit))]

    def find(
        self,
        *,
        target: str | None = None,
        incident: str | None = None,
        decided: bool = False,
        reason: str | None = None,
        kind: Kind | None = None,
        limit: int = 200,
    ) -> list[Event]:
        """Return the latest events that match all filters, oldest first.

        `decided` selects events with a reason. `limit` counts matching events only.
        """
        given = {
            "incident = ?": incident,
            "target = ?": target,
            "reason = ?": reason,
            "event = ?": kind and str(kind),
        }
        filters = {condition: value for condition, value in given.items() if value}
        conditions = [*filters, *(["reason IS NOT NULL"] if decided else [])]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"{_SELECT} {where} ORDER BY seq DESC LIMIT ?"
        rows = self._rows(query, (*filters.values(), limit))
        return [_event(row) for row in reversed(list(rows))]

    def incident(self, identity: str) -> Incident | None:
        """Return an incident as its events in the journal describe it; None if it is unknown."""
        rows = self._rows(f"{_SELECT} WHERE incident = ? ORDER BY seq", (identity,))
        found: Incident | None = None
        for event in map(_event, rows):
            # The state skips an illegal transition, too.
            with suppress(IllegalTransition):
                found = new_incident(event) if found is None else evolve(found, event)
        return found

    def latest(self, limit: int) -> list[str]:
        """Return the ids of the latest incidents, oldest first."""
        return [row[0] for row in reversed(list(self._rows(_LATEST, (limit,))))]

    def count_incidents(self) -> int:
        """Return the number of incidents that were opened according to the journal's events."""
        return next((int(row[0]) for row in self._rows(_COUNT, ())), 0)

    def about(self, target: Target, limit: int) -> list[str]:
        """Return the ids of the latest incidents of a target, and of those that contain decisions about it."""
        found = [row[0] for row in self._rows(_OWN, (str(target), limit))]
        with suppress(
            UserError
        ):  # a file of schema 1, which no remediator has opened since the upgrade
            found += [row[0] for row in self._rows(_RELATED, (str(target), limit))]
        return list(dict.fromkeys(found))

    def snapshot(self) -> Iterator[bytes]:
        """Yield the parts of the latest snapshot; nothing if there is none or it cannot be read."""
        with suppress(UserError):
            for row in self._rows("SELECT data FROM snapshot ORDER BY part", ()):
                if isinstance(row[0], bytes):
                    yield row[0]

    def last_seq(self) -> int:
        """Return the sequence number of the last event; 0 if there is none."""
        return next(
            (int(row[0]) for row in self._rows("SELECT MAX(seq) FROM events", ()) if row[0]), 0
        )

    def _rows(self, query: str, arguments: tuple[Any, ...]) -> Iterable[tuple[Any, ...]]:
        if not self.path.exists():
            return
        try:
            connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=5)
            try:
                yield from connection.execute(query, arguments)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise UserError(f"{self.path}: not a valid journal ({error}).") from None


def line(event: Event) -> dict[str, Any]:
    """Return an event as a JSON object, as in the output of `fleetmedic remediator journal`."""
    return {
        "seq": event.seq,
        "at": event.at,
        "incident": event.incident,
        "target": event.target,
        "event": str(event.kind),
        "reason": None if event.reason is None else str(event.reason),
        "text": event.text,
        "data": dict(event.data),
    }


def replay(folder: Path) -> Iterator[Event]:
    """Yield every event of the journal of a data directory in order."""
    return JournalReader(folder).replay()


def read_events(folder: Path, *, after: int = 0, limit: int = -1) -> list[dict[str, Any]]:
    """Return events of the journal of a data directory as JSON objects (`JournalReader.lines`)."""
    return JournalReader(folder).lines(after=after, limit=limit)


def find_events(folder: Path, **filters: Any) -> list[Event]:
    """Return the latest events of a data directory that match all filters (`JournalReader.find`)."""
    return JournalReader(folder).find(**filters)


def _event(row: tuple[Any, ...]) -> Event:
    seq, at, incident, target, kind, reason, text, data = row
    try:
        known = None if reason is None else Reason(reason)
        decoded = upgraded(Kind(kind), msgspec.json.decode(data))
        return Event(Kind(kind), at, incident, target, known, text, decoded, seq)
    except (ValueError, msgspec.MsgspecError) as error:
        raise UserError(f"event {seq} of the journal cannot be read: {error}.") from None
