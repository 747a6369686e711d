"""The timeline orders what was seen, counts seconds from the fault, and cites every source."""

import json
from pathlib import Path

from fleetmedic.demo.timeline import Check, Timeline, TimelineRow, lines

ROWS = (
    TimelineRow(105.5, "lost", "alert", "Alertmanager startsAt", "GpuLost"),
    TimelineRow(100.0, "lost", "fault", "hardware folder", "gpu/node1/3"),
    TimelineRow(103.0, "load", "load", "load generator"),
    TimelineRow(106.0, "lost", "webhook", "journal 4 AlertReceived"),
)
TIMELINE = Timeline(
    7, 90.0, ROWS, (Check("lost", kept=True, text="all seen"),), {"total_seconds": 1.0}
)


def test_stories_and_rows_stand_in_the_order_in_which_they_happened() -> None:
    assert TIMELINE.stories == ["lost", "load"]
    assert [row.what for row in TIMELINE.story("lost")] == ["fault", "alert", "webhook"]


def test_a_line_shows_seconds_since_the_fault_and_since_the_row_before() -> None:
    text = list(lines(TIMELINE))
    webhook = next(line for line in text if "webhook" in line)
    assert "6.00 s" in webhook
    assert "+  0.50" in webhook
    assert "journal 4 AlertReceived" in webhook


def test_the_json_holds_every_row_with_its_source(tmp_path: Path) -> None:
    TIMELINE.save(tmp_path / "timeline.json")
    body = json.loads((tmp_path / "timeline.json").read_text())
    assert [row["since_fault"] for row in body["rows"]] == [0.0, 5.5, 6.0, 0.0]
    assert all(row["source"] for row in body["rows"])
    assert body["checks"][0]["kept"] is True
