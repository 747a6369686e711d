"""The lock that allows one remediator to act on this cluster. It is an entry in the store.

The entry's age is measured by the time since boot, which does not change with the wall clock. After
a reboot, or if another host renewed the entry, only the wall clock can be used. If the wall clock
was set back, the renewal may seem to be in the future. Then the age of the entry counts as 0.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from fleetmedic.kernel.errors import UserError

KEY = "remediator-lock"
MAX_TEXT = 1000
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Instant:
    """One point in time: Unix seconds, the host's boot id, and the seconds since that boot."""

    wall: float
    boot: str
    uptime: float

    @classmethod
    def now(cls) -> Instant:
        """Return the current instant on this host."""
        try:
            boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            boot = ""
        return cls(time.time(), boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, before: Instant) -> float | None:
        """Return the seconds since an earlier instant; None if that instant is in the future."""
        same_boot = self.boot != "" and self.boot == before.boot
        passed = self.uptime - before.uptime if same_boot else self.wall - before.wall
        return passed if passed >= 0 else None


@dataclass(frozen=True, slots=True)
class Lock:
    """The holder of the lock: its installation, its host, when it acquired the lock, and the last renewal.

    `since` is in Unix seconds. `taken_over` is the reason given for taking the lock from another installation.
    """

    installation: str
    host: str
    since: float
    renewed: Instant
    taken_over: str = ""


def request_lock(
    held: Lock | None, installation: str, host: str, take_over: str, *, ttl: float, now: Instant
) -> Lock:
    """Return the lock after an installation has requested it at `now`.

    The request succeeds if the lock is free, already belongs to the installation, or was not
    renewed for `ttl` seconds. With a reason in `take_over` it always succeeds.
    """
    if held is not None and held.installation == installation:
        return replace(held, host=host, renewed=now)
    age = None if held is None else now.since(held.renewed)
    if held is None or (age is not None and age >= ttl):
        return Lock(installation, host, now.wall, now)
    if take_over:
        return Lock(installation, host, now.wall, now, take_over)
    return held if age is not None else replace(held, renewed=now)


def request_lock_in_store(
    db: sqlite3.Connection, installation: str, host: str, take_over: str, *, ttl: float
) -> Lock:
    """Request the lock in an open write transaction; returns the lock afterwards.

    Raises UserError if the entry is damaged, unless `take_over` is set.
    """
    row = db.execute("SELECT value FROM facts WHERE key = ?", (KEY,)).fetchone()
    try:
        held = msgspec.json.decode(row["value"], type=Lock) if row is not None else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        if not take_over:
            raise UserError(
                "the remediator's lock in the embedded cluster's store is damaged. Start one remediator "
                "with --take-over REASON to replace it."
            ) from None
        held = None
    lock = request_lock(
        held, installation, _plain(host), _plain(take_over), ttl=ttl, now=Instant.now()
    )
    if lock != held:
        value = msgspec.json.encode(lock).decode()
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (KEY, value))
    return lock


def _plain(text: str) -> str:
    """Shorten a string for the lock entry and replace characters that cannot be encoded as UTF-8."""
    return text[:MAX_TEXT].encode(errors="replace").decode()
