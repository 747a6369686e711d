"""Deliver notifications to all addresses, until each is delivered or expires (24 h).

Every address has its own task, so a failing address delays neither other addresses nor incidents. The task
sends one message at a time, oldest first, with one back-off for all messages. After a crash, messages without a
recorded delivery are sent again with the same `op_id` (at-least-once delivery).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from remediator.channels.delivery import TRY_AGAIN
from remediator.core import events
from remediator.core.events import Event
from remediator.core.journal_state import JournalState, Message
from remediator.engine_context import EventAppender
from remediator.http import HttpError
from remediator.journal import JournalDown

log = structlog.get_logger("remediator")
EXPIRES_AFTER = 86_400.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
RECORD_AGAIN = 2.0
_JSON = {"Content-Type": "application/json"}


class NotificationSender(Protocol):
    """The part of `remediator.http.Notifier` that the outbox uses."""

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed delivery. `refused`: the receiver rejected the request."""

    text: str
    refused: bool = False


@dataclass(slots=True)
class _AddressLane:
    """The delivery state of one address. `unrecorded`: results that are not in the journal yet."""

    url: str
    address: str
    host: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    pause: float = FIRST_PAUSE
    failing: bool = False
    journal_down: bool = False
    unrecorded: dict[str, Event] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


class Outbox:
    """Delivers the pending messages, which the journal's state lists, to every address.

    `now` returns Unix seconds. `site` is the URL at which people reach the remediator. A new
    address also gets older messages that have not expired.
    """

    def __init__(
        self,
        journal_state: JournalState,
        journal: EventAppender,
        sender: NotificationSender,
        addresses: Sequence[str],
        now: Callable[[], float],
        *,
        site: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._state = journal_state
        self._journal = journal
        self._sender = sender
        self._now = now
        self._site = site
        self._sleep = sleep
        self._lanes = tuple(
            _AddressLane(url, address_id(url), _host(url)) for url in _unique(addresses)
        )

    async def run(self) -> None:
        """Deliver messages until cancelled. Returns immediately if there are no addresses."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._serve(lane), name=f"outbox {lane.host}")

    def wake(self) -> None:
        """Start the delivery of new notifications.

        Call this after a notification was written to the journal.
        """
        for lane in self._lanes:
            lane.wake.set()

    def pending(self) -> int:
        """Return the number of messages that are neither delivered to every address nor expired."""
        messages = self._state.outbox.values()
        return sum(any(_waits(lane, one) for lane in self._lanes) for one in messages)

    async def _serve(self, lane: _AddressLane) -> None:
        while True:
            lane.wake.clear()
            try:
                pause = await self._deliver(lane)
            except Exception:
                log.exception("notification_lane_failed", address=lane.host)
                pause = LONGEST_PAUSE
            if pause is None:
                await lane.wake.wait()
            else:
                # A new message does not shorten the back-off.
                await self._sleep(pause)

    async def _deliver(self, lane: _AddressLane) -> float | None:
        """Send all pending notifications to one address once.

        Returns the seconds until the next pass, or None if no message is pending.
        """
        waiting = self._expire(lane)
        await self._record(lane)
        for message in waiting:
            failure = await self._send(lane, message)
            if failure is not None:
                return _back_off(lane, message, failure)
            lane.pause = FIRST_PAUSE
            self._settle(lane, message)
            await self._record(lane)
        if waiting and lane.failing:
            lane.failing = False
            log.info("notification_address_recovered", address=lane.host)
        return RECORD_AGAIN if lane.unrecorded else None

    def _expire(self, lane: _AddressLane) -> list[Message]:
        """Expire old notifications. Returns the pending notifications in sending order.

        Messages that the receiver refused come last, so that they do not block the others.
        """
        waiting = [one for one in self._state.outbox.values() if _waits(lane, one)]
        old = [one for one in waiting if self._now() - one.at >= EXPIRES_AFTER]
        for message in old:
            self._settle(lane, message, expired=True)
        if old:
            log.warning(
                "notifications_expired",
                address=lane.host,
                messages=len(old),
                first=str(old[0].body.get("text", "")),
            )
        live = [one for one in waiting if one.op_id not in lane.unrecorded]
        lane.refused &= {one.op_id for one in live}
        return sorted(live, key=lambda one: one.op_id in lane.refused)

    def _settle(self, lane: _AddressLane, message: Message, *, expired: bool = False) -> None:
        lane.unrecorded[message.op_id] = events.delivered(
            self._now(), message.op_id, lane.address, expired=expired
        )

    async def _record(self, lane: _AddressLane) -> None:
        """Write the results of deliveries that are not recorded yet to the journal.

        While the journal is down, the results stay in memory, so that no message is sent twice.
        """
        if not lane.unrecorded:
            return
        try:
            await self._journal.append(tuple(lane.unrecorded.values()))
        except JournalDown as error:
            if not lane.journal_down:
                log.error("delivery_not_recorded", address=lane.host, error=str(error))
            lane.journal_down = True
            return
        lane.journal_down = False
        lane.unrecorded.clear()

    def _linked(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """Return the payload with the URL of its incident page; unchanged if `site` is None."""
        if self._site is None:
            return body
        incident = body.get("incident")
        page = f"/incidents/{incident}" if incident else "/incidents"
        return {**body, "url": f"{self._site}{page}"}

    async def _send(self, lane: _AddressLane, message: Message) -> _Failure | None:
        content = msgspec.json.encode(self._linked(message.body))
        try:
            status, _ = await self._sender.exchange(
                "POST", lane.url, content=content, headers=_JSON
            )
        except HttpError as error:
            return _Failure(str(error))
        if 200 <= status < 300:
            return None
        refused = 400 <= status < 500 and status not in TRY_AGAIN
        return _Failure(f"The notification address {lane.host} returned status {status}.", refused)


def address_id(url: str) -> str:
    """Return the id of an address for the journal: a hash, because URLs contain secrets."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _waits(lane: _AddressLane, message: Message) -> bool:
    return lane.address not in message.settled and message.op_id not in lane.unrecorded


def _back_off(lane: _AddressLane, message: Message, failure: _Failure) -> float:
    """Record a failed delivery, and log the first failure in a row.

    Returns the seconds until the next attempt.
    """
    if failure.refused:
        lane.refused.add(message.op_id)
    if not lane.failing:
        lane.failing = True
        cure = " Check the URL and which requests it accepts." if failure.refused else ""
        log.warning(
            "notification_address_failing",
            address=lane.host,
            refused=failure.refused,
            error=f"{failure.text}{cure} Delivery is retried for 24 h.",
        )
    pause, lane.pause = lane.pause, min(lane.pause * 2, LONGEST_PAUSE)
    return pause


def _unique(addresses: Sequence[str]) -> Mapping[str, None]:
    return dict.fromkeys(addresses)


def _host(url: str) -> str:
    """Return the host of a URL without path, query and password, which may contain secrets."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "(invalid URL)"
