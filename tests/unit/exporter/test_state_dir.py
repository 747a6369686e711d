"""A state directory that the exporter cannot use is reported before the exporter starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.cli import exporter
from exporter.state_dir import check, claim
from fleetmedic.kernel.errors import UserError


def test_two_exporters_cannot_share_their_state(tmp_path: Path) -> None:
    claim(tmp_path)
    with pytest.raises(UserError, match="another exporter uses"):
        claim(tmp_path)


@pytest.mark.parametrize("name", ["", "new", "new/deeper"])
def test_a_directory_that_can_be_created_is_valid_and_nothing_is_changed(
    tmp_path: Path, name: str
) -> None:
    check(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_claimed_directory_is_valid(tmp_path: Path) -> None:
    claim(tmp_path)
    check(tmp_path)


@pytest.mark.parametrize("use", [check, claim])
def test_a_directory_that_cannot_be_created_is_a_sentence(tmp_path: Path, use: object) -> None:
    assert callable(use)
    (tmp_path / "file").touch()
    for path in (Path("/proc/x"), Path("/proc/x/y"), tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(UserError) as refused:
            use(path)
        said = str(refused.value)
        assert said.startswith(f"--state.dir: cannot create or write {path} (")
        assert said.endswith("); specify another directory.")


def test_check_config_refuses_a_directory_that_cannot_be_created() -> None:
    with pytest.raises(UserError, match=r"--state\.dir: cannot create or write /proc/x "):
        exporter.main(["--state.dir=/proc/x", "--check-config"], standalone_mode=False)


@pytest.mark.parametrize("name", ["/proc/x", "new"])
def test_once_warns_of_a_directory_that_cannot_be_created(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--collector.disable-defaults", "--collector.web", f"--state.dir={name}"]
    exporter.main([*flags, "--once"], standalone_mode=False)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    found = [each["why"] for each in told if each["event"] == "state_dir_unusable"]
    assert len(found) == (name == "/proc/x")
    assert all(why.startswith("--state.dir: cannot create or write /proc/x (") for why in found)
    assert list(tmp_path.iterdir()) == []
