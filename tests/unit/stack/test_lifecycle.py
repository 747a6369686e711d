"""A stack takes only a folder that is its own: --reset empties what lies there."""

from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.lifecycle import MARK, Stack, StackOptions, require_ours, simulated_hardware


def test_a_folder_with_somebodys_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter" / "cli.py").write_text("precious")
    stack = Stack(StackOptions(tmp_path, simulate=True, reset=True))
    with pytest.raises(UserError, match="contains 'exporter'"):
        stack.prepare(lambda _: None)
    assert (tmp_path / "exporter" / "cli.py").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["exporter"]


def test_a_new_an_empty_and_a_marked_folder_are_ours(tmp_path: Path) -> None:
    require_ours(tmp_path / "new")
    require_ours(tmp_path)
    (tmp_path / "logs").mkdir()
    require_ours(tmp_path)
    (tmp_path / "exporter").mkdir()
    (tmp_path / MARK).touch()
    require_ours(tmp_path)


def test_the_simulated_fleet_is_described_in_the_right_number() -> None:
    assert simulated_hardware(1, 1) == "the hardware of 1 node with 1 GPU"
    assert simulated_hardware(1, 2) == "the hardware of 1 node with 2 GPUs"
    assert simulated_hardware(2, 1) == "the hardware of 2 nodes with 1 GPU each"
