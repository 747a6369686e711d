"""Describes what would be done about an alert, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.core.model import Alert, Level, Playbook
from remediator.core.plan import WOULD, outline
from remediator.core.routing import route


def explain(
    alert: Alert, playbooks: tuple[Playbook, ...], ceiling: Level, cluster: str
) -> Iterator[str]:
    """The route of an alert, then the actions of its playbook and what limits them."""
    found = route(alert, playbooks, cluster)
    yield found.text
    if found.playbook is None or found.target is None or not alert.firing:
        return
    level = min(found.playbook.level, ceiling, key=lambda one: one.rank)
    if found.playbook.notify_only:
        yield "  1. notify people"
        return
    for number, (action, needed) in enumerate(outline(found.playbook, found.target.kind), 1):
        allowed = needed.rank <= level.rank and level is not Level.OBSERVE
        suffix = "" if allowed else f" (not allowed at level {level}: requires {needed})"
        yield f"  {number}. {WOULD[action]}{suffix}"
