"""Checks of names, labels, annotations, durations and links of a rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from urllib.parse import urlsplit

from fleetmedic.alerting import instruments, reports, stages
from fleetmedic.kernel import labels as words
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.share import share
from rules.declaration import DETECTOR, STATIC
from rules.links import DASHBOARD_URL, RUNBOOK_URL, UID_PREFIX
from rules.lint.check import CheckInput, Problem

HEADINGS = ("Meaning", "Impact", "Check", "Automatic action", "Manual steps", "Verify", "Silence")
# The labels of an alert with a fixed set of values.
VALUES: Mapping[str, tuple[str, ...]] = {
    words.SEVERITY: words.SEVERITIES,
    words.CATEGORY: words.CATEGORIES,
    words.SOURCE: (STATIC, DETECTOR),
    instruments.LABEL: tuple(instruments.Instrument),
    stages.LABEL: tuple(stages.Stage),
    reports.LABEL: tuple(reports.AlertReport),
}
OPTIONAL = frozenset({stages.LABEL, reports.LABEL})
ANNOTATIONS = ("summary", "description", RUNBOOK_URL, words.PLAYBOOK)
LONGEST_WAIT = 86_400.0
LONGEST_CRITICAL_WAIT = 900.0

_ALERT_NAME = re.compile(r"(?:[A-Z][a-z0-9]*)+")
_HARMLESS = re.compile(r"\{\{ \$labels\.\w+ \| urlquery \}\}")
_RECORD_NAME = re.compile(r"[a-z][a-z0-9_]*:[a-z0-9_]+(?::[a-z0-9_]+)?")


def names(subject: CheckInput) -> Iterator[Problem]:
    rule = subject.rule
    if rule.is_alert and not _ALERT_NAME.fullmatch(rule.name):
        yield "error", "an alert name must be in CamelCase, such as GpuLost."
    if not rule.is_alert and not _RECORD_NAME.fullmatch(rule.name):
        yield (
            "error",
            "a recording rule name must be level:metric:operation, such as node:gpu_up:sum.",
        )
    if not subject.group.name:
        yield "error", "the rule group has no name."


def labels(subject: CheckInput) -> Iterator[Problem]:
    rule = subject.rule
    if not rule.is_alert:
        return
    for name, values in VALUES.items():
        value = rule.labels.get(name)
        if not value and name not in OPTIONAL:
            yield "error", f"label {name} is missing: expected one of {', '.join(values)}."
        elif value and value not in values:
            yield "error", f"label {name}: expected one of {', '.join(values)}, got {value!r}."
    for name, value in rule.labels.items():
        if "$value" in value:
            yield (
                "error",
                f"label {name} contains $value: each new value creates a new alert; use an annotation.",
            )


def texts(subject: CheckInput) -> Iterator[Problem]:
    rule = subject.rule
    if not rule.is_alert:
        return
    for name in ANNOTATIONS:
        if not rule.annotations.get(name):
            yield "error", f"annotation {name} is missing."
    summary = rule.annotations.get("summary", "")
    if summary and not summary.rstrip().endswith("."):
        yield "warning", "the summary must end with a full stop."
    for text in rule.annotations.values():
        if "$labels.alertname" in text:
            yield "error", "$labels.alertname is empty in a template; write the name of the alert."


def runbook(subject: CheckInput) -> Iterator[Problem]:
    rule = subject.rule
    url = rule.annotations.get(RUNBOOK_URL, "")
    if not rule.is_alert or not url:
        return
    if "{{" in url:
        yield (
            "error",
            "runbook_url must not contain a template, because it is also read unexpanded.",
        )
        return
    if url.rpartition("/")[2] != rule.name or "://" not in url:
        yield "error", f"runbook_url must be a URL that ends in /{rule.name}."
    try:
        page = share("docs/runbooks") / f"{rule.name}.md"
        lines = page.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        yield "error", f"the runbook docs/runbooks/{rule.name}.md does not exist."
        return
    found = tuple(line[3:].strip() for line in lines if line.startswith("## "))
    if found != HEADINGS:
        yield "error", f"{page.name} must have the headings {', '.join(HEADINGS)}, in this order."


def dashboard(subject: CheckInput) -> Iterator[Problem]:
    """Check that a link to a shipped dashboard names an existing dashboard and existing variables."""
    url = subject.rule.annotations.get(DASHBOARD_URL)
    if not subject.rule.is_alert or url is None:
        return
    plain = _HARMLESS.sub("x", url)
    parts = urlsplit(plain)
    if "{{" in plain:
        yield (
            "error",
            "dashboard_url may contain only {{ $labels.NAME | urlquery }}: other templates could change the target.",
        )
        return
    if parts.scheme not in ("http", "https") or not parts.netloc:
        yield "error", "dashboard_url must be a URL."
        return
    folder, _, uid = parts.path.rpartition("/")
    if not folder.endswith("/d") or not uid.startswith(UID_PREFIX):
        return  # a dashboard of the site
    if uid not in _dashboard_variables():
        yield (
            "error",
            f"dashboard_url: unknown dashboard {uid}; known: {', '.join(_dashboard_variables())}.",
        )
        return
    for name in (pair.partition("=")[0] for pair in parts.query.split("&") if pair):
        if name.removeprefix("var-") not in _dashboard_variables()[uid]:
            yield (
                "error",
                f"dashboard_url: dashboard {uid} has no variable {name.removeprefix('var-')}.",
            )


@cache
def _dashboard_variables() -> Mapping[str, frozenset[str]]:
    """Return the variables of each shipped dashboard, by dashboard UID."""
    documents = [
        json.loads(path.read_text()) for path in sorted(share("dashboards").glob("*.json"))
    ]
    return {
        each["uid"]: frozenset(one["name"] for one in each["templating"]["list"])
        for each in documents
    }


def durations(subject: CheckInput) -> Iterator[Problem]:
    rule = subject.rule
    fields = (
        ("for", rule.wait),
        ("keep_firing_for", rule.keep),
        ("interval", subject.group.interval),
    )
    for name, text in fields:
        try:
            seconds = parse_duration(text) if text else 0.0
        except UserError as error:
            yield "error", f"{name}: {error}"
            continue
        if seconds > LONGEST_WAIT:
            yield "error", f"{name}: {text} is longer than the maximum of 1 d."
        critical = rule.labels.get(words.SEVERITY) == "critical"
        if name == "for" and critical and seconds > LONGEST_CRITICAL_WAIT:
            yield (
                "warning",
                f"for: {text} is longer than 15 min, which is too long for a critical alert.",
            )
