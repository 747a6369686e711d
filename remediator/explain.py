"""Describe in sentences what the playbooks would do about an alert. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.actions.registry import catalogue
from remediator.core.facts import EVERYTHING
from remediator.core.model import Alert, Level, Playbook
from remediator.core.reasons import Reason
from remediator.core.routing import route
from remediator.core.shape import shape


def explain(
    alert: Alert,
    playbooks: tuple[Playbook, ...],
    ceiling: Level,
    cluster: str,
    capabilities: frozenset[str] = EVERYTHING,
) -> Iterator[str]:
    """Yield a sentence about the alert's playbook and target, then one line for each action.

    A line says if the action cannot be undone, if the automation level does not allow it, and if the
    cluster with these capabilities does not support it.
    """
    found = route(alert, playbooks, cluster)
    yield found.text
    if found.playbook is None or found.target is None or not alert.firing:
        return
    level = min(found.playbook.level, ceiling, key=lambda one: one.rank)
    if found.playbook.notify_only:
        yield "  1. notify people"
        return
    shaped = shape(catalogue(), found.playbook, found.target.kind, capabilities, level)
    for number, step in enumerate(shaped.planned, 1):
        action = step.action
        suffix = f" ({step.note})" if step.note else ""
        if step.reason is Reason.UNSUPPORTED:
            suffix = f" (left out: {step.text.rstrip('.')})"
        elif not step.kept or level is Level.OBSERVE:
            suffix = f" (not allowed at level {level}: requires {step.level})"
        final = " (cannot be undone)" if action.disruptive and not action.reversible else ""
        yield f"  {number}. {action.would}{final}{suffix}"
