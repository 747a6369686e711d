"""Derive the retention of the journal from the settings and the playbooks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from fleetmedic.kernel.durations import format_duration
from fleetmedic.kernel.errors import UserError
from remediator.core.guards import Limits
from remediator.core.model import Playbook
from remediator.core.retention import DAY, Retention
from remediator.core.settle import RECURRENCE_WINDOW


def retention_of(memory: float, events: float, limits: Limits, where: str) -> Retention:
    """Return the configured retention. Times are in seconds; `events` is 0 if no event is deleted.

    Raises UserError.
    """
    if memory < DAY:
        raise UserError(f"{where}: at $.journal.memory: expected at least 1d.")
    if events and events < memory:
        raise UserError(
            f"{where}: at $.journal.events: expected 0 (keep all events) or at least journal.memory "
            f"({format_duration(memory)})."
        )
    return Retention(
        memory=memory,
        events=events or math.inf,
        quarantines=max(DAY, limits.max_new_window),
    )


def covering(retention: Retention, playbooks: Iterable[Playbook], factor: float) -> Retention:
    """Return a retention that is at least as long as every time window in which attempts are counted."""
    windows = (seconds for playbook in playbooks for seconds in _windows(playbook))
    longest = max((RECURRENCE_WINDOW / factor, *windows))
    memory = max(retention.memory, longest)
    return replace(retention, memory=memory, events=max(retention.events, memory))


def _windows(playbook: Playbook) -> Iterator[float]:
    for rung in playbook.ladder:
        yield from (rung.window, rung.cooldown)
    if playbook.jobs is not None:
        yield playbook.jobs.window
    if playbook.scale is not None:
        yield playbook.scale.cooldown
