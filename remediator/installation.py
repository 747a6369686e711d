"""The id of this installation, and the lock that allows it to act on the cluster.

An installation is a data directory. Its id survives restarts, so a restarted remediator gets the
lock immediately. The times are constants that no time factor changes, because they prevent two
remediators from acting on one cluster.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from remediator.clusters.base import Cluster, ClusterError, InstanceLock, Unsupported

log = structlog.get_logger("remediator")
FILE = "installation-id"
RENEW = 10.0
TTL = 60.0
# The holder stops acting this long after its last renewal, well before another may take the lock.
VALID = TTL * 2 / 3
ANSWER = 20.0
# The previous holder, if it still runs, learns of the takeover at its next renewal.
HANDOVER = RENEW + 5.0
_sleep = asyncio.sleep


def read_identity(data_dir: Path) -> str:
    """Return the id of the installation, 32 hex digits. The first call creates it.

    Only the process that has locked the directory may call this. Raises UserError for a damaged
    file or an unusable directory.
    """
    path = data_dir / FILE
    try:
        with path.open("rb") as file:
            found = file.read(100).strip()
    except FileNotFoundError:
        return _make_identity(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its owner.") from None
    if not re.fullmatch(rb"[0-9a-fA-F]{32}", found):
        raise UserError(
            f"{path}: expected 32 hex digits; restore the file, or delete it to get a new id and "
            "start once with --take-over REASON."
        )
    return found.decode().lower()


def _make_identity(path: Path) -> str:
    made = uuid.uuid4().hex
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, made + "\n", mode=0o600)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); check the directory's owner and free space."
        ) from None
    return made


def since_boot() -> float:
    """Return the seconds since boot, suspend included, because a lock also expires during suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClusterLock:
    """Acquires and renews the cluster's lock for one installation.

    `take_over` is the reason with which the first successful claim takes the lock from another
    installation. After a takeover no action starts for `handover` seconds, so that the previous
    holder can stop acting.
    """

    def __init__(
        self,
        cluster: Cluster,
        installation: str,
        host: str,
        take_over: str = "",
        *,
        clock: Callable[[], float] = since_boot,
        handover: float = HANDOVER,
    ) -> None:
        self.installation = installation
        self._cluster = cluster
        self._host = host
        self._take_over = take_over
        self._clock = clock
        self._handover = handover
        self._holder: InstanceLock | None = None
        self._renewed = 0.0  # when the last successful claim was sent, by `clock`
        self._acts_from = 0.0
        self._error = ""
        self._unsupported = False
        self._state: str | None = None  # of `_judge`, as last logged

    @property
    def holder(self) -> InstanceLock | None:
        """Return the holder of the lock in the cluster's last response; None before the first response."""
        return self._holder

    async def run(self) -> None:
        """Claim or renew the cluster's lock every 10 s until cancelled. Failures do not end the loop."""
        while True:
            await self.claim()
            await _sleep(RENEW)

    async def claim(self) -> None:
        """Claim or renew the cluster's lock once. Never raises ClusterError or OSError; see `refusal`."""
        sent = self._clock()
        try:
            async with asyncio.timeout(ANSWER):
                lock = await self._cluster.lock(
                    self.installation, ttl=TTL, host=self._host, take_over=self._take_over
                )
        except Unsupported as error:
            if not self._unsupported:
                log.warning("lock_unsupported", cluster=self._cluster.name, error=str(error))
            self._unsupported = True
            return
        except TimeoutError:
            self._error = f"no answer within {ANSWER:.0f} s"
        except (ClusterError, OSError) as error:
            self._error = str(error).rstrip(".")
        else:
            self._answered(lock, sent)
        self._report()

    def refusal(self) -> str | None:
        """Return the reason why no action on the cluster is allowed now; None if actions are allowed."""
        if self._unsupported:
            return None
        name, error = repr(self._cluster.name), f" ({self._error})" if self._error else ""
        if self._holder is None:
            return (
                f"The lock of cluster {name} was not acquired{error}; no action starts until it is."
            )
        if not self._ours:
            return _held_by(self._holder, name)
        age = self._clock() - self._renewed
        if age >= VALID:
            return (
                f"The lock of cluster {name} could not be renewed for {age:.0f} s{error}; "
                "no action starts until it is."
            )
        if (left := self._acts_from - self._clock()) > 0:
            return (
                f"The lock of cluster {name} was taken over; no action starts for another "
                f"{left:.0f} s, so that the previous holder notices it."
            )
        return None

    @property
    def _ours(self) -> bool:
        return self._holder is not None and self._holder.installation == self.installation

    def _answered(self, lock: InstanceLock, sent: float) -> None:
        mine = lock.installation == self.installation
        if mine and not self._ours and lock.taken_over:
            held = max(0.0, lock.renewed - lock.since)
            self._acts_from = sent + max(0.0, self._handover - held)
        self._holder, self._error, self._take_over, self._unsupported = lock, "", "", False
        self._renewed = sent

    def _report(self) -> None:
        """Log each change in the state of the cluster's lock once."""
        before, self._state = self._state, self._judge()
        if self._state == before:
            return
        fields = {"cluster": self._cluster.name, "installation": self.installation}
        if before == self.installation:
            log.error("lock_lost", error=self._error, **fields)
        if self._state == self.installation:
            reason = self._holder.taken_over if self._holder else ""
            log.info("lock_taken", take_over=reason, **fields)
        elif not self._ours and self._holder is not None:
            host = self._holder.host
            log.warning("lock_held_by_another", holder=self._state, holder_host=host, **fields)
        elif before != self.installation:
            log.warning("lock_not_taken", error=self._error, **fields)

    def _judge(self) -> str:
        """Return the installation that holds the lock; empty if unknown or if our renewal is too old."""
        if self._holder is None or (self._ours and self._clock() - self._renewed >= VALID):
            return ""
        return self._holder.installation


def _held_by(holder: InstanceLock, cluster: str) -> str:
    reason = _plain(holder.taken_over).rstrip(".")
    took = f" Reason of the takeover: {reason}." if reason else ""
    return (
        f"Another remediator (installation {_plain(holder.installation)[:8]}, on host "
        f"{_plain(holder.host)}) acts on cluster {cluster}; this one takes no action.{took} "
        "Stop one of them, or start this one with --take-over REASON."
    )


def _plain(text: str) -> str:
    """Return a string from the cluster's store as one printable line."""
    return "".join(one if one.isprintable() else "?" for one in text[:200])
