"""The frame measures collectors, and a failed collector only loses its own series."""

import errno
import gzip as packer
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from exporter.catalogue import catalogue
from exporter.collector import Collector, CollectorError
from exporter.exposition import Sample
from exporter.gpu_states import INTERVALS, GpuStates, WorkerPoolState
from exporter.pages.collector_runner import CollectorRun
from exporter.pages.openmetrics import ExpositionFormat
from exporter.pages.page import Fragment
from exporter.pages.page_builder import PageBuilder


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


class Remembers:
    """A collector with a token."""

    name, interval, inline = "remembers", 1.0, True

    def __init__(self) -> None:
        self.value, self.runs = 1.0, 0

    def token(self, now: float) -> float:
        return self.value

    def collect(self, now: float) -> Iterable[Sample]:
        self.runs += 1
        if self.value < 0:
            raise CollectorError("it is negative")
        yield Sample("node_load5", (), self.value)


class Hangs:
    name, interval, inline = "hangs", 0.05, False

    def __init__(self) -> None:
        self.free = threading.Event()

    def collect(self, now: float) -> Iterable[Sample]:
        self.free.wait(10)
        yield Sample("node_load15", (), 15.0)


def frame(tmp_path: Path, *collectors: Collector) -> PageBuilder:
    gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    gpu_states.set_worker_pool_state(WorkerPoolState(failure=""))
    return PageBuilder(
        list(collectors), gpu_states, catalogue(), "1.0", lambda event, **fields: None
    )


def shown(
    running: PageBuilder,
    *wanted: str,
    form: ExpositionFormat = ExpositionFormat.TEXT,
    gzip: bool = False,
) -> bytes:
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
    monkeypatch.setattr("exporter.pages.page_builder.SETTLE_SECONDS", 0.05)
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


def test_what_a_hung_collector_gave_before_the_clock_was_set_back_is_withheld(
    tmp_path: Path,
) -> None:
    made = frame(tmp_path, Hangs())
    made._runners[0].outcome = CollectorRun(
        Fragment(made._renderer.render([Sample("node_load15", (), 1)])), True, 10_000.0
    )
    assert "node_load15 1\n" in made.snapshot(10_000.0).text.decode()
    page = made.snapshot(6_400.0).text.decode()
    assert "node_load15" not in page
    assert 'gpu_exporter_collector_success{collector="hangs"} 0\n' in page
    assert "clock was set back" in made.states(6_400.0)[0].why


def test_memory_is_told_in_the_pages_that_this_kernel_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> float:
        lines = frame(tmp_path, Good()).once(1000.0).text.decode().splitlines()
        [line] = [each for each in lines if each.startswith("process_resident_memory_bytes ")]
        return float(line.split()[1])

    here = told()
    assert here == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    monkeypatch.setattr("os.sysconf", lambda _: 65_536)
    assert told() > 8 * here


def test_a_scrape_may_choose_collectors_and_hears_of_no_other(tmp_path: Path) -> None:
    running = frame(tmp_path, Good(), Remembers())
    assert running.names == ("good", "remembers")
    running.once(1000.0)
    whole = shown(running).decode()
    assert shown(running, "good", "remembers").decode() == whole
    chosen = shown(running, "good").decode()
    assert "node_load1 1.5" in chosen
    assert "node_load5" not in chosen
    assert 'gpu_exporter_collector_success{collector="good"} 1' in chosen
    assert 'collector="remembers"' not in chosen
    assert "gpu_exporter_simulated" in chosen
    assert (
        shown(running, "mood").decode()
        == running.page(frozenset(), ExpositionFormat.TEXT, False).decode()
    )  # type: ignore[union-attr]
    assert set(chosen.splitlines()) < set(whole.splitlines())
    packed = shown(running, "good", form=ExpositionFormat.OPENMETRICS, gzip=True)
    assert packer.decompress(packed) == shown(running, "good", form=ExpositionFormat.OPENMETRICS)


def test_choices_without_end_are_not_kept_without_end(tmp_path: Path) -> None:
    running = frame(tmp_path, Good(), Remembers())
    running.once(1000.0)
    for number in range(100):
        assert b"node_load1 " in shown(running, "good", f"unknown{number}")


def test_who_knows_that_nothing_changed_is_not_run_again(tmp_path: Path) -> None:
    remembers = Remembers()
    running = frame(tmp_path, remembers)
    for now in (1000.0, 1001.0, 1002.0):
        text = running.once(now).text.decode()
    assert remembers.runs == 1
    assert "node_load5 1.0" in text
    assert 'last_success_timestamp_seconds{collector="remembers"} 1002.0' in text
    remembers.value = 2.0
    assert b"node_load5 2.0" in running.once(1003.0).text
    assert remembers.runs == 2


def test_who_failed_is_run_again_though_nothing_changed(tmp_path: Path) -> None:
    remembers = Remembers()
    remembers.value = -1.0
    running = frame(tmp_path, remembers)
    running.once(1000.0)
    text = running.once(1001.0).text.decode()
    assert remembers.runs == 2
    assert 'errors_total{collector="remembers",code="unavailable"} 2' in text
    assert "node_load5" not in text


def test_what_is_the_same_is_rendered_and_compressed_once(tmp_path: Path) -> None:
    running = frame(tmp_path, Good())
    running.once(1000.0)
    before = running._runners[0].outcome.fragment
    running.once(1001.0)
    assert running._runners[0].outcome.fragment is before


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CollectorError("x"), "unavailable"),
        (PermissionError(errno.EACCES, "x"), "EACCES"),
        (OSError("x"), "OSError"),
        (ZeroDivisionError("x"), "ZeroDivisionError"),
    ],
)
def test_failed_runs_are_counted_by_their_code(tmp_path: Path, error: Exception, code: str) -> None:
    broken = Raises()
    broken.error = error
    running = frame(tmp_path, broken)
    running.once(1000.0)
    text = running.once(1001.0).text.decode()
    name = "gpu_exporter_collector_errors_total"
    assert f'{name}{{collector="raises",code="{code}"}} 2' in text


def test_before_the_first_page_and_when_nobody_renews_it_none_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = frame(tmp_path, Good())
    assert (running.ready, running.stale) == (False, False)
    assert running.page(None, ExpositionFormat.TEXT, False) is None
    running.once(1000.0)
    assert (running.ready, running.stale) == (True, False)
    monkeypatch.setattr("exporter.pages.page_builder.STALE_SECONDS", -1.0)
    assert (running.ready, running.stale) == (False, True)
    assert running.page(None, ExpositionFormat.TEXT, False) is None


def test_forms_that_were_asked_for_are_ready_before_they_are_asked_for_again(
    tmp_path: Path,
) -> None:
    running = frame(tmp_path, Good())
    running.once(1000.0)
    fragment = running._runners[0].outcome.fragment
    assert ExpositionFormat.OPENMETRICS not in fragment._packed
    shown(running, form=ExpositionFormat.OPENMETRICS, gzip=True)
    running._runners[0].outcome = CollectorRun()
    running.once(1001.0)
    assert ExpositionFormat.OPENMETRICS in running._runners[0].outcome.fragment._packed
