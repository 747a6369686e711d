"""The frame measures collectors, and one that fails costs its own series alone."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from exporter.board import INTERVALS, Board
from exporter.catalogue import catalogue
from exporter.collectors.base import Collector, CollectorError
from exporter.exposition import Sample
from exporter.frame import Frame
from exporter.openmetrics import Form


class Good:
    name, interval, inline = "good", 1.0, True

    def collect(self, now: float) -> Iterable[Sample]:
        yield Sample("node_load1", (), 1.5)


class Raises:
    name, interval, inline = "raises", 1.0, True
    error: Exception = CollectorError("it is not there")

    def collect(self, now: float) -> Iterable[Sample]:
        yield Sample("node_load5", (), 5.0)
        raise self.error


class Hangs:
    name, interval, inline = "hangs", 0.05, False

    def __init__(self) -> None:
        self.free = threading.Event()

    def collect(self, now: float) -> Iterable[Sample]:
        self.free.wait(10)
        yield Sample("node_load15", (), 15.0)


def frame(tmp_path: Path, *collectors: Collector) -> Frame:
    board = Board(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    board.supervised(stuck=False, restarts=0, failure="")
    return Frame(list(collectors), board, catalogue(), "1.0", lambda event, **fields: None)


def shown(running: Frame, *wanted: str, form: Form = Form.TEXT, gzip: bool = False) -> bytes:
    return running.page(frozenset(wanted) if wanted else None, form, gzip) or b""


@pytest.mark.parametrize(
    "error", [CollectorError("x"), OSError("x"), ZeroDivisionError(), KeyError("x")]
)
def test_one_that_raises_costs_its_own_series_alone(tmp_path: Path, error: Exception) -> None:
    broken = Raises()
    broken.error = error
    text = frame(tmp_path, broken, Good()).once(1000.0).text.decode()
    assert "node_load1 1.5" in text
    assert "node_load5" not in text
    assert 'gpu_exporter_collector_success{collector="raises"} 0' in text
    assert 'gpu_exporter_collector_success{collector="good"} 1' in text
    assert 'last_success_timestamp_seconds{collector="good"} 1000.0' in text
    assert 'last_success_timestamp_seconds{collector="raises"}' not in text


def test_one_that_hangs_holds_up_nobody_and_is_said_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.frame.SETTLE_SECONDS", 0.05)
    hanging = Hangs()
    running = frame(tmp_path, hanging, Good())
    running.start()
    deadline = time.monotonic() + 8
    while b"node_load1" not in shown(running) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert b"node_load1 1.5" in shown(running)
    assert b'gpu_exporter_collector_success{collector="hangs"} 0' in shown(running)
    hanging.free.set()
    running.stop()


def test_values_older_than_three_intervals_are_withheld(tmp_path: Path) -> None:
    running = frame(tmp_path, Good())
    running.once(1000.0)
    assert b"node_load1" in running.snapshot(1003.0).text
    late = running.snapshot(1010.0).text
    assert b"node_load1" not in late
    assert b'gpu_exporter_collector_success{collector="good"} 0' in late
