"""Notifications that are not about a single incident, and the escalation after internal errors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleetmedic.kernel.labels import Target
from fleetmedic.wording.counts import counted
from remediator.core import events
from remediator.core.events import Event
from remediator.core.evidence import Evidence
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.lifecycle import evolve
from remediator.core.model import Alert, Incident, IncidentState, Level, op_id
from remediator.core.reasons import Reason
from remediator.core.settle import Settled
from remediator.messages import group_body, incident_body

MOST_NAMED = 5
# an inhibited alert, its target, and why the alert is withheld
Inhibited = tuple[Alert, Target, Evidence]


def group_notice(
    incident: Incident, settled: Settled, journal_state: JournalState, limits: Limits, now: float
) -> tuple[Event, ...]:
    """Return one notification for a cause that holds many incidents for long, such as a pause or a silence.

    For each pause, silence or maintenance window, one notification is sent. For another cause, such as
    missing sensor data, a notification is sent once an hour, and again for incidents that were put on
    hold later. For a storm, a notification is sent when the storm begins.
    """
    hold = settled.hold
    if hold is None or not hold.group or incident.level is Level.OBSERVE:
        return ()
    if (
        incident.held_since is None
        or incident.held is not hold.reason
        or hold.reason is Reason.STORM
        or now - incident.held_since < limits.notice
    ):
        return ()
    own_identifier = "/" in hold.group
    group = hold.group if own_identifier else f"{hold.group}/{int(now // 3600)}"
    before = journal_state.groups.get(group)
    covered = journal_state.covered.get(group, frozenset())
    if before is not None and (
        own_identifier or incident.id in covered or now - before < limits.notice
    ):
        return ()
    # Two silences, or two windows, have one reason and two texts.
    waiting = [
        one
        for one in journal_state.open_incidents()
        if one.held is hold.reason
        and one.id not in covered
        and (not own_identifier or one.held_text == hold.text)
    ]
    op = op_id(group, "held", 1 if before is None else int(now))
    more = "" if before is None else "more "
    count = (
        f"{len(waiting)} {more}incidents wait" if len(waiting) != 1 else f"1 {more}incident waits"
    )
    named = ", ".join(str(one.target) for one in waiting[:MOST_NAMED])
    named += ", ..." if len(waiting) > MOST_NAMED else ""
    body = group_body(
        f"{count} ({named}): {hold.text}", group, op, len(waiting), [one.target for one in waiting]
    )
    members = () if own_identifier else tuple(one.id for one in waiting)
    return (events.notified(now, op, body, group=group, members=members),)


def lane_failed(
    target: Target, waiting: Alert | None, journal_state: JournalState, text: str, now: float
) -> tuple[Event, ...]:
    """Return the events after three internal errors on a target: drop its alert or escalate its incident.

    People are notified.
    """
    reason = Reason.LANE_FAILED
    if waiting is not None:
        op = op_id(waiting.key, "lane_failed", 1)
        said = f"{waiting.shown_name} on {target} is not handled. {text}"
        body = group_body(said, "", op, 0, [target])
        return (
            events.suppressed(waiting, target, now, reason, text),
            events.notified(now, op, body),
        )
    incident = journal_state.incident_on(target)
    if (
        incident is None
        or incident.state is IncidentState.ESCALATED
        or incident.prepared is not None
    ):
        return ()
    moved = events.moved(incident, IncidentState.ESCALATED, now, reason, text)
    op = op_id(incident.id, "lane_failed", len(incident.steps))
    body = incident_body(evolve(incident, moved), "lane_failed", op)
    return (moved, events.notified(now, op, body, incident=incident, occasion="lane_failed"))


def orphaned(incident: Incident, journal_state: JournalState, now: float) -> tuple[Event, ...]:
    """Return the events that escalate an incident whose playbook is no longer configured.

    People are notified once.
    """
    written: list[Event] = []
    if incident.state is not IncidentState.ESCALATED:
        written = [events.moved(incident, IncidentState.ESCALATED, now, Reason.PLAYBOOK_GONE)]
    op = op_id(incident.id, "orphaned", 1)
    if op not in journal_state.outbox and op not in journal_state.groups:
        body = incident_body(incident, "orphaned", op)
        written.append(
            events.notified(now, op, body, incident=incident, occasion="orphaned", group=op)
        )
    return tuple(written)


def stray_notice(
    targets: Iterable[Target], journal_state: JournalState, now: float
) -> tuple[Event, ...]:
    """Return one notification per target and day for a quarantine of the remediator without an incident."""
    day = int(now // 86_400)
    written: list[Event] = []
    for one in sorted(targets, key=str):
        key = f"stray/{one}/{day}"
        if key in journal_state.groups:
            continue
        op = op_id(key, "stray", 1)
        text = (
            f"{one} is quarantined by fleetmedic but has no incident, for example after the remediator or "
            "its journal was replaced. If it is healthy, return it to service with `fleetmedic release`."
        )
        body = group_body(text, key, op, 0, [one])
        written.append(events.notified(now, op, body, group=key))
    return tuple(written)


def inhibited_notice(
    unhandled: Sequence[Inhibited], journal_state: JournalState, now: float
) -> tuple[Event, ...]:
    """Return one notification for the inhibited alerts of which people were not notified within this hour."""
    group = f"inhibited/{int(now // 3600)}"
    covered = journal_state.covered.get(group, frozenset())
    news = [one for one in unhandled if one[0].key not in covered]
    if not news:
        return ()
    op = op_id(group, "inhibited", len(covered) + 1)
    said = [
        f"{alert.shown_name} on {target} is not handled: {evidence.text}"
        for alert, target, evidence in news[:MOST_NAMED]
    ]
    if len(news) > MOST_NAMED:
        more = len(news) - MOST_NAMED
        said.append(
            f"{counted(more, 'more alert')} {'is' if more == 1 else 'are'} not handled either."
        )
    body = group_body(" ".join(said), group, op, 0, [target for _, target, _ in news])
    members = [alert.key for alert, *_ in news]
    return (events.notified(now, op, body, group=group, members=members),)
