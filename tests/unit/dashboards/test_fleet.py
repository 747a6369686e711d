"""The committed dashboard is what its generator writes, and what it asks for exists."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from exporter.catalogue import catalogue
from rules import promql

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "dashboards" / "fleet.json"
DASHBOARD: dict[str, Any] = json.loads(COMMITTED.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
UNITS = {"short", "percentunit", "celsius", "watt", "s", "bytes", "hertz", "ops", "reqps"}
SCRAPE_LABELS = {"cluster", "node", "job", "instance"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _selectors(expression: str) -> list[Any]:
    tree = promql.parse(re.sub(r"\$__\w+", "5m", expression))
    return [node for node in promql.walk(tree) if isinstance(node, promql_parser.VectorSelector)]


def _queries() -> list[tuple[str, str]]:
    found = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    found += [(note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"]]
    return found


def test_the_generator_writes_what_is_committed() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "dashboards" / "src" / "fleet.py"), "--stdout"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == COMMITTED.read_text(), "run `python dashboards/src/fleet.py`"


def test_a_reader_sees_the_fleet_the_incidents_and_the_watchers() -> None:
    titles = {panel["title"] for panel in PANELS}
    assert titles >= {
        "GPUs by state", "GPUs missing", "Out of service", "Utilization by node",
        "SM clock against its peers", "Temperature", "Incidents by state", "Actions", "Queue",
        "Replicas", "Scrape freshness", "Simulated",
    }  # fmt: skip


def test_every_panel_has_an_id_of_its_own_and_the_data_source_of_the_variable() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    for panel in PANELS:
        assert panel["datasource"] == DATASOURCE, panel["title"]
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    assert all(note["datasource"] == DATASOURCE for note in DASHBOARD["annotations"]["list"])


def test_the_data_source_can_be_chosen_and_nothing_names_one() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "cluster", "node"]
    assert variables["datasource"]["type"] == "datasource"


def test_every_panel_has_a_unit_and_says_what_it_shows() -> None:
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_panels_lie_within_the_grid_and_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, two in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= two["x"]
            or two["x"] + two["w"] <= one["x"]
            or one["y"] + one["h"] <= two["y"]
            or two["y"] + two["h"] <= one["y"]
        )
        assert apart, (one, two)


@pytest.mark.parametrize(("title", "expression"), _queries())
def test_a_query_parses_and_asks_for_what_the_catalogue_knows(title: str, expression: str) -> None:
    selectors = _selectors(expression)
    assert selectors, title
    for selector in selectors:
        family = catalogue().of_series(selector.name)
        assert family, f"{title}: nobody exports {selector.name}"
        for matcher in selector.matchers.matchers:
            allowed = {*family.labels, *SCRAPE_LABELS}
            assert matcher.name in allowed, f"{title}: {selector.name} has no label {matcher.name}"


@pytest.mark.parametrize(("title", "expression"), _queries())
def test_a_counter_is_only_read_through_its_change(title: str, expression: str) -> None:
    for name in re.findall(r"\b\w+_total\b", expression):
        assert re.search(rf"(?:rate|increase|changes)\({name}", expression), title
