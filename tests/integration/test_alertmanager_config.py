"""The rendered Alertmanager configuration: accepted by amtool, and each route where it should be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from fleetmedic.kernel.share import share
from fleetmedic.stack.render import alertmanager

pytestmark = pytest.mark.integration
CASES = yaml.safe_load((share("alertmanager") / "routes_test.yml").read_text())["routes"]


@pytest.fixture(params=["amtool", "amtool-0.33"])
def amtool(request: pytest.FixtureRequest, parts: dict[str, Path]) -> Path:
    return parts[request.param]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    token = tmp_path / "token"
    token.write_text("secret\n")
    path = tmp_path / "alertmanager.yml"
    path.write_text(alertmanager("http://127.0.0.1:9", token))
    return path


def _amtool(amtool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(amtool), *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_amtool_accepts_the_configuration_and_its_templates(amtool: Path, config: Path) -> None:
    said = _amtool(amtool, "check-config", str(config))
    assert said.returncode == 0, said.stderr
    assert "1 templates" in said.stdout
    assert "3 inhibit rules" in said.stdout


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_alert_takes_its_route(amtool: Path, config: Path, case: dict[str, object]) -> None:
    labels, receivers = case["labels"], case["receivers"]
    assert isinstance(labels, dict)
    assert isinstance(receivers, list)
    said = _amtool(
        amtool, "config", "routes", "test", f"--config.file={config}",
        f"--verify.receivers={','.join(receivers)}", *(f"{k}={v}" for k, v in labels.items()),
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_route_of_the_tree_has_a_case(config: Path) -> None:
    """Reaching the last receiver of each child route is what the cases above are for."""
    tree = yaml.safe_load(config.read_text())["route"]
    reached = {name for case in CASES for name in case["receivers"]}
    assert reached == {child["receiver"] for child in tree["routes"]} | {tree["receiver"]}


def test_the_notification_template_names_gpu_runbook_and_playbook(
    amtool: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.json"
    data.write_text(
        '{"status": "firing", "commonLabels": {"alertname": "GpuLost", "node": "node1", "gpu": "3"},'
        '"alerts": [{"status": "firing", "annotations": {"summary": "GPU 3 of node1 is lost.",'
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
    assert text.stdout.split("\n")[:3] == [
        "GPU 3 of node1 is lost. It is gone.",
        "Runbook: http://x/runbooks/GpuLost",
        "fleetmedic acts by the playbook gpu-lost.",
    ]
