"""The board says what is known, and no more."""

from pathlib import Path

import pytest

from exporter.board import INTERVALS, Board, Status
from exporter.protocol import Devices, Lost, Message, Present, Round, Values
from exporter.sources.base import BusGpu, Device, Reading

A = Device(0, "GPU-a", "0000:10:00.0")
B = Device(1, "GPU-b", "0000:20:00.0")
BUS = (BusGpu(A.pci_bus_id), BusGpu(B.pci_bus_id))
BOTH = Devices((A, B), (), BUS)
BUSY = (Reading("gpu_utilization_ratio", (), 0.5),)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "inventory.json", expected=None, intervals={"load": 2.0, "health": 5.0})


def tell(board: Board, now: float, *messages: Message) -> None:
    for message in messages:
        board.apply(message, now)


def statuses(board: Board, now: float) -> list[Status]:
    return [gpu.status for gpu in board.view(now).gpus]


def test_before_anything_was_read_there_is_no_verdict(board: Board) -> None:
    assert board.view(0.0).failure
    tell(board, 0.0, BOTH)
    assert statuses(board, 0.0) == [Status.UNKNOWN, Status.UNKNOWN]


def test_a_lost_gpu_has_no_values_and_stays_lost_while_rounds_go_on(board: Board) -> None:
    tell(
        board,
        10.0,
        BOTH,
        Values(0, "load", 10.0, BUSY),
        Values(0, "health", 10.0, ()),
        Present(1),
        Round(10.0),
    )
    tell(board, 11.0, Lost(0), Present(1), Round(11.0))
    lost = board.view(11.0).gpus[0]
    assert (lost.status, lost.groups) == (Status.LOST, {})
    for now in range(12, 40):
        tell(board, float(now), Present(1), Round(float(now)))
    assert statuses(board, 40.0) == [Status.LOST, Status.UP]


def test_a_lost_gpu_comes_back_without_its_old_values(board: Board) -> None:
    tell(board, 10.0, BOTH, Values(0, "load", 10.0, BUSY), Round(10.0))
    tell(board, 11.0, Lost(0), Round(11.0))
    tell(board, 12.0, Present(0), Round(12.0))
    back = board.view(12.0).gpus[0]
    assert (back.status, back.groups) == (Status.UP, {})


def test_values_are_withheld_after_three_intervals(board: Board) -> None:
    tell(board, 10.0, BOTH, Values(0, "load", 10.0, BUSY), Values(0, "health", 10.0, ()))
    tell(board, 16.0, Present(0))
    assert board.view(16.0).gpus[0].value("load", "gpu_utilization_ratio") == 0.5
    tell(board, 17.0, Present(0))
    assert board.view(17.0).gpus[0].value("load", "gpu_utilization_ratio") is None
    assert "health" in board.view(17.0).gpus[0].groups


def test_verdicts_are_withheld_when_nobody_gives_them_any_more(board: Board) -> None:
    tell(board, 10.0, BOTH, Present(0), Lost(1), Round(10.0))
    assert statuses(board, 16.0) == [Status.UNKNOWN, Status.UNKNOWN]


def test_a_hung_gpu_is_hung_until_it_answers(board: Board) -> None:
    tell(board, 10.0, BOTH, Present(0), Present(1), Round(10.0))
    board.hung(1, 11.0)
    tell(board, 500.0, Devices((A,), (1,), BUS), Present(0), Round(500.0))
    assert statuses(board, 500.0) == [Status.UP, Status.HUNG]
    tell(board, 501.0, Present(1))
    assert statuses(board, 501.0) == [Status.UP, Status.UP]


def test_after_a_restart_a_gpu_that_is_gone_keeps_its_uuid(board: Board, tmp_path: Path) -> None:
    tell(board, 10.0, BOTH)
    again = Board(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    tell(again, 20.0, Devices((A,), (), BUS[:1]), Present(0), Round(20.0))
    view = again.view(20.0)
    assert [(g.index, g.uuid, g.status) for g in view.gpus] == [
        (0, "GPU-a", Status.UP), (1, "GPU-b", Status.LOST),
    ]  # fmt: skip
    assert view.expected == 2


def test_after_a_loss_a_number_given_to_another_gpu_is_that_ones(board: Board) -> None:
    tell(board, 10.0, BOTH, Present(0), Present(1), Round(10.0))
    moved = Device(0, "GPU-b", "0000:20:00.0")
    tell(board, 20.0, Devices((moved,), (), BUS[:1]), Present(0), Round(20.0))
    assert statuses(board, 20.0) == [Status.LOST, Status.UP]


def test_a_given_expectation_holds(tmp_path: Path) -> None:
    board = Board(tmp_path / "inventory.json", expected=8, intervals=INTERVALS)
    tell(board, 10.0, BOTH)
    assert board.view(10.0).expected == 8


def test_an_inventory_that_cannot_be_written_is_said_and_costs_nothing(tmp_path: Path) -> None:
    board = Board(tmp_path / "none" / "inventory.json", expected=None, intervals=INTERVALS)
    tell(board, 10.0, BOTH, Present(0))
    assert board.write_error
    assert statuses(board, 10.0)[0] is Status.UP
