"""Checks that what an alert declares agrees with its query and with the shipped playbooks."""

from __future__ import annotations

from collections.abc import Iterator

import promql_parser as pp

from fleetmedic.alerting import reports
from fleetmedic.alerting.reports import AlertReport
from fleetmedic.kernel import labels as words
from rules import promql
from rules.declaration import NOTIFY_ONLY
from rules.lint.check import CheckInput, Problem
from rules.lint.playbooks import playbook_of, playbooks
from rules.lint.query import readable
from rules.series_labels import metric_name

NO_PLAYBOOK = "none"
_EVENTS = tuple(str(one) for one in AlertReport if one.is_event)
_HARDWARE = ("gpu", "node")
# Functions whose result shows something that happened in the past.
_PAST = frozenset({"increase", "rate", "irate", "delta", "idelta", "changes", "resets", "time"})
_RATES = frozenset({"rate", "irate"})


def reported(subject: CheckInput) -> Iterator[Problem]:
    """Check the label `reports` against the query."""
    rule = subject.rule
    label = rule.labels.get(reports.LABEL, "")
    category, severity = rule.labels.get(words.CATEGORY), rule.labels.get(words.SEVERITY)
    if not readable(subject) or not rule.is_alert or label not in ("", *AlertReport):
        return
    past = _past(subject)
    at_once = category in _HARDWARE and not rule.wait
    if not label and at_once and past - _RATES:
        yield (
            "error",
            f"the query looks back in time ({', '.join(sorted(past - _RATES))}) and there is no `for`, so the "
            f"alert fires for a while after an event: add the label {reports.LABEL} with one of "
            f"{', '.join(_EVENTS)}, or condition.",
        )
    if label in _EVENTS and not past:
        yield (
            "error",
            f"label {reports.LABEL}: {label} is an event, but the query shows the current state: remove the label.",
        )
    if label == AlertReport.LOSS and (past or severity != "critical" or category not in _HARDWARE):
        yield (
            "error",
            f"label {reports.LABEL}: loss requires the severity critical, the category gpu or node, and a query "
            "that shows the current state.",
        )


def playbook(subject: CheckInput) -> Iterator[Problem]:
    """Check the annotation `playbook` against the shipped playbooks."""
    rule = subject.rule
    named = rule.annotations.get(words.PLAYBOOK, "")
    if not rule.is_alert or not named:
        return
    known = playbooks()
    if named not in (*known, NOTIFY_ONLY, NO_PLAYBOOK):
        names = ", ".join((*known, NOTIFY_ONLY, NO_PLAYBOOK))
        yield "error", f"unknown playbook {named!r}; known: {names}."
        return
    taken = playbook_of(rule.name)
    if taken is not None and taken != named and rule.name != words.WATCHDOG:
        yield (
            "error",
            f"annotation playbook: {named}, but the shipped playbook {taken} matches the alert: write {taken}.",
        )
    elif taken is None and named in known:
        yield (
            "warning",
            f"annotation playbook: {named}, but this playbook does not match the alert: add the alert to "
            f"match.alertname of the playbook, or write {NOTIFY_ONLY}.",
        )
    quarantines = named in known and known[named].quarantine
    if rule.labels.get(reports.LABEL) == AlertReport.APPLICATION_ERROR and quarantines:
        yield (
            "error",
            f"label {reports.LABEL}: application_error does not allow playbook {named}, which quarantines.",
        )


def _past(subject: CheckInput) -> frozenset[str]:
    """Return by which functions and modifiers a query reads the past, `offset` included.

    A recorded series may contain the past, so it counts too.
    """
    found: set[str] = set()
    for node in promql.walk(promql.parse(subject.rule.expr)):
        if isinstance(node, pp.Call) and node.func.name in _PAST:
            found.add(node.func.name)
        if isinstance(node, pp.VectorSelector):
            if node.offset is not None:
                found.add("offset")
            if metric_name(node) in subject.records:
                found |= _RATES
    return frozenset(found)
