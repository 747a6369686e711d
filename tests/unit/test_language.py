"""User-visible texts contain no phrase of the old voice (CONTRIBUTING.md, Language)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("exporter", "fleetmedic", "remediator", "rules")
# What was written, and what to write.
OLD = {
    r"takes jobs again": "back in service",
    r"person's hand": "manual changes take precedence",
    r"is news no more": "duplicates are ignored",
    r"people are told": "notified",
    r"stands twice": "duplicate",
    r"\bmend(?:ed|s)?\b": "fix",
    r"kept out a while": "on probation",
    r"\boftener\b": "more often",
    r"\banew\b": "again",
    r"\bwhoever\b": "the caller",
    r"\bthereof\b": "its",
    r"takes no new jobs": "gets no new jobs",
    r"left alone": "no action",
    r"the middle one": "median",
    r"out of work": "failed, out of service",
    r"is concerned": "is affected",
    r"called sick": "reported unhealthy",
    r"its yesterday": "history",
    r"hands off": "no action",
    r"too warm to": "thermally throttled",
    r"number that divides": "speed-up factor",
    r"learns? (?:alert )?rules": "generate rules",
    r"(?:directory|default) of all": "for all",
    r"the next controller": "when the controller starts again",
    r"\bso many nodes": "this many nodes",
    r"single collectors": "individual collectors",
}


@cache
def _texts() -> tuple[tuple[str, str], ...]:
    """Each text that a user reads, with its place: documentation, rules, dashboards, messages in code."""
    return tuple(_of_files()) + tuple(_of_code())


def _of_files() -> Iterator[tuple[str, str]]:
    patterns = (
        "README.md", "CONTRIBUTING.md", "docs/*.md", "docs/runbooks/*.md", "rules/static/*.yml",
        "dashboards/*.json", "alertmanager/**/*.tmpl", "exporter/catalogue.yml",
    )  # fmt: skip
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            # test names stay as they are in the table of docs/safety.md
            yield str(path.relative_to(ROOT)), re.sub(r"`tests/[^`]*`", "", path.read_text())


def _of_code() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


@pytest.mark.parametrize("phrase", OLD)
def test_no_text_has_a_phrase_of_the_old_voice(phrase: str) -> None:
    found = [place for place, text in _texts() if re.search(phrase, text, re.IGNORECASE)]
    assert found == [], f"write {OLD[phrase]!r}"
