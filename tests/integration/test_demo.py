"""The whole loop on real processes: what a newcomer watches, and that it fails when the loop is cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

FLEETMEDIC = [sys.executable, "-m", "fleetmedic.cli"]
HEALED = ("visible in metrics", "alert", "webhook", "GPU quarantined", "job restarted", "job resumed",
          "GPU reset", "repair verified", "GPU back in service", "incident closed")  # fmt: skip


def run_demo(state: Path, port_base: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        *FLEETMEDIC,
        "demo",
        "--state-dir",
        str(state),
        "--port-base",
        str(port_base),
        *options,
    ]
    env = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=330, env=env, check=False
    )


def test_every_step_from_fault_to_readmission_is_seen_and_cited(
    parts: dict[str, Path], new_port_base: Callable[[], int], tmp_path: Path
) -> None:
    ended = run_demo(
        tmp_path / "state", new_port_base(), "--seed", "3", "--timeline", str(tmp_path / "t.json")
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    body = json.loads((tmp_path / "t.json").read_text())
    assert all(check["kept"] for check in body["checks"])
    for story in ("GPU falls off the bus", "GPU slower than its peers"):
        rows = {row["what"]: row for row in body["rows"] if row["story"] == story}
        seen = sorted((what for what in rows if what in HEALED), key=lambda what: rows[what]["at"])
        assert set(seen) == set(HEALED)
        for earlier, later in (("webhook", "GPU quarantined"), ("GPU quarantined", "job restarted"),
                               ("GPU reset", "repair verified"), ("repair verified", "GPU back in service")):  # fmt: skip
            assert rows[earlier]["at"] <= rows[later]["at"]
    assert all(row["source"] for row in body["rows"])
    assert body["totals"]["total_seconds"] <= 300
    assert "checks passed" in ended.stdout.splitlines()[-1]


def test_without_the_remediator_the_demo_fails_and_names_what_is_missing(
    parts: dict[str, Path], new_port_base: Callable[[], int], tmp_path: Path
) -> None:
    ended = run_demo(
        tmp_path / "state",
        new_port_base(),
        "--seed",
        "3",
        "--stop",
        "remediator",
        "--timeout",
        "20",
    )
    assert ended.returncode == 1, ended.stdout[-6000:] + ended.stderr[-2000:]
    missing = [line for line in ended.stdout.splitlines() if line.startswith("FAIL")]
    assert any("GPU falls off the bus: webhook" in line and ".log" in line for line in missing)
