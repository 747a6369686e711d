"""The timeline of a demo: the observed steps with their data sources, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetmedic.kernel.files import write_output


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One observed step. `at` is in Unix seconds. `source` names the data source in which the step
    was observed."""

    at: float
    story: str
    what: str
    source: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the demo and whether it passed. After a failure, `text` contains the likely
    cause."""

    name: str
    kept: bool
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """All observed steps and checks of one demo."""

    seed: int
    started: float
    rows: tuple[TimelineRow, ...]
    checks: tuple[Check, ...]
    totals: dict[str, float]

    def story(self, name: str) -> list[TimelineRow]:
        """Return the steps of one story, oldest first."""
        return sorted((row for row in self.rows if row.story == name), key=lambda row: row.at)

    @property
    def stories(self) -> list[str]:
        """Return the names of the stories, ordered by their first step."""
        ordered = sorted(self.rows, key=lambda row: row.at)
        return list(dict.fromkeys(row.story for row in ordered))

    def save(self, path: Path) -> None:
        """Write the timeline as JSON, with `since_fault` and `step_seconds` added to each step."""
        body: dict[str, Any] = asdict(self)
        body["rows"] = [row for name in self.stories for row in _with_seconds(self.story(name))]
        write_output(path, json.dumps(body, indent=1) + "\n")


def _with_seconds(rows: list[TimelineRow]) -> list[dict[str, Any]]:
    out = []
    for before, row in zip([rows[0], *rows], rows, strict=False):
        out.append(
            asdict(row)
            | {
                "since_fault": round(row.at - rows[0].at, 3),
                "step_seconds": round(row.at - before.at, 3),
            }
        )
    return out


def lines(timeline: Timeline) -> Iterable[str]:
    """Yield the timeline as plain text: one line per step, starting with the seconds since the fault."""
    for name in timeline.stories:
        rows = _with_seconds(timeline.story(name))
        when = datetime.fromtimestamp(rows[0]["at"], UTC).strftime("%H:%M:%S")
        yield ""
        yield f"{name}  (began {when} UTC)"
        for row in rows:
            head = f"  {row['since_fault']:7.2f} s  +{row['step_seconds']:6.2f}  {row['what']:<30}"
            yield f"{head} {row['source']:<38} {row['text']}".rstrip()
