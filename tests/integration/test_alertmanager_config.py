"""The rendered Alertmanager configuration: accepted by amtool, and each route where it should be."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from fleetmedic.alerting.render import RenderContext, render
from fleetmedic.alerting.settings import read
from fleetmedic.kernel.share import share
from fleetmedic.stack.render import alertmanager

pytestmark = pytest.mark.integration
FILE = yaml.safe_load((share("alertmanager") / "routes_test.yml").read_text())
CASES = [("routes", case) for case in FILE["routes"]] + [("teams", case) for case in FILE["teams"]]
EXAMPLE = share("alertmanager") / "notifications.example.yml"


@pytest.fixture(params=["amtool", "amtool-0.33"])
def amtool(request: pytest.FixtureRequest, parts: dict[str, Path]) -> Path:
    return parts[request.param]


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, Path]:
    """The configuration without teams, and with those of the example, for both versions."""
    token = tmp_path / "token"
    token.write_text("secret\n")
    place = RenderContext(
        "http://127.0.0.1:9", str(token), str(share("alertmanager") / "templates")
    )
    texts = {
        "routes": alertmanager("http://127.0.0.1:9", token),
        "teams": render(place, read(EXAMPLE)),
        "teams-0.33": render(replace(place, version=(0, 33)), read(EXAMPLE)),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yml").write_text(text)
    return {name: tmp_path / f"{name}.yml" for name in texts}


def _amtool(amtool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(amtool), *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", ["routes", "teams"])
def test_amtool_accepts_the_configuration_and_its_templates(
    amtool: Path, configs: dict[str, Path], name: str
) -> None:
    said = _amtool(amtool, "check-config", str(configs[name]))
    assert said.returncode == 0, said.stderr
    assert "1 templates" in said.stdout


def test_the_later_amtool_accepts_what_is_written_for_it(
    parts: dict[str, Path], configs: dict[str, Path]
) -> None:
    said = _amtool(parts["amtool-0.33"], "check-config", str(configs["teams-0.33"]))
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}: {c['name']}" for n, c in CASES])
def test_each_alert_takes_its_route(
    amtool: Path, configs: dict[str, Path], name: str, case: dict[str, object]
) -> None:
    labels, receivers = case["labels"], case["receivers"]
    assert isinstance(labels, dict)
    assert isinstance(receivers, list)
    said = _amtool(
        amtool, "config", "routes", "test", f"--config.file={configs[name]}",
        f"--verify.receivers={','.join(receivers)}", *(f"{k}={v}" for k, v in labels.items()),
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("name", ["routes", "teams"])
def test_every_receiver_of_the_tree_is_reached_by_a_case(
    configs: dict[str, Path], name: str
) -> None:
    config = yaml.safe_load(configs[name].read_text())
    reached = {receiver for file, case in CASES if file == name for receiver in case["receivers"]}
    assert reached == {receiver["name"] for receiver in config["receivers"]}


def test_the_notification_template_names_gpu_runbook_and_playbook(
    amtool: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.json"
    data.write_text(
        '{"status": "firing", "commonLabels": {"alertname": "GpuLost", "node": "node1", "gpu": "3"},'
        '"alerts": [{"status": "firing", "startsAt": "2026-01-02T03:04:05Z", "annotations": {"summary": "GPU 3 of node1 is lost.",'
        '"description": "It is gone.", "runbook_url": "http://x/runbooks/GpuLost",'
        '"playbook": "gpu-lost"}}]}'
    )
    glob = f"--template.glob={share('alertmanager')}/templates/*.tmpl"
    title, text = (
        _amtool(
            amtool, "template", "render", glob, f"--template.data={data}",
            f'--template.text={{{{ template "fleetmedic.{name}" . }}}}',
        )
        for name in ("title", "text")
    )  # fmt: skip
    assert title.stdout.strip() == "[FIRING 1] GpuLost on node1 GPU 3", title.stderr
    assert text.stdout.split("\n")[:4] == [
        "GPU 3 of node1 is lost.",
        "It is gone.",
        "Since 2026-01-02 03:04:05 UTC. Automatic action: playbook gpu-lost.",
        "Runbook: http://x/runbooks/GpuLost",
    ]
