"""GPUs that did not respond are retried in parallel."""

import threading
import time

import pytest

from exporter.reading.probe import Probe, Target, Timer
from exporter.reading.protocol import Answered, Failed, Message
from exporter.sources.base import SourceFailed, SourceLost


class Source:
    """Slot 0 is fast, 1 slow, 3 lost, 4 fails; calls for 2 hang if they start before it is freed."""

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.free = threading.Event()
        self.asked: list[int] = []

    def presence(self, slot: int) -> None:
        self.asked.append(slot)
        if slot == 2 and self.asked.count(2) == 1:
            self.free.wait(10)
        if slot == 3:
            raise SourceLost(slot)
        if slot == 4:
            raise SourceFailed("no driver")

    def identify(self, slot: int) -> None:
        for _ in range(3 if slot == 1 else 0):
            self.timer.progress()
            time.sleep(0.03)

    def read(self, slot: int, group: str, now: float) -> None:
        raise ZeroDivisionError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr("exporter.reading.probe.DEADLINE", 0.02)
    monkeypatch.setattr("exporter.reading.probe.RETRY_EVERY", 0.1)
    return Source(Timer())


def answers(source: Source, *targets: Target) -> dict[int, Message]:
    told: list[tuple[int, Message]] = []
    Probe(source, source.timer, list(targets)).run(  # type: ignore[arg-type]
        lambda message: told.append((getattr(message, "slot", -1), message))
    )
    assert len(told) == len(targets)
    return dict(told)


def test_each_answers_for_itself(asked: Source) -> None:
    told = answers(asked, (0, None), (1, None), (3, None), (0, "load"))
    assert told[0] in (Answered(0, None, 0.0), Answered(0, "load", 0.0))
    assert isinstance(told[1], Answered)
    assert told[1].slowest >= 0.03
    assert told[3] == Answered(3, None, 0.0)


def test_a_call_that_stays_in_a_hang_that_is_over_does_not_hide_that_it_is(asked: Source) -> None:
    assert answers(asked, (2, None)) == {2: Answered(2, None, 0.0)}
    assert asked.asked == [2, 2]
    asked.free.set()


def test_a_source_that_fails_says_so(asked: Source) -> None:
    assert answers(asked, (4, None)) == {-1: Failed("no driver")}
