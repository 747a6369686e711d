"""The committed dashboards match their generator, and every metric that they query exists."""

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
from rules.render import shipped

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = {path.stem: path for path in sorted((ROOT / "dashboards").glob("*.json"))}
BOARDS: dict[str, dict[str, Any]] = {
    name: json.loads(path.read_text()) for name, path in COMMITTED.items()
}
PANELS: list[tuple[str, dict[str, Any]]] = [
    (name, panel)
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
# Grafana's names of units. The dashboard pages of the remediator support the same units.
UNITS = {"short", "none", "percentunit", "celsius", "watt", "s", "bytes", "hertz", "reqps", "Bps"}
TYPES = {"timeseries", "stat", "gauge", "table", "state-timeline"}
SCRAPE_LABELS = {"cluster", "node", "job", "instance"}
# Labels of alerts. The metric ALERTS has them in addition to its own labels.
ALERT_LABELS = {"source", "category", "gpu", "uuid", "job_id"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RECORDED = {rule.name for file in shipped() for rule in file.rules() if not rule.is_alert}
NUMBERS = {
    rule.name: {
        node.val
        for node in promql.walk(promql.parse(rule.expr))
        if isinstance(node, promql_parser.NumberLiteral)
    }
    for file in shipped()
    for rule in file.rules()
    if rule.is_alert
}


def _shown(expression: str) -> str:
    return re.sub(r"\$__\w+", "5m", expression)


def _queries() -> list[tuple[str, str]]:
    found = [
        (f"{name}: {panel['title']}", target["expr"])
        for name, panel in PANELS
        for target in panel["targets"]
    ]
    found += [
        (f"{name}: {note['name']}", note["expr"])
        for name, board in BOARDS.items()
        for note in board["annotations"]["list"]
    ]
    return found


def _src() -> dict[str, Any]:
    """The Board of each dashboard, by name."""
    sys.path.insert(0, str(ROOT / "dashboards" / "src"))
    try:
        import importlib

        return {name: importlib.import_module(name).BOARD for name in COMMITTED}
    finally:
        sys.path.pop(0)


def test_the_generator_writes_what_is_committed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "dashboards" / "src"), str(tmp_path)], check=True)
    written = {path.stem: path.read_text() for path in tmp_path.glob("*.json")}
    committed = {name: path.read_text() for name, path in COMMITTED.items()}
    assert written == committed, "run `python dashboards/src`"


@pytest.mark.parametrize(
    "metric", ["gpu:sm_clock_peer_z", "training_loss{", "1 - service:inference_errors"]
)
def test_the_axis_of_values_that_can_be_negative_does_not_end_at_zero(metric: str) -> None:
    found = [p for _, p in PANELS if any(metric in t.get("expr", "") for t in p.get("targets", ()))]
    assert found
    assert [p["title"] for p in found if "min" in p["fieldConfig"]["defaults"]] == []


def test_each_question_of_an_operator_has_its_dashboard() -> None:
    assert set(BOARDS) == {
        "anomalies", "fleet", "gpu", "job", "meta", "node", "remediation", "service",
    }  # fmt: skip
    assert {board["uid"] for board in BOARDS.values()} == {f"fleetmedic-{name}" for name in BOARDS}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_ids_of_their_own_and_the_data_source_of_the_variable(name: str) -> None:
    board = BOARDS[name]
    ids = [panel["id"] for panel in board["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    assert board["templating"]["list"][0]["type"] == "datasource"
    for panel in (panel for owner, panel in PANELS if owner == name):
        assert panel["datasource"] == DATASOURCE, panel["title"]
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    assert all(note["datasource"] == DATASOURCE for note in board["annotations"]["list"])
    for variable in board["templating"]["list"][1:]:
        assert variable["datasource"] == DATASOURCE, variable["name"]


@pytest.mark.parametrize("name", BOARDS)
def test_titles_are_told_apart_and_every_variable_narrows_something(name: str) -> None:
    titles = [panel["title"] for owner, panel in PANELS if owner == name]
    assert len(titles) == len(set(titles)), sorted(titles)
    asked = " ".join(t["expr"] for owner, p in PANELS if owner == name for t in p["targets"])
    for variable in BOARDS[name]["templating"]["list"][1:]:
        assert f"${variable['name']}" in asked, variable["name"]
    known = {variable["name"] for variable in BOARDS[name]["templating"]["list"]}
    assert set(re.findall(r"\$([a-z]\w*)", asked)) <= known


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{n}-{p['id']}" for n, p in PANELS])
def test_a_panel_has_a_unit_and_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert panel["type"] in TYPES, name
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
    assert panel["description"].endswith("."), panel["title"]
    assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_within_the_grid_and_do_not_overlap(name: str) -> None:
    places = [panel["gridPos"] for panel in BOARDS[name]["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, two in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= two["x"]
            or two["x"] + two["w"] <= one["x"]
            or one["y"] + one["h"] <= two["y"]
            or two["y"] + two["h"] <= one["y"]
        )
        assert apart, (one, two)


def test_links_lead_to_dashboards_that_exist_and_carry_variables_and_time() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    for name, board in BOARDS.items():
        links = board["links"] + [
            link for owner, panel in PANELS if owner == name for link in panel.get("links", [])
        ]
        assert {f"/d/{uid}" for uid in uids - {board["uid"]}} <= {link["url"] for link in links}
        for link in links:
            assert link["url"].removeprefix("/d/") in uids, link
            assert link["includeVars"], link
            assert link["keepTime"], link


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_a_threshold_is_that_of_the_alert_it_is_said_to_be_of() -> None:
    compared = 0
    for name, board in _src().items():
        for panel in (panel for row in board.rows for panel in row.panels if panel.alert):
            assert panel.bad_from in NUMBERS[panel.alert], f"{name}: {panel.title}"
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize(("title", "expression"), _queries())
def test_a_query_parses_and_asks_for_what_the_catalogue_knows(title: str, expression: str) -> None:
    tree = promql.parse(_shown(expression))
    selectors = [n for n in promql.walk(tree) if isinstance(n, promql_parser.VectorSelector)]
    assert selectors, title
    for selector in selectors:
        if selector.name in RECORDED:
            continue
        family = catalogue().of_series(selector.name)
        assert family, f"{title}: {selector.name} is not in the catalogue"
        allowed = {
            *family.labels,
            *SCRAPE_LABELS,
            *(ALERT_LABELS if family.name == "ALERTS" else ()),
        }
        for matcher in selector.matchers.matchers:
            assert matcher.name in allowed, f"{title}: {selector.name} has no label {matcher.name}"


@pytest.mark.parametrize(("title", "expression"), _queries())
def test_a_counter_is_only_read_through_its_change(title: str, expression: str) -> None:
    for name in re.findall(r"\b\w+_total\b", expression):
        read = re.search(rf"(?:rate|increase|max_over_time)\({name}", expression)
        assert read, title
