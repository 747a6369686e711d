"""Record alerts that Alertmanager withholds: silenced, inhibited and muted ones, which lead to no action."""

from __future__ import annotations

from collections.abc import Iterable

from remediator.core import events
from remediator.core.events import Event
from remediator.core.evidence import Evidence
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert
from remediator.core.reasons import Reason
from remediator.core.routing import holder
from remediator.engine_context import EngineContext, EventAppender
from remediator.notices import Inhibited, inhibited_notice
from remediator.policy import Policy


class WithheldAlerts:
    """Records why withheld alerts lead to no action, and notifies people of faults that nobody handles.

    A silence or a window is a decision of people. An inhibition is not, so people are notified of an
    inhibited alert if the remediator does not act on the inhibiting alert either.
    """

    def __init__(
        self, policy: Policy, state: JournalState, journal: EventAppender, context: EngineContext
    ) -> None:
        self._policy = policy
        self._state = state
        self._journal = journal
        self._context = context
        self._recorded: set[tuple[str, Reason]] = set()
        self._inhibited_since: dict[str, float] = {}
        self._notified: set[str] = set()

    async def record(self, alerts: Iterable[tuple[Alert, Evidence]]) -> None:
        """Record each withheld alert in the journal once. Raises JournalDown."""
        now = self._context.now()
        written: list[Event] = []
        noted: set[tuple[str, Reason]] = set()
        inhibited: list[Inhibited] = []
        for alert, evidence in alerts:
            key = (alert.key, evidence.reason)
            noted.add(key)
            if key in self._recorded and evidence.reason is not Reason.INHIBITED:
                continue
            record = self._state.episodes.get(alert.key)
            found = self._policy.route(alert)
            if found.playbook is None or found.target is None or (record and record.incident):
                continue
            if key not in self._recorded:
                text = f"{alert.shown_name} on {found.target} is not handled. {evidence.text}"
                written.append(events.suppressed(alert, found.target, now, evidence.reason, text))
            fault = not found.playbook.notify_only and found.playbook.scale is None
            if evidence.reason is Reason.INHIBITED and fault:
                inhibited.append((alert, found.target, evidence))
        unhandled = self._unhandled(inhibited, now)
        await self._journal.append((*written, *inhibited_notice(unhandled, self._state, now)))
        self._recorded = noted
        self._notified |= {alert.key for alert, *_ in unhandled}

    def _unhandled(self, inhibited: list[Inhibited], now: float) -> list[Inhibited]:
        """Return alerts inhibited for long, if no incident acts on them or on the inhibiting alert."""
        keys = {alert.key for alert, *_ in inhibited}
        self._inhibited_since = {key: self._inhibited_since.get(key, now) for key in keys}
        self._notified &= keys
        acting = {
            record.alert.fingerprint
            for incident in self._state.open_incidents()
            if incident.held is None
            for episode in incident.alerts
            if (record := self._state.episodes.get(episode.key)) is not None
        }
        return [
            (alert, target, evidence)
            for alert, target, evidence in inhibited
            if now - self._inhibited_since[alert.key] >= self._policy.limits.notice
            and evidence.group.removeprefix("inhibited/") not in acting
            and holder(target, self._state) is None
            and alert.key not in self._notified
        ]
