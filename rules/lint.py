"""Checks rule files: words, durations, queries against the metric catalogue, runbooks behind links.

Used on the shipped files, on rendered ones and on what detectors generate. A check returns findings
and never prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from exporter.catalogue import catalogue
from fleetmedic.kernel import labels as words
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.share import share
from rules import promql, rulefile
from rules.render import RUNBOOK_URL, sources
from rules.rulefile import Group, Rule

HEADINGS = ("Meaning", "Impact", "Check", "Automatic action", "By hand", "Verify", "Silence")
PLAYBOOKS = (
    "gpu-lost", "gpu-hung", "gpu-repair", "gpu-slow", "application-error", "node-down", "job-stalled",
    "notify-only", "scale-out", "scale-in", "none",
)  # fmt: skip
SOURCES = ("static", "detector")
LABELS = (words.SEVERITY, words.CATEGORY, words.SOURCE)
ANNOTATIONS = ("summary", "description", RUNBOOK_URL, words.PLAYBOOK)
LONGEST_WAIT = 86_400.0
LONGEST_CRITICAL_WAIT = 900.0

_ALERT_NAME = re.compile(r"(?:[A-Z][a-z0-9]*)+")
_RECORD_NAME = re.compile(r"[a-z][a-z0-9_]*:[a-z0-9_]+(?::[a-z0-9_]+)?")
_PLACE = re.compile(r"^(?P<file>.+?)(?::(?P<line>\d+)(?::\d+)?)?: (?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a place; `severity` is error or warning, `text` a sentence."""

    file: Path
    line: int
    severity: Literal["error", "warning"]
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.text}"


# A check of one rule yields (severity, sentence).
Problem = tuple[Literal["error", "warning"], str]


def lint_paths(paths: Sequence[Path] = ()) -> list[Finding]:
    """Findings of files and folders (all *.yml below); without paths, of the shipped rules.

    Recording rules of any of the files are known in all of them, and names may stand only once.
    """
    files = [
        file
        for path in paths or sources()
        for file in (sorted(path.rglob("*.yml")) if path.is_dir() else [path])
    ]
    records = {rule.name for file in files for rule in _readable(file) if not rule.is_alert}
    findings = [finding for file in files for finding in lint_file(file, records=records)]
    return findings + list(_doubles(files))


def lint_file(path: Path, *, records: set[str] | None = None) -> list[Finding]:
    """Findings of one file, in order of lines. `records` are recording rules of other files."""
    try:
        file = rulefile.read(path)
    except UserError as error:
        place = _PLACE.match(str(error))
        line = int(place["line"] or 1) if place else 1
        return [Finding(path, line, "error", place["text"] if place else str(error))]
    known = {rule.name for rule in file.rules() if not rule.is_alert} | (records or set())
    return [
        Finding(path, rule.line, severity, f"{rule.name or 'a rule'}: {text}")
        for group in file.groups
        for rule in group.rules
        for check in CHECKS
        for severity, text in check(rule, group, known)
    ]


def _readable(path: Path) -> list[Rule]:
    try:
        return list(rulefile.read(path).rules())
    except UserError:
        return []  # lint_file says so with its line


def _doubles(files: list[Path]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for file in files:
        for rule in _readable(file):
            place = f"{file}:{rule.line}"
            first = seen.setdefault(rule.name, place) if rule.is_alert else place
            if first != place:
                text = f"{rule.name}: the name already stands at {first}."
                yield Finding(file, rule.line, "error", text)


def _names(rule: Rule, group: Group, known: set[str]) -> Iterator[Problem]:
    if rule.is_alert and not _ALERT_NAME.fullmatch(rule.name):
        yield "error", "an alert is named in CamelCase, such as GpuLost."
    if not rule.is_alert and not _RECORD_NAME.fullmatch(rule.name):
        yield "error", "a recording rule is named level:metric:operation, such as node:gpu_up:sum."
    if not group.name:
        yield "error", "its group has no name."


def _labels(rule: Rule, group: Group, known: set[str]) -> Iterator[Problem]:
    if not rule.is_alert:
        return
    allowed = {
        words.SEVERITY: words.SEVERITIES, words.CATEGORY: words.CATEGORIES, words.SOURCE: SOURCES
    }  # fmt: skip
    for name, values in allowed.items():
        value = rule.labels.get(name)
        if value not in values:
            yield "error", f"label {name} is {value!r}; it must be one of {', '.join(values)}."
    for name, value in rule.labels.items():
        if "$value" in value:
            yield (
                "error",
                f"label {name} changes with the value: each change is a new alert; use an annotation.",
            )


def _annotations(rule: Rule, group: Group, known: set[str]) -> Iterator[Problem]:
    if not rule.is_alert:
        return
    for name in ANNOTATIONS:
        if not rule.annotations.get(name):
            yield "error", f"annotation {name} is missing."
    playbook = rule.annotations.get(words.PLAYBOOK)
    if playbook and playbook not in PLAYBOOKS:
        yield "error", f"playbook {playbook!r} is unknown; known: {', '.join(PLAYBOOKS)}."
    summary = rule.annotations.get("summary", "")
    if summary and not summary.rstrip().endswith("."):
        yield "warning", "the summary is one sentence: end it with a full stop."
    for text in rule.annotations.values():
        if "$labels.alertname" in text:
            yield "error", "$labels.alertname is empty in a template; write the alert's name."


def _runbook(rule: Rule, group: Group, known: set[str]) -> Iterator[Problem]:
    url = rule.annotations.get(RUNBOOK_URL, "")
    if not rule.is_alert or not url:
        return
    if url.rpartition("/")[2] != rule.name or "://" not in url:
        yield "error", f"runbook_url must be a URL that ends in /{rule.name}."
    try:
        page = share("docs/runbooks") / f"{rule.name}.md"
        lines = page.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        yield "error", f"there is no page docs/runbooks/{rule.name}.md."
        return
    found = tuple(line[3:].strip() for line in lines if line.startswith("## "))
    if found != HEADINGS:
        yield "error", f"{page.name} must have the headings {', '.join(HEADINGS)}, in this order."


def _durations(rule: Rule, group: Group, known: set[str]) -> Iterator[Problem]:
    fields = (("for", rule.wait), ("keep_firing_for", rule.keep), ("interval", group.interval))
    for name, text in fields:
        try:
            seconds = parse_duration(text) if text else 0.0
        except UserError as error:
            yield "error", f"{name}: {error}"
            continue
        if seconds > LONGEST_WAIT:
            yield "error", f"{name} {text} is longer than a day: nobody waits for that."
        critical = rule.labels.get(words.SEVERITY) == "critical"
        if name == "for" and critical and seconds > LONGEST_CRITICAL_WAIT:
            yield (
                "warning",
                f"for {text} is long for a critical alert: who acts now should hear of it now.",
            )


def _query(rule: Rule, group: Group, known: set[str]) -> Iterator[Problem]:
    try:
        read = promql.selectors(rule.expr)
        promql.numbers(rule.expr)
    except UserError as error:
        yield "error", f"the query is {error}"
        return
    if not read and rule.expr != "vector(1)":
        yield "error", "the query reads no series: it is always on or always off."
    metrics = catalogue()
    for selector in read:
        family = metrics.of_series(selector.metric)
        if family is None and selector.metric not in known:
            name = selector.metric or "a selector without a metric name"
            yield "error", f"{name} is not in exporter/catalogue.yml."
        counts = selector.metric.endswith(("_total", "_bucket", "_count", "_sum")) or (
            family is not None and family.type in ("counter", "untyped")
        )
        if selector.function and not counts:
            yield (
                "error",
                f"{selector.function}() of {selector.metric}, which is no counter; use delta() or deriv().",
            )


Check = Callable[[Rule, Group, set[str]], Iterator[Problem]]
CHECKS: tuple[Check, ...] = (_names, _labels, _annotations, _runbook, _durations, _query)
