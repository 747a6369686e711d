"""What Grafana is given: its provisioning by the keys that Grafana knows, and the dashboards as it takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
import yaml

from fleetmedic.kernel.settings import load

ROOT = Path(__file__).resolve().parents[3]
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
GRAFANA = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
BOARDS = {path.name: json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")}
MOUNTS = {
    PurePosixPath(there): (ROOT / here, mode)
    for here, there, mode in (
        (*one.split(":"), "rw")[:3] for one in GRAFANA["volumes"] if one.startswith("./")
    )
}


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Grafana passes over a key that it does not know, so that a slip of the pen stays unseen."""


class _PrometheusOptions(_Strict, frozen=True):
    """`jsonData` of a Prometheus data source, as far as it is ours."""

    httpMethod: Literal["POST", "GET"]
    timeInterval: str


class _Source(_Strict, frozen=True):
    name: str
    uid: str
    type: Literal["prometheus"]
    access: Literal["proxy"]
    url: str
    isDefault: bool
    editable: bool
    jsonData: _PrometheusOptions


class _Sources(_Strict, frozen=True):
    apiVersion: Literal[1]
    datasources: tuple[_Source, ...]


class _Options(_Strict, frozen=True):
    path: str


class _Provider(_Strict, frozen=True):
    name: str
    folder: str
    type: Literal["file"]
    disableDeletion: bool
    allowUiUpdates: bool
    updateIntervalSeconds: int
    options: _Options


class _Providers(_Strict, frozen=True):
    apiVersion: Literal[1]
    providers: tuple[_Provider, ...]


def _sources() -> tuple[_Source, ...]:
    return load(PROVISIONING / "datasources" / "prometheus.yml", _Sources).datasources


def _providers() -> tuple[_Provider, ...]:
    return load(PROVISIONING / "dashboards" / "fleetmedic.yml", _Providers).providers


def _here(path: str) -> Path:
    """The file of the checkout that a path in Grafana's container is."""
    there = PurePosixPath(path)
    mounted = next(mount for mount in (there, *there.parents) if mount in MOUNTS)
    return MOUNTS[mounted][0] / there.relative_to(mounted)


def test_the_one_data_source_is_the_prometheus_of_the_stack_and_nobody_edits_it_by_hand() -> None:
    (source,) = _sources()
    assert source.url == "http://prometheus:9090"
    assert (source.isDefault, source.editable) == (True, False)
    scrape = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())["global"]
    assert source.jsonData.timeInterval == scrape["scrape_interval"], "by which $__rate_interval is judged"  # fmt: skip


def test_every_dashboard_is_in_the_folder_that_is_provisioned_and_the_home_is_one_of_them() -> None:
    (provider,) = _providers()
    assert {path.name for path in _here(provider.options.path).glob("*.json")} == set(BOARDS)
    assert (provider.disableDeletion, provider.allowUiUpdates) == (True, False), "they are code"
    home = _here(GRAFANA["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert json.loads(home.read_text())["uid"] == "fleetmedic-fleet"


def test_what_is_mounted_from_the_checkout_is_read_only() -> None:
    assert {mode for _, mode in MOUNTS.values()} == {"ro"}
    assert PurePosixPath("/etc/grafana/provisioning") in MOUNTS


def test_each_dashboard_is_one_that_grafana_takes() -> None:
    """It refuses a second uid or title in a folder, an id of another database, and long uids."""
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 8
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        assert board.get("id") is None
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
        assert board["schemaVersion"] >= 36, "before, a data source was a name"
        assert not {"__inputs", "__requires"} & set(board), "those are of an export for sharing"


def test_every_query_asks_the_data_source_that_is_chosen_and_the_choice_begins_with_ours() -> None:
    def used(node: Any) -> set[tuple[str, str]]:
        if isinstance(node, list):
            return {each for item in node for each in used(item)}
        if not isinstance(node, dict):
            return set()
        own = node.get("datasource")
        found = {(own["type"], own["uid"])} if isinstance(own, dict) else set()
        return found | {each for item in node.values() for each in used(item)}

    for board in BOARDS.values():
        chosen = next(one for one in board["templating"]["list"] if one["type"] == "datasource")
        assert (chosen["name"], chosen["query"]) == ("datasource", "prometheus")
        assert used(board) <= {("prometheus", "${datasource}"), ("grafana", "-- Grafana --"), ("datasource", "grafana")}  # fmt: skip


def test_what_the_remediator_did_is_marked_on_every_dashboard_of_things_it_acts_on() -> None:
    for name in ("fleet", "gpu", "node", "job", "service", "remediation"):
        marks = [
            one
            for one in BOARDS[f"{name}.json"]["annotations"]["list"]
            if "remediator_" in str(one.get("expr", one.get("target", "")))
        ]
        assert marks, name
        assert all(mark["enable"] for mark in marks)
