"""Orders of operators about one target or incident: release, close, retry, approve, reject.

The journal records the author and the reason of each order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fleetmedic.kernel.durations import format_duration
from fleetmedic.kernel.errors import UserError, shortened
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.clusters.base import ClusterError
from remediator.core import events
from remediator.core.action import Effect
from remediator.core.journal_state import JournalState
from remediator.core.model import OWNER, Incident, IncidentState, Playbook, op_id
from remediator.core.reasons import Reason
from remediator.crash_points import effect
from remediator.engine_context import EngineContext, EventAppender


class IncidentOrders:
    """Carries out orders about a target or an incident.

    `playbook` returns a configured playbook by name. `wake_target` wakes the task of a target. `decision_lock`
    returns the lock to hold from a decision about a target until it is recorded.
    """

    def __init__(
        self,
        playbook: Callable[[str], Playbook | None],
        journal_state: JournalState,
        journal: EventAppender,
        context: EngineContext,
        wake_target: Callable[[Target], None],
        decision_lock: Callable[[Target], asyncio.Lock],
        pin: float,
    ) -> None:
        """Set `pin`, the seconds for which a released target is not quarantined again."""
        self._playbook = playbook
        self._state = journal_state
        self._journal = journal
        self._context = context
        self._wake_target = wake_target
        self._decision_lock = decision_lock
        self._respected = (
            f"the remediator does not quarantine it again for {format_duration(round(pin))}."
        )

    async def release(self, target: Target, by: str, why: str) -> str:
        """Return a target to service on an operator's order. Returns a message about the consequences.

        Raises UserError.
        """
        if target.kind not in (TargetKind.GPU, TargetKind.NODE):
            raise UserError(
                f"{target} cannot be quarantined; expected NODE, or NODE/INDEX for a GPU."
            )
        incident = self._state.incident_on(target)
        now = self._context.now()
        held_only = incident is not None and incident.state is IncidentState.HELD
        if (
            incident is not None
            and (incident.quarantined or held_only)
            and not self._kept(incident)
        ):
            await self._journal.append((events.ordered("release", target, by, why, now, incident),))
            self._wake_target(target)
            done = "is being returned to service"
            if not incident.quarantined:
                done = "was not quarantined; its incident ends"
            elif incident.prepared is not None:
                done = f"returns to service when the step {incident.prepared.step.id} has ended"
            if incident.quarantined and (refusal := self._context.senses.refusal()):
                return (
                    f"{target} returns to service when this remediator may take actions. {refusal}"
                )
            others = [str(one) for one in incident.quarantined if one != target]
            also = f", and {', '.join(others)} with it" if others else ""
            return f"{target} {done}{also}; {self._respected}"
        try:
            held = await self._context.cluster.quarantined(target)
        except ClusterError as error:
            raise UserError(f"{target} cannot be released: {error}") from None
        if held is None and not await self._marked(target):
            raise UserError(
                f"{target} is not quarantined; `fleetmedic why {_short(target)}` lists the decisions about it."
            )
        if held is not None and held.owner != OWNER:
            raise UserError(
                f"{held.owner} quarantined {target}: {held.reason}. Only that owner can release it."
            )
        if refusal := self._context.senses.refusal():
            raise UserError(refusal)
        about = incident if held_only else None
        await self._journal.append((events.ordered("release", target, by, why, now, about),))
        operation = op_id(str(target), f"release by {by}", int(now * 1000))
        try:
            await effect(self._context.cluster.release(target, op_id=operation, owner=OWNER))
        except ClusterError as error:
            raise UserError(f"{target} was not released: {error}") from None
        self._wake_target(target)
        if target.gpu is not None and await self._node_is_out(target):
            return f"{target} is released, but its node is still quarantined; release {target.name} too."
        return f"{target} is back in service; {self._respected}"

    def _kept(self, incident: Incident) -> bool:
        """Return whether an operator keeps the target out of service, so that the incident releases nothing."""
        return incident.target in self._state.kept and incident.target not in incident.quarantined

    async def _marked(self, target: Target) -> bool:
        """Return whether the cluster itself marked a GPU as unusable.

        An operator's release clears the mark too.
        """
        try:
            node = (await self._context.senses.snapshot()).node(target.name)
        except ClusterError:
            return False
        gpu = node.gpu(target.gpu) if node and target.gpu is not None else None
        return gpu is not None and gpu.marked is not None

    async def _node_is_out(self, gpu: Target) -> bool:
        try:
            node = Target(TargetKind.NODE, gpu.name)
            return await self._context.cluster.quarantined(node) is not None
        except ClusterError:
            return False

    async def close_incident(
        self, identity: str, by: str, why: str, *, keep_quarantine: bool
    ) -> str:
        """Close an incident on an operator's order. Returns a message for the operator. Raises UserError."""
        async with self._decision_lock(self._open(identity).target):
            return await self._close(identity, by, why, keep_quarantine=keep_quarantine)

    async def _close(self, identity: str, by: str, why: str, *, keep_quarantine: bool) -> str:
        incident = self._open(identity)
        kept = ", ".join(map(str, incident.quarantined))
        if kept and not keep_quarantine:
            raise UserError(
                f"{identity} still quarantines {kept}; use `fleetmedic release "
                f"{_short(incident.target)}`, or close with --keep-quarantine."
            )
        if incident.prepared is not None:
            raise UserError(
                f"{identity} is running the step {incident.prepared.step.id}; try again when the step "
                "has ended."
            )
        text = f"{by}: {why}" + (f" {kept} stays quarantined." if kept else "")
        now, reason = self._context.now(), Reason.CLOSED_BY_PERSON
        closed = events.moved(
            incident, IncidentState.OVERRIDDEN, now, reason, shortened(text, 1000)
        )
        await self._journal.append((closed,))
        said = f"{identity} is closed." + (f" {kept} stays quarantined." if kept else "")
        firing = sorted(
            {
                one.shown_name
                for one in incident.alerts
                if (record := self._state.episodes.get(one.key)) and record.alert.firing
            }
        )
        if firing:
            verb = "fire" if len(firing) > 1 else "fires"
            said += f" {', '.join(firing)} still {verb}; an alert that fires without a break opens no new incident."
        return said

    async def retry(self, identity: str, by: str, why: str) -> str:
        """Restart the playbook of an escalated incident; returns a message. Raises UserError."""
        async with self._decision_lock(self._open(identity).target):
            return await self._retry(identity, by, why)

    async def _retry(self, identity: str, by: str, why: str) -> str:
        incident = self._open(identity)
        if incident.state is not IncidentState.ESCALATED:
            text = f"{identity} is {incident.state} and continues automatically; only an ESCALATED incident can be retried."
            raise UserError(text)
        if self._playbook(incident.playbook) is None:
            raise UserError(
                f"the playbook {incident.playbook} of {identity} is no longer configured; release its "
                "target, or close the incident."
            )
        now = self._context.now()
        again = events.moved(
            incident, IncidentState.TRIAGED, now, Reason.RETRIED, shortened(f"{by}: {why}", 1000)
        )
        await self._journal.append((again,))
        self._wake_target(incident.target)
        said = f"{identity}: the playbook {incident.playbook} starts again."
        refusal = self._context.senses.refusal()
        return f"{said} {refusal}" if refusal else said

    async def approve(self, identity: str, by: str, why: str, request: int | None = None) -> str:
        """Approve the return of a target to service; returns a message. Raises UserError.

        `request` is the number of the request that the operator saw; None for the current one.
        """
        async with self._decision_lock(self._open(identity).target):
            incident = self._awaiting(identity, request)
            if incident.approved is not None:
                raise UserError(
                    f"{incident.approved.by} has already approved the return of {incident.target} to "
                    f"service ({incident.approved.why})."
                )
            now = self._context.now()
            await self._journal.append((events.approved(incident, by, shortened(why, 1000), now),))
        self._wake_target(incident.target)
        said = (
            f"{identity}: approved. The remediator checks the alerts once more, and then returns "
            f"{incident.target} to service."
        )
        refusal = self._context.senses.refusal()
        return f"{said} {refusal}" if refusal else said

    async def reject(self, identity: str, by: str, why: str, request: int | None = None) -> str:
        """Reject the return of a target to service; returns a message. Raises UserError."""
        async with self._decision_lock(self._open(identity).target):
            incident = self._awaiting(identity, request)
            if incident.prepared is not None and incident.prepared.step.effect is Effect.RELEASES:
                raise UserError(
                    f"{identity} is approved, and {incident.target} is being returned to service."
                )
            text = shortened(f"{by}: {why}", 1000)
            now = self._context.now()
            rejected = events.moved(
                incident, IncidentState.ESCALATED, now, Reason.REJECTED, text, by=by, why=why
            )
            await self._journal.append((rejected,))
        self._wake_target(incident.target)
        return (
            f"{identity}: rejected. {incident.target} stays quarantined until an operator releases it, "
            "or retries the incident."
        )

    def _awaiting(self, identity: str, request: int | None) -> Incident:
        """Return an incident that waits for an approval. Raises UserError if the request has ended."""
        incident = self._open(identity)
        if incident.state is not IncidentState.AWAIT_APPROVAL:
            raise UserError(
                f"{identity} is {incident.state} and waits for no approval: "
                f"{incident.current_reason[1]}"
            )
        if request is not None and request != incident.requests:
            raise UserError(
                f"request {request} of {identity} has ended; the current request is "
                f"{incident.requests}. Read `fleetmedic incidents show {identity}` first."
            )
        if incident.readmitted and not incident.quarantined:
            raise UserError(f"{incident.target} is already back in service.")
        if incident.until is None or self._context.now() >= incident.until:
            raise UserError(f"the request of {identity} for an approval has expired.")
        return incident

    def _open(self, identity: str) -> Incident:
        incident = self._state.incidents.get(identity)
        if incident is None:
            raise UserError(
                f"incident {identity[:80]!r} not found; `fleetmedic incidents --all` lists all incidents."
            )
        if incident.ended:
            raise UserError(f"{identity} has already ended ({incident.state}).")
        return incident


def _short(target: Target) -> str:
    """Return a target in the short notation of the command line, such as node2/3."""
    return str(target).removeprefix("gpu/").removeprefix("node/")
