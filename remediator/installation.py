"""Which installation this is, and whether it is the one that may act on its cluster.

An installation is a data folder. Its id outlives the process, so that a restart gets the lock at once. The
times are fixed: they bound what two remediators can do to one cluster, and no time factor changes them.
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
# The holder stops this long after it sent its last renewal, well before another may take the lock.
VALID = TTL * 2 / 3
ANSWER = 20.0
# Its next renewal tells the previous holder, if it lives, that the lock was taken over.
HANDOVER = RENEW + 5.0
_sleep = asyncio.sleep


def read_identity(data_dir: Path) -> str:
    """The id of the installation, 32 hex digits, made at the first call.

    To be called by the one process that holds the folder. Raises UserError for a damaged file and for
    a folder that cannot be used.
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
            f"{path}: cannot be written ({error.strerror}); check the folder's owner and space."
        ) from None
    return made


def since_boot() -> float:
    """Seconds since boot, a suspended machine's sleep included: a lock expires in that time, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClusterLock:
    """The cluster's lock, as one installation sees it.

    `take_over` is the reason with which the first answered claim takes the lock from another
    installation, which is then given `handover` seconds to notice.
    """

    def __init__(
        self, cluster: Cluster, installation: str, host: str, take_over: str = "", *,
        clock: Callable[[], float] = since_boot, handover: float = HANDOVER,
    ) -> None:  # fmt: skip
        self.installation = installation
        self._cluster = cluster
        self._host = host
        self._take_over = take_over
        self._clock = clock
        self._handover = handover
        self._holder: InstanceLock | None = None
        self._renewed = 0.0  # when the last claim that was answered was sent, by `clock`
        self._acts_from = 0.0
        self._error = ""
        self._unsupported = False
        self._state: str | None = None  # of `_judge`, as last logged

    @property
    def holder(self) -> InstanceLock | None:
        """The last answer of the cluster: who holds the lock. None before the first answer."""
        return self._holder

    async def run(self) -> None:
        """Renew the lock, or ask for it, every 10 s until cancelled. A failure ends nothing."""
        while True:
            await self.claim()
            await _sleep(RENEW)

    async def claim(self) -> None:
        """Take or renew the lock, once. Never raises ClusterError or OSError: see `refusal`."""
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
        """Why nothing may be done to the cluster now, as a sentence for people; None if it may."""
        if self._unsupported:
            return None
        name, error = repr(self._cluster.name), f" ({self._error})" if self._error else ""
        if self._holder is None:
            return (
                f"The lock of the cluster {name} was not taken{error}; nothing is done until it is."
            )
        if not self._ours:
            return _held_by(self._holder, name)
        age = self._clock() - self._renewed
        if age >= VALID:
            return (
                f"The lock of the cluster {name} could not be renewed for {age:.0f} s{error}; "
                "nothing is done until it is."
            )
        if (left := self._acts_from - self._clock()) > 0:
            return (
                f"The lock of the cluster {name} was taken over; the previous holder gets "
                f"{left:.0f} s more to notice, and nothing is done until then."
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
        """Log a change of what is known of the lock, once."""
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
        """The installation that holds the lock; empty while that is unknown, or ours is too old."""
        if self._holder is None or (self._ours and self._clock() - self._renewed >= VALID):
            return ""
        return self._holder.installation


def _held_by(holder: InstanceLock, cluster: str) -> str:
    reason = _plain(holder.taken_over).rstrip(".")
    took = f" It took the lock over: {reason}." if reason else ""
    return (
        f"Another remediator (installation {_plain(holder.installation)[:8]}, on host "
        f"{_plain(holder.host)}) acts on the cluster {cluster}; this one acts on nothing.{took} "
        "Stop one of them, or start this one with --take-over REASON."
    )


def _plain(text: str) -> str:
    """Text from the cluster's store, fit to be read in one line."""
    return "".join(one if one.isprintable() else "?" for one in text[:200])
