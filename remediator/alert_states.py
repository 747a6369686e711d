"""How alerts stand now: what Alertmanager says, whether that is complete, and our maintenance windows.

No answer is no answer. An alert in an answer is active at once; that one is missing counts only if the
answer holds the Watchdog, and if Alertmanager and the Watchdog have been there long enough for everything
to be sent again. Where Prometheus is gone, Alertmanager lets its alerts expire and calls them resolved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog

from fleetmedic.alerting.settings import Notifications
from fleetmedic.alerting.windows import open_maintenance
from fleetmedic.kernel.labels import ALERTNAME, CLUSTER, GPU, JOB_ID, NODE, SERVICE, UUID
from remediator.alertmanager import Answer, Listed, Silence
from remediator.core.evidence import ACTIVE, OVER, Evidence, Standing, unknown
from remediator.core.model import Alert
from remediator.core.reasons import Reason
from remediator.http import HttpError

log = structlog.get_logger("remediator")
# An alert that was received this lately (seconds) may not be in Alertmanager's answer yet.
SETTLING = 60.0
# An answer older than this (seconds) says nothing about the present.
STALE = 60.0
MOST_COMMENT = 200
MOST_SEEN = 200_000
# An alert expires after four resend delays, and `settle` is two at least: a Watchdog that was not sent
# for this share of it says that others may have expired.
SILENT = 0.8
# What an alert is about: a fingerprint alone may be another alert's.
_ABOUT = (ALERTNAME, CLUSTER, NODE, GPU, UUID, JOB_ID, SERVICE)


class Asked(Protocol):
    """What is asked of one Alertmanager, or of the peers of a cluster. Raises HttpError."""

    async def answer(self) -> Answer: ...

    async def silences(self) -> dict[str, Silence]: ...


@dataclass(slots=True)
class _Asked:
    """The last question: its answer or why there is none, and when (monotonic seconds)."""

    answer: Answer | None = None
    error: str = "Alertmanager has not been asked yet."
    at: float = -1e9
    took: float = 0.0
    silences: dict[str, Silence] = field(default_factory=dict)


class AlertStates:
    """`client` is None where the settings say that there is no Alertmanager.

    `settle` seconds after Alertmanager's start, and after the Watchdog's, a missing alert begins to mean
    something; `is_watchdog` recognises the dead man's switch. `now` is Unix seconds.
    """

    def __init__(
        self, client: Asked | None, given: Notifications, *, settle: float,
        is_watchdog: Callable[[Alert], bool], now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._client = client
        self._given = given
        self._settle = settle
        self._is_watchdog = is_watchdog
        self._now = now
        self._asked = _Asked()
        self._rounds = 0
        self._seen: set[tuple[str, ...]] = set()
        self._starts: dict[float, float] = {}
        self._asking = asyncio.Lock()

    async def refresh(self, max_age: float) -> None:
        """Ask Alertmanager, unless it was asked within `max_age` seconds. Never raises."""
        if self._client is None:
            return
        async with self._asking:
            began = time.monotonic()
            # A large answer is not asked for more often than it can be read.
            if began - self._asked.at <= max(max_age, 5 * self._asked.took if max_age else 0.0):
                return
            asked = _Asked(at=began, silences=self._asked.silences)
            try:
                asked.answer = await self._client.answer()
                if any(one.silenced_by for one in asked.answer.listed.values()):
                    asked.silences = await self._client.silences()
            except HttpError as error:
                asked.answer, asked.error = None, str(error)
            if asked.answer is None and self._asked.answer is not None:
                log.warning("alertmanager_unreachable", error=asked.error)
            if asked.answer is not None:
                self._remember(asked.answer)
            asked.took = time.monotonic() - began
            self._asked = asked
            self._rounds += 1

    @property
    def answered(self) -> bool:
        """Whether there is a present answer, or none is needed."""
        fresh = time.monotonic() - self._asked.at <= STALE
        return self._client is None or (self._asked.answer is not None and fresh)

    @property
    def version(self) -> int:
        """Changes with each answer."""
        return self._rounds

    @property
    def complete(self) -> bool:
        """Whether an alert that is missing from the answer is over."""
        return self._client is None or (self.answered and not self._incomplete())

    def evidence(self, alert: Alert, received: float) -> Evidence:
        """How an alert stands that was received at `received` (Unix seconds)."""
        if muted := self._muted(alert):
            return muted
        if self._client is None:
            return ACTIVE if alert.firing else OVER
        if not self.answered or self._asked.answer is None:
            return unknown(self._asked.error)
        listed = self._asked.answer.listed.get(alert.fingerprint)
        if listed is not None and _same(listed.alert, alert):
            return ACTIVE if listed.active else self._withheld(listed)
        # One that was called resolved may only have expired, for want of its Prometheus.
        if doubt := self._incomplete() if alert.firing else self._unsent():
            return unknown(doubt)
        on_its_way = alert.firing and _episode(alert) not in self._seen
        if on_its_way and self._now() - received <= SETTLING:
            return unknown(f"Alertmanager does not list {alert.name} for our receiver.")
        return OVER

    def active(self) -> Iterator[Alert]:
        """The alerts of the answer of which we are to be notified."""
        for listed, evidence in self._all():
            if evidence is ACTIVE:
                yield listed.alert

    def withheld(self) -> Iterator[tuple[Alert, Evidence]]:
        """The alerts of the answer that fire and are silenced, inhibited or muted."""
        for listed, evidence in self._all():
            if evidence is not ACTIVE:
                yield listed.alert, evidence

    def confirmed(self, alert: Alert) -> bool:
        """Whether an answer of this process ever held the alert: what is over was active before."""
        return self._client is None or _identity(alert) in self._seen

    def _all(self) -> Iterator[tuple[Listed, Evidence]]:
        if not self.answered or self._asked.answer is None:
            return
        for listed in self._asked.answer.listed.values():
            muted = self._muted(listed.alert)
            yield listed, muted or (ACTIVE if listed.active else self._withheld(listed))

    def _remember(self, answer: Answer) -> None:
        if len(self._seen) > MOST_SEEN:
            self._seen.clear()
        alerts = [one.alert for one in answer.listed.values()]
        self._seen |= {_identity(one) for one in alerts} | {_episode(one) for one in alerts}
        # By our own clock, where a start lies in the future.
        begun = (one.alert.starts_at for one in self._watchdogs(answer))
        for started in (answer.started, *begun):
            self._starts.setdefault(started, self._now())

    def _watchdogs(self, answer: Answer) -> list[Listed]:
        """The Watchdogs of the answer, one of each Prometheus."""
        return [one for one in answer.listed.values() if self._is_watchdog(one.alert)]

    def _incomplete(self) -> str:
        """Why a missing alert proves nothing; empty where it does."""
        if (unsent := self._unsent()) or self._asked.answer is None:
            return unsent
        return self._settling(self._asked.answer.started, "Alertmanager was started")

    def _unsent(self) -> str:
        """Why Prometheus may not have sent what fires; empty where its Watchdog has fired long enough.

        Prometheus may replay its log for longer than its alerts last in Alertmanager. They expire there,
        and the Watchdog, which waits for nothing, is back before them.
        """
        answer = self._asked.answer
        if answer is None:
            return self._asked.error
        watchdogs = self._watchdogs(answer)
        if not watchdogs:
            return (
                "Alertmanager's answer does not hold the Watchdog, so it may not hold everything."
            )
        sent = min(one.updated for one in watchdogs)
        if self._now() - sent > SILENT * self._settle:
            last = datetime.fromtimestamp(max(0.0, min(sent, 4e9)), UTC)
            return (
                f"Prometheus last sent its Watchdog at {last:%H:%M:%S} UTC; what it does not send expires "
                "in Alertmanager and is not over."
            )
        return self._settling(
            max(one.alert.starts_at for one in watchdogs), "Prometheus' Watchdog began"
        )

    def _settling(self, started: float, what: str) -> str:
        """A sentence while what `started` (Unix seconds) has not run for long enough; else empty."""
        now = self._now()
        started = min(started, self._starts.get(started, now))
        if now - started >= self._settle:
            return ""
        begun = datetime.fromtimestamp(max(0.0, min(started, 4e9)), UTC)
        return f"{what} at {begun:%H:%M:%S} UTC; a missing alert counts as over {self._settle:g} s later."

    def _muted(self, alert: Alert) -> Evidence | None:
        now = self._now()
        window = open_maintenance(self._given, alert.labels, now)
        if window is None:
            return None
        return _muted_by(window.name, now)

    def _withheld(self, listed: Listed) -> Evidence:
        if listed.silenced_by:
            return self._silenced(listed.silenced_by[0])
        if listed.muted_by:
            return _muted_by(", ".join(listed.muted_by)[:MOST_COMMENT], self._now())
        by = listed.inhibited_by[0]
        source = self._asked.answer.listed.get(by) if self._asked.answer else None
        name = source.alert.name if source else "another alert"
        text = f"{listed.alert.name} is inhibited by {name}."
        return Evidence(Standing.WITHHELD, Reason.INHIBITED, text, f"inhibited/{by}")

    def _silenced(self, identity: str) -> Evidence:
        found = self._asked.silences.get(identity)
        text = f"It is silenced in Alertmanager (silence {identity[:40]})."
        if found is not None:
            until = datetime.fromtimestamp(max(0.0, min(found.ends_at, 4e9)), UTC)
            text = (
                f"{_plain(found.by)} silenced it until {until:%Y-%m-%d %H:%M} UTC: "
                f"{_plain(found.comment)}"
            )
        return Evidence(Standing.WITHHELD, Reason.SILENCED, text, f"silence/{identity[:40]}")


def _muted_by(name: str, now: float) -> Evidence:
    day = int(now // 86_400)
    text = f"The maintenance window {name} is open."
    return Evidence(Standing.WITHHELD, Reason.MUTED, text, f"window/{name}/{day}")


def _identity(alert: Alert) -> tuple[str, ...]:
    return (alert.fingerprint, *(alert.labels.get(name, "") for name in _ABOUT))


def _episode(alert: Alert) -> tuple[str, ...]:
    return (*_identity(alert), alert.key)


def _same(one: Alert, other: Alert) -> bool:
    return _identity(one) == _identity(other)


def _plain(text: str) -> str:
    """What a person wrote in Alertmanager, on one line and not too long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line[:MOST_COMMENT].strip() or "(empty)"
