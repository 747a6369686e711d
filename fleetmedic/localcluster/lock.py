"""Which remediator may act on this cluster: one entry in the store, taken and renewed in a transaction.

The age of the entry is measured by the time since boot, which no change of the wall clock moves. After a
reboot, or from another host, only the wall clock is left; a renewal in its future then counts as made now.
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
    """One moment: Unix seconds, the id of the host's boot, and the seconds since that boot."""

    wall: float
    boot: str
    uptime: float

    @classmethod
    def now(cls) -> Instant:
        """This moment on this host."""
        try:
            boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            boot = ""
        return cls(time.time(), boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, before: Instant) -> float | None:
        """Seconds since an earlier moment; None when it lies in the future of the clock they share."""
        same_boot = self.boot != "" and self.boot == before.boot
        passed = self.uptime - before.uptime if same_boot else self.wall - before.wall
        return passed if passed >= 0 else None


@dataclass(frozen=True, slots=True)
class Lock:
    """The installation that holds the lock and its host, when it took it (Unix seconds), and when it
    last renewed it. `taken_over` is the reason with which it took the lock from another."""

    installation: str
    host: str
    since: float
    renewed: Instant
    taken_over: str = ""


def ask(
    held: Lock | None, installation: str, host: str, take_over: str, *, ttl: float, now: Instant
) -> Lock:
    """The lock after one installation has asked for it at `now`.

    The asker gets a lock that is free, its own, or not renewed for `ttl` seconds; with the reason
    `take_over` it gets any.
    """
    if held is not None and held.installation == installation:
        return replace(held, host=host, renewed=now)
    age = None if held is None else now.since(held.renewed)
    if held is None or (age is not None and age >= ttl):
        return Lock(installation, host, now.wall, now)
    if take_over:
        return Lock(installation, host, now.wall, now, take_over)
    return held if age is not None else replace(held, renewed=now)


def ask_store(
    db: sqlite3.Connection, installation: str, host: str, take_over: str, *, ttl: float
) -> Lock:
    """Ask inside an open write transaction. Raises UserError for an entry that cannot be read, unless
    the lock is taken over: nobody may act on a guess."""
    row = db.execute("SELECT value FROM facts WHERE key = ?", (KEY,)).fetchone()
    try:
        held = msgspec.json.decode(row["value"], type=Lock) if row is not None else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        if not take_over:
            raise UserError(
                "the lock in the local cluster's store is damaged: start one remediator with "
                "--take-over REASON to replace it."
            ) from None
        held = None
    lock = ask(held, installation, _plain(host), _plain(take_over), ttl=ttl, now=Instant.now())
    if lock != held:
        value = msgspec.json.encode(lock).decode()
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (KEY, value))
    return lock


def _plain(text: str) -> str:
    """Text that fits into the store, whatever bytes a host name or command line held."""
    return text[:MAX_TEXT].encode(errors="replace").decode()
