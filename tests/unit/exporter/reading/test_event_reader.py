"""Parsing of the event process's lines."""

import pytest

from exporter.reading.event_reader import parse
from exporter.reading.events import line
from exporter.sources.base import GpuEvent


@pytest.mark.parametrize(
    "event",
    [
        GpuEvent("GPU-a", "00000000:10:00.0", "xid", 79),
        GpuEvent("", "00000000:10:00.0", "ecc", 2),
        GpuEvent("GPU-a", "", "unavailable", 0x4000),
        GpuEvent("", "", "recovery", 0x8000),
    ],
)
def test_an_event_survives_the_pipe(event: GpuEvent) -> None:
    assert parse(line(event).rstrip(b"\n")) == event


def test_a_name_with_spaces_and_newlines_is_one_word_of_one_line() -> None:
    assert line(GpuEvent("GPU a\nb", "x y", "xid", 1)) == b"xid 1 GPUab xy\n"


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"xid",
        b"xid x GPU-a -",
        b"other 1 a b",
        b"\xff 1 2 3",
        b"xid 1 a",
        "xid \u0661 a b".encode(),
        "xid \u00b2 a b".encode(),
    ],
)
def test_a_line_that_tells_no_event_is_none(junk: bytes) -> None:
    assert parse(junk) is None
