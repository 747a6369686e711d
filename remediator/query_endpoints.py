"""Read-only HTTP endpoints: incidents, decisions, and the reasons for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.admission import RefusedError
from remediator.clusters.base import Cluster, ClusterError, Unsupported
from remediator.core.events import Event, Kind
from remediator.core.facts import EVERYTHING
from remediator.core.journal_state import JournalState
from remediator.core.model import Incident, IncidentState, Playbook
from remediator.incident_list import select
from remediator.journal_reader import JournalReader, line
from remediator.payload import encoded
from remediator.summary import summary

MAX_RELATED = 20
MAX_ARCHIVED = 50
# The incidents that a list reads from the journal, if the memory does not contain enough.
MAX_LISTED = 2_000
_ABOUT_NOW = frozenset({Kind.HELD, Kind.STATE_CHANGED})


@dataclass(frozen=True, slots=True)
class QueryEndpoints:
    """The read-only HTTP endpoints. `cluster` is asked whether a target exists; None disables that check.

    `refusal` returns the reason why this remediator may take no action; None if actions are allowed.
    """

    journal_state: JournalState
    journal: JournalReader
    cluster: Cluster | None = None
    playbook: Callable[[str], Playbook | None] = lambda _: None
    refusal: Callable[[], str | None] = lambda: None

    async def incidents(self, request: Request) -> Response:
        """Return the latest incidents and all open incidents, and how many are left out."""
        target, before = request.query_params.get("target"), request.query_params.get("before")
        node, limit = request.query_params.get("node"), _number(request, "limit", 1000)
        known = list(self.journal_state.incidents.values())
        archived = 0
        if before or target or node or len(known) < limit:
            # Ended incidents leave the memory; the latest of them are read from the journal.
            known, archived = await asyncio.to_thread(
                self._with_archived, known, max(limit, MAX_LISTED)
            )
        if target or node:
            archived = 0  # how many of them match is unknown
        found = select(
            known,
            limit,
            before=before,
            target=Target.parse(target) if target else None,
            node=node,
            since=_time(request, "since"),
        )
        return encoded(
            {
                "incidents": [self._as_json(one) for one in found.shown],
                "total": found.total + archived,
                "left_out": found.left_out + archived,
                "before": found.before,
                "pause": _pause(self.journal_state),
                "refusal": self.refusal(),
            }
        )

    async def incident(self, request: Request) -> Response:
        """Return one incident with its latest events."""
        identity = request.path_params["identity"]
        found = self.journal_state.incidents.get(identity)
        found = found or await asyncio.to_thread(self.journal.incident, identity)
        if found is None:
            raise RefusedError(404, "Incident not found; /api/v1/incidents lists all incidents.")
        limit = _number(request, "limit", 1000)
        story = await asyncio.to_thread(self.journal.find, incident=found.id, limit=limit + 1)
        return encoded(
            {
                "incident": self._as_json(found),
                "summary": summary(
                    found,
                    self.playbook(found.playbook),
                    self.refusal(),
                    capabilities_of(self.cluster),
                ),
                "events": [line(event) for event in story[-limit:]],
                "truncated": len(story) > limit,
            }
        )

    async def decisions(self, request: Request) -> Response:
        """Return the latest decisions that match every filter of the request."""
        target = request.query_params.get("target")
        limit = _number(request, "limit", 200)
        story = await asyncio.to_thread(
            self.journal.find,
            target=str(Target.parse(target)) if target else None,
            incident=request.query_params.get("incident"),
            decided=True,
            reason=request.query_params.get("reason"),
            limit=limit + 1,
        )
        shown = [line(event) for event in story[-limit:]]
        return encoded({"decisions": shown, "truncated": len(story) > limit})

    async def why(self, request: Request) -> Response:
        """Return the decisions about a target, newest last. If an incident of the target is held,
        the last decision is the current hold."""
        target = Target.parse(request.query_params.get("target", ""))
        limit = _number(request, "limit", 200)
        memory = self.journal_state.incidents
        archived = await asyncio.to_thread(self._archived_about, target, frozenset(memory))
        known = sorted((*archived, *memory.values()), key=lambda one: one.opened)
        own = [one for one in known if one.target == target]
        all_related = related_to(target, known)
        related = all_related[-MAX_RELATED:]
        latest = max((*own, *related), key=lambda one: one.opened, default=None)
        held = [one for one in (*related, *own) if _is_held(one)]
        # One more than the limit, to know whether decisions are left out.
        story = await asyncio.to_thread(self._events_about, target, related, held, limit + 1)
        present = with_present(story, held)
        decided = present[-limit:]
        if len(decided) == limit:
            began = await asyncio.to_thread(self._opening_event, latest)
            decided = [one for one in began if one not in decided] + decided
        found: dict[str, Any] = {
            "target": str(target),
            "decisions": [line(event) for event in decided],
            "truncated": len(present) > limit or len(all_related) > MAX_RELATED,
            "incidents": [one.id for one in (*own, *related)],
            "pause": _pause(self.journal_state),
            "refusal": self.refusal(),
            "still_firing": self._still_firing(own),
        }
        if not decided:
            found["text"] = await self._no_decisions(target)
        return encoded(found)

    def _as_json(self, incident: Incident) -> dict[str, Any]:
        return {**as_json(incident), "still_firing": self._still_firing([incident])}

    def _still_firing(self, incidents: Iterable[Incident]) -> list[str]:
        """Return the names of the firing alerts of these incidents that no incident handles now."""
        return sorted({name for one in incidents for name in self.journal_state.still_firing(one)})

    def _opening_event(self, incident: Incident | None) -> list[Event]:
        """Return the event that opened an incident, so that the response always contains the cause."""
        if incident is None:
            return []
        kind = Kind.INCIDENT_OPENED
        return self.journal.find(incident=incident.id, kind=kind, limit=1)

    def _with_archived(self, known: Sequence[Incident], limit: int) -> tuple[list[Incident], int]:
        """Return the latest incidents of the journal with `known`, which are in memory, and the number of others.

        The incidents are in the order in which they were opened.
        """
        memory = {one.id: one for one in known}
        found = (
            memory.get(one) or self.journal.incident(one) for one in self.journal.latest(limit)
        )
        latest = {one.id: one for one in found if one is not None}
        listed = [*(one for one in known if one.id not in latest), *latest.values()]
        return listed, max(0, self.journal.count_incidents() - len(listed))

    def _archived_about(self, target: Target, memory: frozenset[str]) -> list[Incident]:
        """Return the latest incidents with decisions about a target that are no longer in memory."""
        ids = (one for one in self.journal.about(target, MAX_ARCHIVED) if one not in memory)
        return [found for one in ids if (found := self.journal.incident(one)) is not None]

    def _events_about(
        self, target: Target, related: Sequence[Incident], held: Sequence[Incident], limit: int
    ) -> list[Event]:
        """Return the decisions about the target in order.

        These are the decisions about the target itself, the decisions of related incidents, and the
        records of current holds. A record of a hold may be older than the limit.
        """
        find = self.journal.find
        found = find(target=str(target), decided=True, limit=limit)
        for one in related:
            events = find(incident=one.id, decided=True, limit=1000)
            found += [event for event in events if concerns(event, target, one)]
        for one in held:
            reason = str(one.current_reason[0])
            found += find(incident=one.id, reason=reason, limit=1)
        return [event for _, event in sorted({event.seq: event for event in found}.items())]

    async def _no_decisions(self, target: Target) -> str:
        """Return the message for a target without decisions."""
        moved = ", and no incident moved it" if target.kind is TargetKind.JOB else ""
        nothing = f"No decision about {target}: no alert named it{moved}."
        if self.cluster is None:
            return nothing
        try:
            known = await exists(self.cluster, target)
        except Unsupported:
            return nothing
        except ClusterError:
            return (
                f"{nothing} The cluster did not answer, so it is unknown whether {target} exists."
            )
        return nothing if known else f"The cluster does not know {target}. {nothing}"


def capabilities_of(cluster: Cluster | None) -> frozenset[str]:
    """Return the capabilities of a cluster. Without a cluster, nothing is known to be missing."""
    return EVERYTHING if cluster is None else frozenset(map(str, cluster.capabilities))


async def exists(cluster: Cluster, target: Target) -> bool:
    """Return whether the cluster knows a target. Raises ClusterError."""
    if target.kind is TargetKind.JOB:
        return await cluster.job(target.name) is not None
    if target.kind is TargetKind.WORKLOAD:
        return await cluster.workload(target.name) is not None
    node = next((one for one in await cluster.list_nodes() if one.name == target.name), None)
    return node is not None and (target.gpu is None or node.gpu(target.gpu) is not None)


def related_to(target: Target, known: Iterable[Incident]) -> list[Incident]:
    """Return the incidents of other targets that contain decisions about this target, oldest first.

    For a job, these are the incidents that acted on it. For a GPU, these are incidents of its node
    that absorbed an alert of the GPU, or took over its incident or quarantine.
    """
    known = list(known)
    if target.kind is TargetKind.JOB:
        return [
            one
            for one in known
            if one.target.kind is not TargetKind.JOB
            and any(target.name in run.step.jobs for run in one.steps)
        ]
    if target.kind is not TargetKind.GPU:
        return []
    heirs = {one.absorbed_by for one in known if one.target == target}
    return [
        one
        for one in known
        if one.target == Target(TargetKind.NODE, target.name)
        and (
            one.id in heirs
            or target in one.quarantined
            or any(episode.gpu == str(target.gpu) for episode in one.alerts)
        )
    ]


def concerns(event: Event, target: Target, incident: Incident) -> bool:
    """Return whether an event of a related incident is about the target. The event that opened the
    incident always counts."""
    if event.kind is Kind.INCIDENT_OPENED:
        return True
    if target.kind is TargetKind.JOB:
        steps = {run.step.op_id for run in incident.steps if target.name in run.step.jobs}
        return event.data.get("op_id") in steps
    if event.kind is Kind.ALERT_ABSORBED:
        return event.data.get("gpu", "") in ("", str(target.gpu))
    if event.kind is Kind.INHERITED:
        return str(target) in event.data["targets"]
    on = event.data.get("on")
    return on is None or on in (str(target), str(incident.target))


def with_present(story: Sequence[Event], incidents: Iterable[Incident]) -> list[Event]:
    """Return the journal events, followed by the current reason of each incident on hold."""
    found = list(story)
    for one in incidents:
        if not _is_held(one):
            continue
        present = _present(one)
        recorded = [event for event in found if _is_record(event, present)]
        found = [event for event in found if event not in recorded]
        found.append(recorded[-1] if recorded else present)
    return found


def _is_held(incident: Incident) -> bool:
    return not incident.ended and (
        incident.held is not None or incident.state is IncidentState.HELD
    )


def _present(incident: Incident) -> Event:
    """Return the current hold of an incident as an event.

    The event has no sequence number, because the journal may not contain the hold.
    """
    reason, text = incident.current_reason
    at = incident.since if incident.held_since is None else incident.held_since
    return Event(Kind.HELD, at, incident.id, str(incident.target), reason, text)


def _is_record(event: Event, present: Event) -> bool:
    same = replace(event, kind=present.kind, at=present.at, data=present.data, seq=present.seq)
    return event.kind in _ABOUT_NOW and event.at >= present.at and same == present


def _pause(journal_state: JournalState) -> dict[str, Any] | None:
    """Return the user, reason and time (Unix seconds) of the current pause; None if not paused."""
    pause = journal_state.pause
    return None if pause is None else {"by": pause.by, "reason": pause.why, "at": pause.at}


def as_json(incident: Incident) -> dict[str, Any]:
    """Return an incident as the API shows it.

    Times are Unix seconds, except `startsAt`, which is Alertmanager's string. While the incident is
    held, `reason` and `text` describe the hold.
    """
    reason, text = incident.current_reason
    return {
        "id": incident.id,
        "target": str(incident.target),
        "state": str(incident.state),
        "reason": str(reason),
        "playbook": incident.playbook,
        "alerts": [
            {"fingerprint": one.fingerprint, "startsAt": one.starts_text} for one in incident.alerts
        ],
        "steps": [
            {
                "action": run.step.action,
                "state": str(run.state),
                "started": run.started,
                "ended": run.ended,
            }
            for run in incident.steps
        ],
        "opened": incident.opened,
        "since": incident.since,
        "held_since": incident.held_since,
        "level": str(incident.level),
        "approval": _approval(incident),
        "text": text,
    }


def _approval(incident: Incident) -> dict[str, Any] | None:
    """Return the current request for an approval, with the approval if it was given; None without one."""
    if incident.state is not IncidentState.AWAIT_APPROVAL:
        return None
    given = incident.approved
    return {
        "request": incident.requests,
        "until": incident.until,
        "by": None if given is None else given.by,
        "reason": None if given is None else given.why,
    }


def _number(request: Request, name: str, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return most
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10_000):
        raise UserError(f"{name}={text[:20]!r}: expected a number from 1 to 10000.")
    return int(text)


def _time(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text, re.ASCII):
        raise UserError(f"{name}={text[:20]!r}: expected a time in Unix seconds.")
    return float(text)
