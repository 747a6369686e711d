"""What the demo refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.demo.cli import demo
from fleetmedic.kernel.errors import UserError


def test_a_timeline_that_cannot_be_written_is_refused_before_the_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    asked = ["--timeline", str(tmp_path / "nowhere" / "timeline.json"), "--state-dir", str(state)]
    with pytest.raises(
        UserError, match=r"--timeline .*: the directory does not exist or is not writable"
    ):
        CliRunner().invoke(demo, asked, catch_exceptions=False)
    assert not state.exists()
