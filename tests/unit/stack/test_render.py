"""The settings that a stack writes: places, ports, labels, and a credential only its owner reads."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml

from fleetmedic.stack.plan import StackOptions, StackPlan, decide
from fleetmedic.stack.render import alertmanager, ensure_token, prometheus, remediator, rules
from fleetmedic.stack.services import services
from remediator.settings import load_settings


@pytest.fixture
def plan(tmp_path: Path) -> StackPlan:
    return decide(StackOptions(state_dir=tmp_path, port_base=19090, factor=30), gpus_found=False)


def test_the_token_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "webhook.token"
    ensure_token(path)
    first = path.read_text()
    assert len(first.strip()) >= 32
    path.chmod(0o644)
    ensure_token(path)
    assert path.read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_cluster_and_node_come_from_the_scrape_configuration(plan: StackPlan) -> None:
    jobs = {job["job_name"]: job["static_configs"] for job in prometheus(plan)["scrape_configs"]}
    assert set(jobs) == {"node", "remediator", "rules", "prometheus", "alertmanager", "service"}
    assert jobs["node"][1] == {
        "targets": ["127.0.0.1:19411"],
        "labels": {"cluster": "local", "node": "node2"},
    }
    assert jobs["service"][0]["targets"] == ["127.0.0.1:19097"]
    assert prometheus(plan)["global"]["scrape_interval"] == "5s"


def test_the_factor_reaches_detectors_and_remediation(plan: StackPlan) -> None:
    assert rules(plan, Path("/bin/promtool"))["factor"] == 30
    assert rules(plan, Path("/bin/promtool"))["promtool"] == "/bin/promtool"
    assert remediator(plan)["timing"]["factor"] == 30


def test_only_a_simulated_cluster_has_a_hardware_folder(tmp_path: Path) -> None:
    real = decide(StackOptions(state_dir=tmp_path), gpus_found=True)
    assert "hardware_dir" not in remediator(real)["cluster"]["local"]
    assert remediator(real)["level"] == "observe"


def test_our_settings_for_prometheus_point_at_one_another(plan: StackPlan) -> None:
    settings = remediator(plan)
    assert settings["prometheus_url"] == "http://127.0.0.1:19090"
    assert settings["alertmanager_url"] == "http://127.0.0.1:19093"
    assert rules(plan, None)["runbook_base"] == "http://127.0.0.1:19095/runbooks"


def test_the_scrape_interval_is_the_callers(tmp_path: Path) -> None:
    plan = decide(StackOptions(state_dir=tmp_path, scrape=2.5), gpus_found=False)
    assert prometheus(plan)["global"] == {
        "scrape_interval": "2s500ms", "scrape_timeout": "2s", "evaluation_interval": "15s",
    }  # fmt: skip


def test_alertmanager_and_the_remediator_get_the_same_notifications(tmp_path: Path) -> None:
    file = tmp_path / "notifications.yml"
    file.write_text("maintenance: [{name: rack, match: {node: node2}, windows: [{}]}]")
    plan = decide(StackOptions(tmp_path, notifications=str(file)), gpus_found=False)
    assert remediator(plan)["notify"] == {"file": str(file)}
    written = yaml.safe_load(alertmanager("http://r", plan.token_file, plan.notifications))
    assert [one["name"] for one in written["time_intervals"]] == ["maintenance-rack"]


def test_without_notifications_the_remediator_has_no_file(plan: StackPlan) -> None:
    assert "notify" not in remediator(plan)
    assert "time_intervals" not in yaml.safe_load(alertmanager("http://r", plan.token_file))


def test_the_remediator_accepts_its_settings(plan: StackPlan, tmp_path: Path) -> None:
    file = tmp_path / "remediator.yml"
    file.write_text(yaml.safe_dump(remediator(plan)))
    assert load_settings(file).alertmanager_settle == 15


def test_alertmanager_settles_for_at_least_twice_the_resend_delay(
    plan: StackPlan, tmp_path: Path
) -> None:
    command = services(plan, lambda name: [name])[0].command
    (delay,) = (word for word in command if word.startswith("--rules.alert.resend-delay="))
    seconds = int(re.sub(r"\D", "", delay))
    assert int(remediator(plan)["timing"]["alertmanager_settle"].removesuffix("s")) >= 2 * seconds
