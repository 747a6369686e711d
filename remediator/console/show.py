"""Console output: a table on a terminal, plain lines otherwise."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import click

HELD = ", held"


def on_terminal() -> bool:
    """Whether to print a table: stdout is a capable terminal, and rich is installed."""
    able = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return able and importlib.util.find_spec("rich") is not None


def rows(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Print rows: a rich table on a terminal (it honours NO_COLOR), else columns of plain text."""
    cleaned = [[clean(cell) for cell in line] for line in lines]
    if on_terminal():
        _table(headings, cleaned)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cleaned, strict=True)]
    for line in (headings, *cleaned):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def clean(text: str) -> str:
    """Untrusted text on one line, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def moment(at: float) -> str:
    """A Unix time as local date and time; a dash if it is missing or invalid."""
    if not 0 < at < 1e11:
        return "-"
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Paused(Protocol):
    """Who paused the remediator, why, and since when (Unix seconds)."""

    @property
    def by(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def at(self) -> float: ...


def pause_line(pause: Paused | None) -> str | None:
    """The line that the remediator is paused; None if it is not."""
    if pause is None:
        return None
    return clean(f"Paused by {pause.by} since {moment(pause.at)}: {pause.reason}")


def state_of(state: str, held: bool) -> str:
    """An incident's state, marked if a guard holds the incident."""
    return f"{state}{HELD}" if held and state != "HELD" else state


def _table(headings: Sequence[str], lines: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("id", "time", "since"))
    for line in lines:
        table.add_row(*(Text(cell, _style(cell)) for cell in line))
    Console().print(table)


def _style(cell: str) -> str:
    return _STYLES["HELD"] if cell.endswith(HELD) else _STYLES.get(cell, "")


_STYLES = {
    "CLOSED": "green",
    "PROBATION": "green",
    "HELD": "yellow",
    "AWAIT_APPROVAL": "yellow",
    "ESCALATED": "bold red",
    "FAILED": "bold red",
    "OVERRIDDEN": "dim",
    "SUPPRESSED": "dim",
}
