"""One event a line on stderr: JSON for machines; an unknown level is one sentence."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator

import pytest
import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.logs import configure_logs


@pytest.fixture(autouse=True)
def restore_structlog() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(json=True)
    structlog.get_logger().info("scraped", text="two\nlines", node="node1")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    event = json.loads(lines[0])
    assert (event["event"], event["level"], event["node"]) == ("scraped", "info", "node1")
    assert event["timestamp"].endswith("Z")


def test_events_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning", json=True)
    structlog.get_logger().info("chatter")
    assert capsys.readouterr().err == ""


def test_a_file_gets_json_and_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger().info("scraped")
    assert json.loads(capsys.readouterr().err)["event"] == "scraped"


def test_an_unknown_level_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"debug, info.*'loud'"):
        configure_logs("loud")


class Full(io.StringIO):
    """A stream on a disk that is full, for as long as it is."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Full()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs()
    structlog.get_logger().warning("lost")
    stream.full = False
    structlog.get_logger().warning("kept")
    assert json.loads(stream.getvalue())["event"] == "kept"
    stream.close()
    structlog.get_logger().warning("closed")
