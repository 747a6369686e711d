"""Prometheus rules and rule groups, shipped, written by a site, or compiled from a model. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting or recording rule. Durations are strings, as in a rule file.

    `line` is the rule's first line in its file; 1 if the rule comes from no file.
    """

    name: str
    expr: str
    is_alert: bool
    wait: str = ""
    keep: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    line: int = 1

    def plain(self) -> dict[str, Any]:
        """Return the rule in the Prometheus format, with the keys in the usual order."""
        raw: dict[str, Any] = {"alert" if self.is_alert else "record": self.name, "expr": self.expr}
        raw |= {"for": self.wait} if self.wait else {}
        raw |= {"keep_firing_for": self.keep} if self.keep else {}
        raw |= {"labels": dict(self.labels)} if self.labels else {}
        return raw | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated every `interval`. If `interval` is empty, Prometheus' default applies."""

    name: str
    interval: str
    rules: tuple[Rule, ...]
    line: int = 1

    def plain(self) -> dict[str, Any]:
        """Return the group in the Prometheus format."""
        raw: dict[str, Any] = {"name": self.name}
        raw |= {"interval": self.interval} if self.interval else {}
        return raw | {"rules": [rule.plain() for rule in self.rules]}
