"""promtool's own word on the rules, shipped and rendered, and on the strength of their tests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rules import mutate
from rules.render import Links, RenderParameters, render, sources

pytestmark = pytest.mark.integration
TESTS = sorted(mutate.TESTS.glob("*.yml"))
# The releases that users run: since 3.0 the start of a range does not belong to it.
each_release = pytest.mark.parametrize("promtool", ["promtool", "promtool-2.53", "promtool-3"])


def _promtool(promtool: Path, *arguments: str) -> None:
    said = subprocess.run(
        [str(promtool), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr


@each_release
def test_the_shipped_rules_are_accepted(parts: dict[str, Path], promtool: str) -> None:
    _promtool(parts[promtool], "check", "rules", *map(str, sources()))


@each_release
@pytest.mark.parametrize("factor", [1, 7.3, 30, 10_000])
def test_rendered_rules_are_accepted(
    parts: dict[str, Path], tmp_path: Path, factor: float, promtool: str
) -> None:
    paths = render(tmp_path, RenderParameters(factor, Links("http://127.0.0.1:1/runbooks")))
    _promtool(parts[promtool], "check", "rules", *map(str, paths))


# One file a call: promtool keeps the storage of every test of a call, 14 GB for all files together.
@each_release
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_every_alert_fires_when_it_should_and_is_silent_when_it_should_be(
    parts: dict[str, Path], promtool: str, file: Path
) -> None:
    _promtool(parts[promtool], "test", "rules", str(file))


def test_a_rule_made_slightly_wrong_is_noticed(
    parts: dict[str, Path], record_property: Callable[[str, object], None]
) -> None:
    at = time.monotonic()
    outcomes = mutate.run(parts["promtool"], jobs=2)
    took = time.monotonic() - at
    assert [f"{o.alert}: {o.what}" for o in outcomes if not o.passed] == []
    assert mutate.unknown_survivors(outcomes) == []
    assert len(outcomes) >= 180
    record_property(
        "mutations", f"{len(outcomes)} in {took:.0f} s"
    )  # how long depends on who else works
