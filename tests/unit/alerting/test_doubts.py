"""What is valid in notifications.yml, but leaves people without notifications, is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.alerting.cli import alertmanager
from fleetmedic.alerting.doubts import doubts
from fleetmedic.alerting.settings import read
from tests.unit.alerting.test_settings import GOOD


def _doubts(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "notifications.yml"
    path.write_text(text)
    return list(doubts(read(path)))


def test_a_complete_file_has_none(tmp_path: Path) -> None:
    (unused,) = _doubts(tmp_path, GOOD)
    assert unused == "at $.channels.wecom: no team uses this channel."


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (GOOD, "", "at $.teams: no team is configured"),
        (
            "critical: [mail, chat]",
            "critical: []",
            "$.teams[1].critical: team ops has no channel, so nobody",
        ),
        ("critical: [mail], ", "", "$.teams[0].critical: team net has no channel"),
        (
            "template: dingtalk",
            "template: /nope.j2",
            "$.channels.ding.template: '/nope.j2' is neither",
        ),
        (
            "template: dingtalk",
            "template: dingtalc",
            "$.channels.ding.template: 'dingtalc' is neither",
        ),
    ],
)
def test_each_doubt_names_its_place(tmp_path: Path, good: str, bad: str, said: str) -> None:
    found = _doubts(tmp_path, GOOD.replace(good, bad))
    assert any(said in one for one in found), found


def test_render_warns_and_still_renders(tmp_path: Path) -> None:
    path = tmp_path / "notifications.yml"
    path.write_text("")
    done = CliRunner().invoke(
        alertmanager, ["render", "--notifications", str(path), "--for", "9.9"]
    )
    assert done.exit_code == 0
    assert f"warning: {path}: at $.teams: no team is configured" in done.stderr
    assert "warning: --for 9.9: the newest tested version of Alertmanager is 0.33" in done.stderr
    assert "route:" in done.stdout
    quiet = CliRunner().invoke(alertmanager, ["render", "--for", "0.33"])
    assert quiet.stderr == ""
