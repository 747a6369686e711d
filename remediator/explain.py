"""Describe in sentences what the playbooks would do about an alert. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.actions.registry import catalogue
from remediator.core.model import Alert, Level, Playbook
from remediator.core.plan import outline
from remediator.core.routing import route


def explain(
    alert: Alert, playbooks: tuple[Playbook, ...], ceiling: Level, cluster: str
) -> Iterator[str]:
    """Yield a sentence about the alert's playbook and target, then one line for each action.

    A line says if the action cannot be undone, and if the automation level does not allow it.
    """
    found = route(alert, playbooks, cluster)
    yield found.text
    if found.playbook is None or found.target is None or not alert.firing:
        return
    level = min(found.playbook.level, ceiling, key=lambda one: one.rank)
    if found.playbook.notify_only:
        yield "  1. notify people"
        return
    steps = outline(catalogue(), found.playbook, found.target.kind)
    for number, (action, needed) in enumerate(steps, 1):
        allowed = needed.rank <= level.rank and level is not Level.OBSERVE
        suffix = "" if allowed else f" (not allowed at level {level}: requires {needed})"
        final = " (cannot be undone)" if action.disruptive and not action.reversible else ""
        yield f"  {number}. {action.would}{final}{suffix}"
