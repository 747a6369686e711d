"""A stack takes only a folder that is its own: --reset empties what lies there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.directory_lock import MARK
from fleetmedic.stack.lifecycle import Stack, StackOptions, require_ours, simulated_hardware


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


class Recorder:
    """A supervisor that records what is started."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def hold(self, name: str) -> None:
        self.calls.append(f"hold {name}")

    def start(self) -> None:
        self.calls.append("start")

    def start_one(self, name: str) -> None:
        self.calls.append(f"start {name}")


@pytest.mark.parametrize(
    ("factor", "calls"),
    [(1.0, ["start"]), (30.0, ["hold prometheus", "start", "asked", "asked", "start prometheus"])],
)
def test_with_a_time_factor_prometheus_starts_when_the_exporters_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, calls: list[str]
) -> None:
    """Otherwise NodeMassOutage fires at the start of a fast stack."""
    recorder: Any = Recorder()
    answers = iter(["Connection refused", None])

    def problem(url: str) -> str | None:
        assert url == "http://e"
        recorder.calls.append("asked")
        return next(answers)

    monkeypatch.setattr("fleetmedic.stack.lifecycle.health_problem", problem)
    stack = Stack(StackOptions(tmp_path, simulate=True, factor=factor))
    stack._supervisor = recorder
    stack._health = {"exporter-node1": "http://e", "prometheus": "http://p"}
    monkeypatch.setattr(stack, "_stopped", SimpleNamespace(wait=lambda _: False))
    stack.start()
    assert recorder.calls == calls


def test_prometheus_starts_without_exporters_after_a_limit_and_never_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetmedic.stack.lifecycle.health_problem", lambda _: "refused")
    monkeypatch.setattr("fleetmedic.stack.lifecycle.EXPORTERS_SECONDS", 0.0)
    stack = Stack(StackOptions(tmp_path, simulate=True, factor=30.0))
    late: Any = Recorder()
    stack._supervisor, stack._health = late, {"exporter-node1": "http://e"}
    stack.start()
    assert late.calls[-1] == "start prometheus"
    monkeypatch.setattr("fleetmedic.stack.lifecycle.EXPORTERS_SECONDS", 60.0)
    stopped: Any = Recorder()
    stack._supervisor = stopped
    stack._stopped.set()
    stack.start()
    assert stopped.calls == ["hold prometheus", "start"]


def test_the_simulated_fleet_is_described_in_the_right_number() -> None:
    assert simulated_hardware(1, 1) == "the hardware of 1 node with 1 GPU"
    assert simulated_hardware(1, 2) == "the hardware of 1 node with 2 GPUs"
    assert simulated_hardware(2, 1) == "the hardware of 2 nodes with 1 GPU each"
