"""Rendering: one factor, one runbook base, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from rules import promql, rulefile
from rules.render import RUNBOOK_BASE, RUNBOOK_URL, render, scaled_file, sources

BASE = "https://wiki.example.org/books/"


def _rules(paths: tuple[Path, ...]) -> dict[str, rulefile.Rule]:
    return {rule.name: rule for path in paths for rule in rulefile.read(path).rules()}


def test_with_factor_one_only_the_runbook_base_changes(tmp_path: Path) -> None:
    written = _rules(render(tmp_path, factor=1, runbook_base=BASE))
    for name, source in _rules(sources()).items():
        plain, expected = written[name].plain(), source.plain()
        if source.is_alert:
            url = plain["annotations"].pop(RUNBOOK_URL)
            expected["annotations"].pop(RUNBOOK_URL)
            assert url == f"https://wiki.example.org/books/{name}"
        assert plain == expected


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = render(tmp_path / "a", factor=30, runbook_base=BASE)
    second = render(tmp_path / "b", factor=30, runbook_base=BASE)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.relative_to(tmp_path / "a") for p in first] == [
        p.relative_to(tmp_path / "b") for p in second
    ]


def test_the_header_says_from_what_and_with_which_factor(tmp_path: Path) -> None:
    path = next(p for p in render(tmp_path, factor=30, runbook_base=BASE) if p.name == "gpu.yml")
    head = path.read_text().splitlines()[0]
    assert head.startswith("# Generated")
    assert "rules/static/gpu.yml" in head
    assert "30" in head


def test_waits_are_divided_and_keep_one_scrape(tmp_path: Path) -> None:
    written = _rules(render(tmp_path, factor=30, runbook_base=BASE, scrape_interval=5))
    for name, source in _rules(sources()).items():
        rule = written[name]
        assert (bool(rule.wait), bool(rule.keep)) == (bool(source.wait), bool(source.keep))
        if source.wait:
            wanted = max(parse_duration(source.wait) / 30, 5)
            assert parse_duration(rule.wait) == pytest.approx(wanted, abs=1e-3)
        if source.keep:
            assert parse_duration(rule.keep) == pytest.approx(parse_duration(source.keep) / 30)


def test_ranges_keep_four_scrapes(tmp_path: Path) -> None:
    for rule in _rules(render(tmp_path, factor=30, runbook_base=BASE, scrape_interval=5)).values():
        ranges = [token for token in promql.tokens(rule.expr) if token.kind == "duration"]
        assert all(parse_duration(token.text) >= 20 for token in ranges)


def test_group_intervals_do_not_fall_below_a_second(tmp_path: Path) -> None:
    for path in render(tmp_path, factor=500, runbook_base=BASE):
        assert {group.interval for group in rulefile.read(path).groups} == {"1s"}


def test_a_shorter_interval_than_a_second_is_left_alone() -> None:
    file = rulefile.parse(
        "groups: [{name: g, interval: 500ms, rules: [{record: 'a:b', expr: up}]}]", Path("x.yml")
    )
    assert scaled_file(file, factor=30, runbook_base=BASE).groups[0].interval == "500ms"


@pytest.mark.parametrize("factor", [0, 0.5, -1, float("nan"), float("inf"), 1e9])
def test_a_factor_that_makes_no_sense_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(UserError, match="--factor"):
        render(tmp_path, factor=factor, runbook_base=BASE)


def test_a_runbook_base_that_is_no_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--runbook-base"):
        render(tmp_path, factor=1, runbook_base="wiki")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "static").write_text("a file in the way")
    with pytest.raises(UserError, match="static"):
        render(tmp_path, factor=1, runbook_base=BASE)


def test_the_default_base_is_what_the_sources_say() -> None:
    urls = {rule.annotations[RUNBOOK_URL] for rule in _rules(sources()).values() if rule.is_alert}
    assert all(url.startswith(f"{RUNBOOK_BASE}/") for url in urls)
