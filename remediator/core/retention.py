"""What leaves the remediator's memory, and when. Time is the time of the journal's events, so replay equals live.

Never forgotten: open incidents and their alerts, firing alerts with their incidents, the pause, and targets that
an operator keeps out of service.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fleetmedic.kernel.labels import Target
from remediator.core.action import Effect
from remediator.core.journal_records import Attempt, EpisodeRecord, Pin, Storm
from remediator.core.model import Incident

DAY = 86_400.0
HOUR = 3_600.0
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Retention:
    """How much the remediator remembers. Times are in seconds.

    `memory`: attempts, returns to service, alerts that are over and sent notifications. At least as long as
    every time window of the playbooks. `events`: ended incidents and the last repair
    of each target; also the age at which the journal deletes events (infinite: never). `quarantines`: the times of
    quarantines, which count for the budget of new ones. `ended_incidents` and `ended_alerts`: at most that
    many are kept in memory, whatever their age.
    """

    memory: float = 14 * DAY
    events: float = 90 * DAY
    quarantines: float = DAY
    ended_incidents: int = 1_000
    ended_alerts: int = 10_000


class Remembered(Protocol):
    """The parts of the journal's state that are forgotten here. JournalState describes them."""

    retention: Retention
    incidents: dict[str, Incident]
    ended: dict[str, float]
    episodes: dict[str, EpisodeRecord]
    ended_alerts: dict[str, float]
    unreduced: dict[str, None]
    attempts: dict[Target, list[Attempt]]
    quarantines: list[Attempt]
    cured: dict[Target, float]
    returns: dict[Target, list[float]]
    repairs: dict[Target, float]
    pins: dict[Target, Pin]
    storms: dict[str, Storm]
    storm_ended: dict[str, float]
    groups: dict[str, float]
    covered: dict[str, frozenset[str]]
    trim_incidents_at: int
    trim_alerts_at: int

    def open_incidents(self) -> tuple[Incident, ...]: ...

    def forget_incident(self, incident: Incident) -> None: ...

    def forget_alert(self, key: str) -> None: ...


def sweep(state: Remembered, at: float) -> None:
    """Forget what is too old at the time `at`, and what exceeds the maximum numbers."""
    kept, memory = state.retention, at - state.retention.memory
    _forget_steps(state, memory, at - kept.quarantines)
    for group in _older(state.groups, memory):
        del state.groups[group]
        state.covered.pop(group, None)
    for last in (state.cured, state.repairs):
        for target in _older(last, at - kept.events):
            del last[target]
    for target in [one for one, pin in state.pins.items() if pin.at < at - kept.events]:
        del state.pins[target]
    for pool in [one for one in _older(state.storm_ended, memory) if one not in state.storms]:
        del state.storm_ended[pool]
    _forget_incidents(state, at - kept.events)
    _forget_alerts(state, memory)


def reduce(state: Remembered, at: float) -> None:
    """Drop the labels of the alerts that were over an hour before `at`.

    Not at once: an alert may be over before the engine has added it to an incident. The labels of the alerts
    of open incidents are evidence.
    """
    held = _held(state) if state.unreduced else frozenset()
    for key in list(state.unreduced):
        if state.ended_alerts[key] < at - HOUR and key not in held:
            state.episodes[key] = state.episodes[key].reduced()
            del state.unreduced[key]


def _forget_steps(state: Remembered, memory: float, quarantines: float) -> None:
    for target, attempts in list(state.attempts.items()):
        for old in [one for one in attempts if one.at < memory]:
            attempts.remove(old)
            if old.effect is Effect.REPAIRS:
                state.repairs[target] = old.at
        if not attempts:
            del state.attempts[target]
    for target, times in list(state.returns.items()):
        times[:] = [one for one in times if one >= memory]
        if not times:
            del state.returns[target]
    state.quarantines[:] = [one for one in state.quarantines if one.at >= quarantines]


def trim(state: Remembered) -> None:
    """Forget the oldest ended incidents and alerts if they exceed the maximum numbers by a tenth.

    Between two trims only their number is compared, so a trim costs little for each event.
    """
    if len(state.ended) >= state.trim_incidents_at:
        _forget_incidents(state, 0.0)
    if len(state.ended_alerts) >= state.trim_alerts_at:
        _forget_alerts(state, 0.0)


def next_trim(size: int, most: int) -> int:
    """Return the number of records at which the next trim happens. `size`: the number after the last trim."""
    base = max(size, most)
    return base + max(1, base // 10)


def _forget_incidents(state: Remembered, before: float) -> None:
    """Forget incidents that ended before `before`, and the oldest ones above the maximum number."""
    excess = len(state.ended) - state.retention.ended_incidents
    held = _held(state)
    for identity in list(state.ended):
        if excess <= 0 and state.ended[identity] >= before:
            # They are in the order of their ends; after a step of the clock the rest waits.
            break
        incident = state.incidents[identity]
        records = [(one.key, state.episodes.get(one.key)) for one in incident.alerts]
        own = [(key, one) for key, one in records if one is not None and one.incident == identity]
        if any(record.alert.firing for _, record in own):
            continue
        for key, _ in own:
            # If such an alert fires again, it is decided again, because its incident is no longer known.
            if key not in held:
                state.forget_alert(key)
        state.forget_incident(incident)
        excess -= 1
    state.trim_incidents_at = next_trim(len(state.ended), state.retention.ended_incidents)


def _forget_alerts(state: Remembered, before: float) -> None:
    """Forget alerts that were over before `before`, and the oldest ones above the maximum number.

    The alerts of an incident in memory leave with it.
    """
    excess = len(state.ended_alerts) - state.retention.ended_alerts
    held = _held(state)
    for key in list(state.ended_alerts):
        if excess <= 0 and state.ended_alerts[key] >= before:
            break
        if key in held or state.episodes[key].incident in state.incidents:
            continue
        state.forget_alert(key)
        excess -= 1
    state.trim_alerts_at = next_trim(len(state.ended_alerts), state.retention.ended_alerts)


def _held(state: Remembered) -> frozenset[str]:
    """Return the keys of the alerts that are evidence in open incidents."""
    return frozenset(one.key for incident in state.open_incidents() for one in incident.alerts)


def _older(times: dict[K, float], before: float) -> Iterable[K]:
    return [key for key, at in times.items() if at < before]
