"""`up` and `doctor` give the same figure for the disk space that a stack needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.disk_space import MIN_FREE_BYTES, too_small
from fleetmedic.stack.doctor import doctor
from fleetmedic.stack.lifecycle import require_space


def _free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_a_full_disk_is_the_same_sentence_for_up_and_for_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "not" / "yet"
    _free(monkeypatch, MIN_FREE_BYTES - 1_000_000)
    sentence = f"{state} has 299 MB of free disk space; the stack needs at least 300 MB"
    with pytest.raises(UserError, match=sentence):
        require_space(state)
    shown = CliRunner().invoke(doctor, ["--state-dir", str(state)])
    assert sentence in shown.output
    assert shown.exit_code == 1


def test_as_much_as_up_needs_is_enough_for_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free(monkeypatch, MIN_FREE_BYTES)
    assert too_small(tmp_path) is None
    shown = CliRunner().invoke(doctor, ["--state-dir", str(tmp_path)])
    assert f"ok      disk          0.3 GB free for {tmp_path}" in shown.output
