"""How the alerts of an incident stand, one by one, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from fleetmedic.kernel.labels import Target
from remediator.alert_states import AlertStates
from remediator.core.book import Book
from remediator.core.evidence import OVER, Evidence, Sign, Standing, tested_sick, unknown, weigh
from remediator.core.instruments import EVENTS
from remediator.core.model import Alert, Episode, Incident
from remediator.core.routing import cured_at
from remediator.sensors import Sensors

# An event that is over, and that no rule ever saw: it never happened.
NEVER = replace(OVER)


@dataclass(frozen=True, slots=True)
class Heard:
    """One alert of an incident and how it stands. `counts`: it is a signal against the target now."""

    episode: Episode
    sign: Sign
    counts: bool


@dataclass(frozen=True, slots=True)
class Signs:
    """The alerts of one incident. `repaired_at` is its target's last repair or boot (Unix seconds)."""

    heard: tuple[Heard, ...]
    repaired_at: float
    tested_sick: bool

    def weighed(self, strange: Collection[str] = ()) -> Evidence:
        """What they say together. `strange` are the keys of those that name other hardware: an event of
        theirs that is over says nothing about this target."""
        signs = (
            one.sign
            for one in self.heard
            if one.episode.key not in strange or one.sign.evidence.standing is not Standing.OVER
        )
        return weigh(signs, repaired_at=self.repaired_at, tested_sick=self.tested_sick)

    @property
    def active(self) -> bool:
        """Whether one of them fires, or may fire."""
        return any(one.sign.evidence.standing is not Standing.OVER for one in self.heard)

    @property
    def latest_event(self) -> float | None:
        """When the latest event that still counts happened (Unix seconds); None without one."""
        times = (one.sign.event_at for one in self.heard if one.counts)
        return max((at for at in times if at is not None), default=None)

    def names(self, strange: Collection[str] = ()) -> frozenset[str]:
        """The names of the alerts that count as signals against the target now."""
        counted = (one.episode for one in self.heard if one.counts)
        return frozenset(one.alertname for one in counted if one.key not in strange)

    def claims(self, strange: Collection[str] = ()) -> tuple[Episode, ...]:
        """The alerts by which the hardware is identified: the active ones, else those in doubt, else
        those about this target that are over.

        What is over names no other hardware any more: a wrong label of a minute must not stick.
        """
        active = [
            one.episode for one in self.heard if one.sign.evidence.standing is Standing.ACTIVE
        ]
        doubtful = [
            one.episode for one in self.heard if one.sign.evidence.standing is not Standing.OVER
        ]
        over = [one.episode for one in self.heard if one.episode.key not in strange]
        return tuple(active or doubtful or over)


async def signs_of(
    incident: Incident, book: Book, alerts: AlertStates, sensors: Sensors,
    concerns: Callable[[Alert], bool], *, ask: bool,
) -> Signs:  # fmt: skip
    """How the alerts of an incident stand. `ask`: Prometheus is asked to confirm them, too.

    `concerns`: whether an alert speaks for what the incident's playbook does; the rest says nothing.
    """
    repaired = max(incident.repaired_at or 0.0, cured_at(incident.target, book))
    ask = ask or repaired > 0
    records = [(one, book.episodes.get(one.key)) for one in incident.alerts]
    if ask and any(one.alertname in EVENTS for one, _ in records):
        repaired = max(repaired, await sensors.boot_time(incident.target) or 0.0)
    heard: list[Heard] = []
    for episode, record in records:
        if record is None or not concerns(record.alert):
            continue
        evidence = alerts.evidence(record.alert, record.received)
        event = episode.alertname in EVENTS
        if ask and _to_confirm(evidence, event):
            evidence = _confirmed(
                record.alert, evidence, await sensors.fires(record.alert, event=event)
            )
        event_at = None
        if event:
            known = await event_time(record.alert, incident.target, sensors) if ask else None
            event_at = known or episode.starts_at
        confirmed = alerts.confirmed(record.alert) and evidence is not NEVER
        sign = Sign(evidence, event_at, confirmed)
        heard.append(Heard(episode, sign, _counts(sign, repaired)))
    return Signs(tuple(heard), repaired, tested_sick(incident))


async def event_time(alert: Alert, target: Target, sensors: Sensors) -> float | None:
    """When the event behind an event-type alert happened (Unix seconds); None if nobody knows."""
    if target.gpu is None or not alert.name.startswith("GpuXid"):
        return None
    # Of its own code: a program's XID after the repair says nothing about the hardware's before it.
    return await sensors.last_xid(target, alert.labels.get("xid", ""))


def _confirmed(alert: Alert, evidence: Evidence, fires: bool | None) -> Evidence:
    """How an alert stands, given whether the Prometheus that evaluates its rule fires it."""
    if fires:
        return evidence
    if fires is None:
        return unknown(f"Prometheus does not say whether it fires {alert.name}.")
    if evidence.standing is Standing.OVER:
        return NEVER
    return unknown(
        f"Alertmanager lists {alert.name} as active, and Prometheus, which evaluates our rules, does "
        "not fire it there."
    )


def _to_confirm(evidence: Evidence, event: bool) -> bool:
    return evidence.standing is Standing.ACTIVE or (event and evidence.standing is Standing.OVER)


def _counts(sign: Sign, repaired_at: float) -> bool:
    """Whether a sign is a signal now: active, or a confirmed event since the last repair."""
    if sign.event_at is None:
        return sign.evidence.standing is Standing.ACTIVE
    over = sign.evidence.standing is Standing.OVER and sign.confirmed
    return sign.event_at > repaired_at and (over or sign.evidence.standing is Standing.ACTIVE)
