"""Runbooks: one page per alert, with a fixed structure, own text, and valid references."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from exporter.catalogue import catalogue
from fleetmedic.cli import COMMANDS
from rules import promql, rulefile
from rules.cli import COMMANDS as RULES_COMMANDS
from rules.detectors.registry import DETECTORS
from rules.lint import HEADINGS
from rules.render import sources

PAGES = Path(__file__).resolve().parents[3] / "docs" / "runbooks"
RECORDED = {r.name for path in sources() for r in rulefile.read(path).rules() if not r.is_alert}
ALERTS = [r.name for path in sources() for r in rulefile.read(path).rules() if r.is_alert]
NAMES = sorted([*ALERTS, *(one.alert.name for one in DETECTORS)])
LEARNED_RECORDS = "gpu:"  # recorded by the rules of a detector
QUERY = re.compile(r"promtool query instant http://localhost:9090 '([^']*)'")
CODE = re.compile(r"`([^`\n]+)`")


def _sections(name: str) -> dict[str, str]:
    text = (PAGES / f"{name}.md").read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_there_is_a_page_for_each_alert_and_for_nothing_else() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_its_title_the_fixed_headings_and_a_length_for_the_night(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    sections = _sections(name)
    assert tuple(sections) == HEADINGS
    assert all(body.strip() for body in sections.values())
    page = text.partition("\n### What a silence does\n")[0]
    assert 25 <= len(page.splitlines()) <= 48
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", text)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_pages_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (PAGES / f"{name}.md").read_text()):
        assert "://" in target or (PAGES / target).is_file(), target


def test_what_to_check_and_to_do_is_each_pages_own() -> None:
    pages: dict[str, set[str]] = defaultdict(set)
    for name in NAMES:
        sections = _sections(name)
        for sentence in re.split(
            r"(?<=[.:?!])\s+|\n\n|\n(?=[\d@a-z`])",
            sections["Check"] + "\n\n" + sections["Manual steps"],
        ):
            plain = " ".join(sentence.split()).strip("`").lower()
            if len(plain) > 12 and plain not in ("sh",):
                pages[plain].add(name)
    assert {s: sorted(names) for s, names in pages.items() if len(names) > 3} == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_check_has_commands_and_their_queries_are_answerable(name: str) -> None:
    check = _sections(name)["Check"]
    assert "```sh" in check
    for query in QUERY.findall(check):
        for selector in promql.selectors(query):
            learned = selector.metric.startswith(LEARNED_RECORDS)
            known = selector.metric in RECORDED or catalogue().of_series(selector.metric)
            assert learned or known, selector.metric


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_a_shell_can_read(name: str) -> None:
    """An integration test runs the commands that query Prometheus or Alertmanager."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (PAGES / f"{name}.md").read_text(), re.M | re.S)
    for block in blocks:
        said = subprocess.run(
            ["sh", "-n"], input=block, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stderr
        for remote in re.findall(r"^ssh NODE '([^']*)'", block, re.M):
            inner = subprocess.run(
                ["sh", "-n"], input=remote, capture_output=True, text=True, check=False
            )
            assert inner.returncode == 0, f"{remote}: {inner.stderr}"


@pytest.mark.parametrize("name", NAMES)
def test_metrics_named_in_the_text_exist(name: str) -> None:
    ours = {m.name for m in catalogue()} | {s for m in catalogue() for s in m.series_names()}
    prefixes = ("gpu_", "training_", "inference_", "detector_", "remediator_")
    for section in ("Meaning", "Verify"):
        for code in CODE.findall(_sections(name)[section]):
            for word in re.findall(r"[a-z_]{6,}", code.partition("{")[0]):
                if ":" not in code and word.startswith(prefixes):
                    assert word in ours, f"{name}: {word}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_ours_exist(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    for word, after in re.findall(r"(?:`|^)fleetmedic (\w+)(?: (\w+))?", text, re.MULTILINE):
        assert word in COMMANDS, word
        if word == "rules":
            assert after in RULES_COMMANDS, after


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"Watchdog", "NodeMassOutage"}))
def test_the_silence_is_for_this_alert_and_ends(name: str) -> None:
    silence = _sections(name)["Silence"]
    assert f"silence add alertname={name} " in silence
    assert "--duration=" in silence
    assert "--comment=" in silence
