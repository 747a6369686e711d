"""One process writes the heartbeat into shared memory, and another reads it."""

import os

import pytest

from exporter.reading.heartbeat import SIZE, Beat, Heartbeat, HeartbeatReader, decode


def beat(memory: bytearray) -> Beat:
    return decode(bytes(memory), 0.0)


def test_before_the_process_says_anything_it_opens_its_source() -> None:
    assert decode(bytes(SIZE), 12.5) == Beat(0, 12.5, 12.5, None, "open")


def test_what_is_begun_stands_there_and_each_call_counts() -> None:
    memory = bytearray(SIZE)
    heartbeat = Heartbeat(memory)
    heartbeat.begin(3, "links")
    first = beat(memory)
    heartbeat.progress()
    second = beat(memory)
    assert (first.slot, first.group) == (second.slot, second.group) == (3, "links")
    assert second.calls == first.calls + 1
    assert second.since == first.since <= first.at <= second.at


def test_turning_to_another_gpu_is_a_new_visit_and_another_group_is_not() -> None:
    memory = bytearray(SIZE)
    heartbeat = Heartbeat(memory)
    heartbeat.begin(3, "presence")
    since = beat(memory).since
    heartbeat.begin(3, "load")
    assert beat(memory).since == since
    heartbeat.begin(4, "load")
    assert beat(memory).since > since


def test_at_rest_there_is_no_group() -> None:
    memory = bytearray(SIZE)
    heartbeat = Heartbeat(memory)
    heartbeat.begin(3, "load")
    heartbeat.idle()
    assert beat(memory)[3:] == (None, None)


def test_the_longest_call_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 10.0, 10.1, 11.6, 11.7))
    monkeypatch.setattr("exporter.reading.heartbeat.time.monotonic", lambda: next(times))
    heartbeat = Heartbeat(bytearray(SIZE))
    heartbeat.begin(0, "load")
    heartbeat.progress()
    heartbeat.progress()
    assert heartbeat.slowest() == pytest.approx(1.5)


def test_the_memory_is_shared_by_its_descriptor() -> None:
    reader = HeartbeatReader()
    heartbeat = Heartbeat.shared(os.dup(reader.descriptor))
    reader.close_descriptor()
    heartbeat.begin(71, "mig")
    assert reader.read()[3:] == (71, "mig")
    reader.close()
