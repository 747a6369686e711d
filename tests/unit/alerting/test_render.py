"""alertmanager.yml: routes, receivers and what stays out of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleetmedic.alerting import render as renderer
from fleetmedic.alerting.cli import alertmanager as command
from fleetmedic.alerting.render import RenderContext, inhibition_pairs, parse_version, render
from fleetmedic.alerting.settings import Maintenance, Notifications, Window, read
from fleetmedic.kernel.errors import UserError
from rules import promql, rulefile
from rules.lint import records
from rules.render import shipped, sources
from rules.series_labels import labels_of_query
from tests.unit.alerting.test_settings import GOOD

ALERTS = {r.name: r for path in sources() for r in rulefile.read(path).rules() if r.is_alert}
PLACE = RenderContext("http://127.0.0.1:9095/", "/s/token", "/etc/alertmanager/templates")


@pytest.fixture
def given(tmp_path: Path) -> Notifications:
    path = tmp_path / "notifications.yml"
    path.write_text(
        GOOD.replace("teams:", "  desk: {kind: teams, url_file: /s/teams}\nteams:").replace(
            "info: [ding]", "info: [ding, wecom, desk]"
        )
    )
    return read(path)


def _config(given: Notifications | None, version: tuple[int, int] = (0, 25)) -> dict[str, Any]:
    place = RenderContext(PLACE.remediator_url, PLACE.token_file, PLACE.template_dir, version)
    return yaml.safe_load(render(place, given))


def _receivers(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {receiver["name"]: receiver for receiver in config["receivers"]}


def test_the_same_input_gives_the_same_bytes(given: Notifications) -> None:
    assert render(PLACE, given) == render(PLACE, given)


def test_without_a_file_the_remediator_alone_is_told() -> None:
    told = [r for r in _config(None)["receivers"] if len(r) > 1]
    assert [receiver["name"] for receiver in told] == ["remediator"]
    (webhook,) = told[0]["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:9095/api/v1/alerts"
    assert webhook["http_config"]["authorization"]["credentials_file"] == "/s/token"


def test_teams_are_asked_in_their_order_and_the_last_takes_what_is_left(
    given: Notifications,
) -> None:
    routes = _config(given)["route"]["routes"]
    people = [r["receiver"] for r in routes if r["receiver"].startswith(("net-", "ops-"))]
    assert people[:1] == ["ops-warning"]  # maintenance, whose own routes are below it
    assert people[1:] == [
        "net-critical", "net-critical", "net-info", "net-warning",
        "ops-critical", "ops-critical", "ops-info", "ops-warning",
    ]  # fmt: skip
    assert routes[-1]["matchers"] == []


def test_critical_alerts_wait_for_nothing_and_the_others_for_the_quiet_to_end(
    given: Notifications,
) -> None:
    for route in _config(given)["route"]["routes"]:
        if route["receiver"].endswith("-critical"):
            assert "mute_time_intervals" not in route
            assert route["repeat_interval"] == "30m"
        elif route["receiver"].endswith(("-info", "-warning")) and "routes" not in route:
            assert route["mute_time_intervals"] == ["quiet"]


def test_an_alert_of_two_maintenances_is_muted_by_either() -> None:
    always = (Window(),)
    given = Notifications(
        maintenance=(
            Maintenance("rack", {"node": "a"}, always),
            Maintenance("job", {"job_id": "7"}, always),
        )
    )
    both, rack, job = (r for r in _config(given)["route"]["routes"] if "mute_time_intervals" in r)
    assert both["matchers"] == ['node=~"a"', 'job_id=~"7"']
    for route in (both, *both["routes"]):
        assert route["mute_time_intervals"] == ["maintenance-rack", "maintenance-job"]
    assert rack["mute_time_intervals"] == ["maintenance-rack"]
    assert job["mute_time_intervals"] == ["maintenance-job"]


def test_during_maintenance_nobody_hears_of_what_is_maintained(given: Notifications) -> None:
    config = _config(given)
    (window,) = [r for r in config["route"]["routes"] if "routes" in r]
    assert window["matchers"] == ['node=~"gpu-12-.*"']
    for route in window["routes"]:
        assert "maintenance-rack-12" in route["mute_time_intervals"]
    assert {r["receiver"] for r in window["routes"]} >= {"remediator", "ops-critical"}
    named = {interval["name"] for interval in config["time_intervals"]}
    assert named == {"quiet", "maintenance-rack-12"}


def test_the_dead_mans_switch_goes_outside_first_and_to_the_remediator_too(
    given: Notifications,
) -> None:
    first, second = _config(given)["route"]["routes"][:2]
    assert (first["receiver"], first["continue"], first["repeat_interval"]) == (
        "dead-man",
        True,
        "2m",
    )
    assert second["receiver"] == "remediator"


def test_what_an_alertmanager_cannot_send_the_remediator_sends(given: Notifications) -> None:
    old, new = _receivers(_config(given)), _receivers(_config(given, (0, 33)))
    paths = [w["url"].rpartition("/notify/")[2] for w in old["ops-info"]["webhook_configs"]]
    assert paths == ["ding", "wecom", "desk"]
    assert [w["url"][-4:] for w in new["ops-info"]["webhook_configs"]] == ["ding"]
    assert new["ops-info"]["msteamsv2_configs"][0]["webhook_url_file"] == "/s/teams"
    assert new["ops-info"]["wechat_configs"][0]["api_secret_file"] == "/s/w"


def test_an_end_that_nobody_wants_to_hear_of_is_not_sent(given: Notifications) -> None:
    (chat,) = _receivers(_config(given))["net-warning"]["slack_configs"]
    assert chat["send_resolved"] is False


def test_a_hostile_expression_stays_a_matcher(tmp_path: Path) -> None:
    path = tmp_path / "n.yml"
    path.write_text("teams:\n- {name: a, match: {node: 'x\"}]\\n- evil: \\d+'}}\n- {name: b}\n")
    routes = _config(read(path))["route"]["routes"]
    matchers = next(r["matchers"] for r in routes if r["receiver"] == "a-critical")
    assert matchers[0] == 'node=~"x\\"}]\\\\n- evil: \\\\d+"'


def test_pairs_of_critical_and_lesser_alerts_exist_and_share_their_labels() -> None:
    known = records(shipped())
    for pair in inhibition_pairs():
        for name in (pair.critical, *pair.lesser):
            assert name in ALERTS, name
            # a label that neither alert had would be equal on both, whatever they are about
            assert (
                set(pair.equal) <= labels_of_query(promql.parse(ALERTS[name].expr), known).sure
            ), name
        assert ALERTS[pair.critical].labels["severity"] == "critical", pair.critical


@pytest.mark.parametrize("text", ["0.25", "0.25.0+ds1", "v0.33.1", "0.34"])
def test_versions_are_read(text: str) -> None:
    assert parse_version(text) >= renderer.OLDEST


@pytest.mark.parametrize("text", ["", "new", "0.24.0", "0"])
def test_a_version_that_will_not_do_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="Alertmanager"):
        parse_version(text)


def test_the_command_writes_or_prints(tmp_path: Path) -> None:
    out = tmp_path / "alertmanager.yml"
    said = CliRunner().invoke(command, ["render", "--out", str(out), "--token-file", "/s/token"])
    assert said.exit_code == 0, said.output
    printed = CliRunner().invoke(command, ["render", "--token-file", "/s/token"])
    assert printed.stdout == out.read_text()
    link = tmp_path / "link.yml"
    link.symlink_to(out)
    out.write_text("")
    CliRunner().invoke(command, ["render", "--out", str(link), "--token-file", "/s/token"])
    assert (link.is_symlink(), out.read_text()) == (True, printed.stdout)
    for url in ("here", "http://h:99999", "http://h?a=b", "http://u:p@h"):
        refused = CliRunner().invoke(command, ["render", "--remediator", url])
        assert isinstance(refused.exception, UserError)
        assert str(refused.exception).startswith("--remediator: expected a URL")
