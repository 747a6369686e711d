"""The exporter's log: one line per event, and a failed write has no other effect."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator

import pytest

from exporter import log


@pytest.fixture(autouse=True)
def usual_level() -> Iterator[None]:
    yield
    log.configure("info")


def test_an_event_is_one_line_of_json_with_its_level_and_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.write_event("left_out", slot=3, why="two\nlines")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["slot"], said["why"]) == (
        "left_out", "warning", 3, "two\nlines"
    )  # fmt: skip
    assert said["timestamp"].endswith("Z")


def test_events_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("error")
    log.write_event("chatter")
    log.write_event("listening", level="info")
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_text_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    log.write_event("left_out", slot=3, why="two\nlines")
    assert stream.getvalue().endswith("warning left_out slot=3 why=two\\nlines\n")


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", Full())
    log.write_event("lost", thing=object())
