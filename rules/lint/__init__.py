"""Checks rule files: texts, durations, runbook links, and queries against the metric catalogue.

Used for shipped, rendered and generated files. A check yields problems and never prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from rules import promql, rulefile
from rules.lint import declaration, matching, query, rule_fields
from rules.lint.check import Check, CheckInput, Severity
from rules.lint.rule_fields import HEADINGS
from rules.render import shipped
from rules.rule_model import Rule
from rules.rulefile import RuleFile
from rules.series_labels import SeriesLabels, labels_of_query

__all__ = ["HEADINGS", "Finding", "lint_file", "lint_paths"]

_PLACE = re.compile(r"^(?P<file>.+?)(?::(?P<line>\d+)(?::\d+)?)?: (?P<text>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem at a position in a file. `severity` is error or warning, `text` a sentence."""

    file: Path
    line: int
    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.text}"


def lint_paths(paths: Sequence[Path] = ()) -> list[Finding]:
    """Return the findings of files and directories (all *.yml in them), by default of the shipped
    rules.

    Each file may use the recording rules of all files. Alert names must be unique.
    """
    if not paths:
        return _lint(shipped())
    broken: list[Finding] = []
    files: list[RuleFile] = []
    for path in paths:
        for each in sorted(path.rglob("*.yml")) if path.is_dir() else [path]:
            read = _read(each)
            if isinstance(read, RuleFile):
                files.append(read)
            else:
                broken.append(read)
    return broken + _lint(files)


def lint_file(path: Path) -> list[Finding]:
    """Return the findings of one file, by line. The file may use the shipped recording rules."""
    read = _read(path)
    if not isinstance(read, RuleFile):
        return [read]
    known = records(shipped())
    return list(_file(read, records([read], known)))


def records(
    files: Iterable[RuleFile], known: Mapping[str, SeriesLabels] | None = None
) -> dict[str, SeriesLabels]:
    """Return the labels of each recording rule's series, by rule name. A rule may use earlier rules."""
    found = dict(known or {})
    for file in files:
        for rule in file.rules():
            if not rule.is_alert:
                found[rule.name] = _recorded(rule, found)
    return found


def _recorded(rule: Rule, known: Mapping[str, SeriesLabels]) -> SeriesLabels:
    try:
        given = labels_of_query(promql.parse(rule.expr), known)
    except UserError:
        return SeriesLabels(known=False)  # the syntax check reports this
    added = frozenset(rule.labels)
    return SeriesLabels(given.sure | added, given.maybe | added, given.known)


def _lint(files: Sequence[RuleFile]) -> list[Finding]:
    known = records(files)
    findings = [finding for file in files for finding in _file(file, known)]
    return findings + list(_doubles(files))


def _read(path: Path) -> RuleFile | Finding:
    try:
        return rulefile.read(path)
    except UserError as error:
        place = _PLACE.match(str(error))
        line = int(place["line"] or 1) if place else 1
        return Finding(path, line, "error", place["text"] if place else str(error))


def _file(file: RuleFile, known: Mapping[str, SeriesLabels]) -> Iterator[Finding]:
    for group in file.groups:
        for rule in group.rules:
            place = CheckInput(rule, group, known)
            for check in CHECKS:
                for severity, text in check(place):
                    yield Finding(
                        file.path, rule.line, severity, f"{rule.name or 'unnamed rule'}: {text}"
                    )


def _doubles(files: Sequence[RuleFile]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for file in files:
        for rule in file.rules():
            place = f"{file.path}:{rule.line}"
            first = seen.setdefault(rule.name, place) if rule.is_alert else place
            if first != place:
                text = f"{rule.name}: duplicate alert name; first defined at {first}."
                yield Finding(file.path, rule.line, "error", text)


CHECKS: tuple[Check, ...] = (
    rule_fields.names,
    rule_fields.labels,
    rule_fields.texts,
    rule_fields.runbook,
    rule_fields.dashboard,
    rule_fields.durations,
    declaration.reported,
    declaration.playbook,
    query.syntax,
    query.families,
    query.absence,
    query.units,
    matching.selecting,
    matching.grouping,
    matching.matching,
    matching.texts,
)
