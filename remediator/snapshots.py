"""Snapshots: the remediator's state at one event, stored in the journal's file.

At startup only the events after the snapshot are replayed. A snapshot is a cache: one that cannot be read, that
another version wrote, or that was made with another retention is ignored, and all events are replayed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import islice
from typing import Any

import msgspec
import structlog

from fleetmedic.kernel.labels import Target
from remediator.core.journal_state import (
    Attempt,
    EpisodeRecord,
    JournalState,
    Message,
    Pause,
    Pin,
    Retention,
    Storm,
)
from remediator.core.model import Incident
from remediator.journal_reader import JournalReader

log = structlog.get_logger("remediator")
# Increase it if `JournalState.apply` computes another state from the same events.
FORMAT = 1
# Records of one part. While a part is encoded, no other thread runs.
PART = 200
# The attributes of JournalState, as their records are stored: a mapping is stored as pairs, in order.
MAPPINGS: dict[str, Any] = {
    "incidents": tuple[str, Incident],
    "open": tuple[Target, str],
    "taking": tuple[str, None],
    "open_by_name": tuple[str, list[str]],
    "ended": tuple[str, float],
    "rehearsed": tuple[str, None],
    "episodes": tuple[str, EpisodeRecord],
    "firing_alerts": tuple[str, None],
    "ended_alerts": tuple[str, float],
    "unreduced": tuple[str, None],
    "attempts": tuple[Target, list[Attempt]],
    "cured": tuple[Target, float],
    "returns": tuple[Target, list[float]],
    "repairs": tuple[Target, float],
    "pins": tuple[Target, Pin],
    "kept": tuple[Target, Pin],
    "storms": tuple[str, Storm],
    "storm_ended": tuple[str, float],
    "outbox": tuple[str, Message],
    "groups": tuple[str, float],
    "covered": tuple[str, frozenset[str]],
}
LISTS: dict[str, Any] = {"quarantines": Attempt}
VALUES: dict[str, Any] = {
    "refused": int,
    "pause": Pause | None,
    "last_at": float,
    "seq": int,
    "horizon": float,
    "swept": float,
    "trim_incidents_at": int,
    "trim_alerts_at": int,
}
_TYPES = MAPPINGS | LISTS | VALUES
_LISTS: dict[str, Any] = {name: list.__class_getitem__(kind) for name, kind in _TYPES.items()}
Frozen = list[tuple[str, list[Any]]]


class _Head(msgspec.Struct, frozen=True):
    """The first part: what wrote the snapshot, of which event it is, and how many parts follow."""

    written_by: str
    seq: int
    parts: int
    retention: Retention


class _Part(msgspec.Struct, frozen=True):
    attribute: str
    records: msgspec.Raw


def freeze(state: JournalState) -> Frozen:
    """Return the records of the state. The caller may encode them in another thread, because records never
    change."""
    found: Frozen = []
    for name in MAPPINGS:
        pairs = getattr(state, name).items()
        # The lists of attempts and returns grow, so they are copied.
        found.append(
            (name, [(key, tuple(value) if type(value) is list else value) for key, value in pairs])
        )
    found += [(name, list(getattr(state, name))) for name in LISTS]
    return found + [(name, [getattr(state, name)]) for name in VALUES]


def encode(frozen: Frozen, retention: Retention) -> list[bytes]:
    """Return a state as the parts of a snapshot."""
    parts = [
        msgspec.msgpack.encode(_Part(name, msgspec.Raw(msgspec.msgpack.encode(records))))
        for name, all_records in frozen
        for records in _parts(all_records)
    ]
    seq = next(records[0] for name, records in frozen if name == "seq")
    return [msgspec.msgpack.encode(_Head(written_by(), seq, len(parts), retention)), *parts]


def store(connection: sqlite3.Connection, parts: Iterable[bytes]) -> int:
    """Replace the stored snapshot. The caller runs a transaction."""
    connection.execute("DELETE FROM snapshot")
    connection.executemany("INSERT INTO snapshot VALUES (?, ?)", enumerate(parts))
    return 0


def load(state: JournalState, journal: JournalReader) -> int:
    """Restore a new state from the journal. Returns the number of events that were replayed."""
    restored = restore(journal.snapshot(), state.retention)
    if restored is not None and restored.seq <= journal.last_seq():
        vars(state).update(vars(restored))
    count = 0
    for event in journal.replay(after=state.seq):
        state.apply(event)
        count += 1
    return count


def restore(parts: Iterable[bytes], retention: Retention) -> JournalState | None:
    """Return the state of a snapshot; None if the snapshot is missing or unusable.

    The parts are read one by one, because all of them together would take as much memory as the state.
    """
    rest = iter(parts)
    if (first := next(rest, None)) is None:
        return None
    try:
        head = msgspec.msgpack.decode(first, type=_Head)
        if head.written_by != written_by() or head.retention != retention:
            log.info("snapshot_ignored", text="Another version or another retention wrote it.")
            return None
        state = JournalState(retention)
        count = 0
        shared: dict[Any, Any] = {}
        for count, (name, records) in enumerate(_decoded(rest), 1):  # noqa: B007 - used below
            if name in MAPPINGS:
                pairs = ((shared.setdefault(key, key), value) for key, value in records)
                getattr(state, name).update(pairs)
            elif name in LISTS:
                getattr(state, name).extend(records)
            else:
                setattr(state, name, records[0])
        if count != head.parts:
            raise ValueError(f"expected {head.parts} parts, found {count}")
        _share(state)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, IndexError) as error:
        log.warning(
            "snapshot_ignored", text=f"It is damaged ({error}), so all events are replayed."
        )
        return None
    return state


def _share(state: JournalState) -> None:
    """Let records share equal values again, as in the state that was stored. It halves their size."""
    for target, attempts in state.attempts.items():
        attempts[:] = [
            Attempt(sys.intern(one.action), one.effect, target, one.at, one.dead)
            for one in attempts
        ]
    for key in state.ended_alerts:
        if key not in state.unreduced:
            state.episodes[key] = state.episodes[key].reduced()


@cache
def written_by() -> str:
    """Return what a snapshot depends on besides the events: the version, and the types of all records."""
    kinds = list(_TYPES.values())
    schemas, components = msgspec.json.schema_components(kinds)
    described = msgspec.json.encode([list(_TYPES), list(schemas), components], order="sorted")
    return f"{version('fleetmedic')}/{FORMAT}/{hashlib.sha256(described).hexdigest()[:16]}"


def _decoded(parts: Iterable[bytes]) -> Iterator[tuple[str, list[Any]]]:
    decoders: dict[str, msgspec.msgpack.Decoder[list[Any]]] = {}
    for part in parts:
        found = msgspec.msgpack.decode(part, type=_Part)
        name = found.attribute
        if name not in decoders:
            decoders[name] = msgspec.msgpack.Decoder(_LISTS[name])
        yield name, decoders[name].decode(found.records)


def _parts(records: list[Any]) -> Iterator[list[Any]]:
    rest = iter(records)
    while part := list(islice(rest, PART)):
        yield part
