"""One event a line on stderr: JSON for machines; an unknown level is one sentence."""

from __future__ import annotations

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.logs import configure_logs


@pytest.fixture(autouse=True)
def restore_structlog() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = before


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


def test_a_message_of_a_library_is_an_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()  # pytest's own fail for an invalid record
    for _ in range(2):  # configured twice, it is still one line
        configure_logs(json=True)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP %s\nreceived.", "request")
    logging.getLogger("uvicorn.error").info("chatter")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("asyncio").exception("Task failed")
    logging.getLogger("asyncio").error("%d", "no number")
    logging.getLogger("asyncio").log(99, "odd")
    first, second, third, fourth = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["logger"], first["text"]) == (
        "library_message", "warning", "uvicorn.error", "Invalid HTTP request\nreceived."
    )  # fmt: skip
    assert (second["level"], second["text"]) == ("error", "Task failed")
    assert second["exception"].endswith("ValueError: broken")
    assert third["text"] == "%d"
    assert (fourth["level"], fourth["text"]) == ("critical", "odd")


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
