"""The wheel in an empty venv, in another folder: `fleetmedic up` becomes healthy there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetmedic.kernel.home import StackFile
from fleetmedic.stack.fetch import parts_dir, unpacked
from fleetmedic.stack.health import health_problem
from fleetmedic.stack.ports import is_free, layout

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=400, check=False,
    )  # fmt: skip


def without_network(why: str) -> None:
    if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
        pytest.fail(why)
    pytest.skip(f"a wheel cannot be installed in an empty venv here: {why}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    if done.returncode:
        without_network((done.stdout + done.stderr).strip()[-300:])
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_what_the_processes_need_and_only_our_four_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "fleetmedic/_share/alertmanager/alertmanager.yml.j2",
        "fleetmedic/_share/docs/runbooks/GpuLost.md",
        "fleetmedic/_share/dashboards/fleet.json",
        "remediator/dashboards/static/board.js",
        "remediator/dashboards/templates/board.html",
        "rules/static/gpu.yml",
        "exporter/catalogue.yml",
        "fleetmedic/py.typed",
    ):
        assert needed in names
    assert any(name.startswith("remediator/playbooks/") and name.endswith(".yml") for name in names)
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"fleetmedic", "exporter", "rules", "remediator"}
    assert not [name for name in names if "tests" in name or name.endswith(".pyc")]


def test_up_becomes_healthy_from_the_wheel_alone(
    wheel: Path, tmp_path: Path, parts: dict[str, Path], new_port_base: Callable[[], int]
) -> None:
    for name in ("prometheus", "promtool", "alertmanager"):
        assert parts[name]
    began = time.monotonic()
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    done = run(
        python, "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}[all]", cwd=tmp_path,
        PIP_ROOT_USER_ACTION="ignore", PIP_DISABLE_PIP_VERSION_CHECK="1",
    )  # fmt: skip
    if done.returncode:
        without_network(done.stderr.strip()[-300:])
    print(f"installed in {time.monotonic() - began:.0f} s")

    home = tmp_path / "home"
    home.mkdir()
    if unpacked():
        (home / "parts").symlink_to(parts_dir())
    nodes = ["node1", "node2", "node3", "node4"]
    base = new_port_base()
    program = tmp_path / "venv/bin/fleetmedic"
    mine = {"FLEETMEDIC_HOME": str(home), "FLEETMEDIC_STATE_DIR": "", "PYTHONPATH": ""}
    where = ["--port-base", str(base)]
    up = run(program, "up", "--detach", *where, cwd=tmp_path, **mine)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        urls = StackFile.read(home / f"stack-{base}").urls
        pages = [f"{url}/" for url in urls.values()]
        pages += [f"{urls['prometheus']}/", f"{urls['remediator']}/runbooks/GpuLost"]
        assert {page: wrong for page in pages if (wrong := health_problem(page, 5.0))} == {}
        assert run(program, "up", "status", *where, cwd=tmp_path, **mine).returncode == 0
    finally:
        down = run(program, "up", "down", *where, cwd=tmp_path, **mine)
    assert down.returncode == 0, down.stderr
    assert all(is_free(port) for port in layout(base, nodes).values())
