"""Finds alerts that were already handled, but must be handled again."""

from __future__ import annotations

from fleetmedic.kernel.labels import Target
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert
from remediator.core.routing import last_repaired_at
from remediator.core.settle import Terms, ended_with, reactivated, renewed, unattended
from remediator.engine_context import EngineContext


async def has_new_reason(
    alert: Alert, target: Target, state: JournalState, context: EngineContext, terms: Terms
) -> bool:
    """Return whether a firing alert must be handled again.

    This is the case if an operator's release of the target has expired, or if the alert reports a
    new event. It is also the case if the alert was ignored as older than a repair, and then became
    active in Prometheus after the repair.
    """
    record = state.episodes.get(alert.key)
    older = alert.starts_at <= last_repaired_at(target, state)
    if older and record is not None and record.suppressed:
        since = await context.senses.active_since(alert)
        if reactivated(alert, target, state, since):
            return True
    if ended_with(alert, state) is None:
        return False
    event_at = await context.senses.event_at(alert, target) if alert.report.is_event else None
    return unattended(alert, target, state, context.now(), terms.pin) or renewed(
        alert, target, state, event_at
    )
