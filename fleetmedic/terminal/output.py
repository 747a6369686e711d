"""Print console output: tables on a terminal, plain lines otherwise."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

import click

from fleetmedic.terminal.numbers import IntegerRange

GAP = 3  # spaces between the columns of a table
# Printable characters that are drawn as empty space: Hangul fillers and the empty Braille pattern.
_INVISIBLE = frozenset(" \u115f\u1160\u2800\u3164\uffa0")
MIN_WRAPPED = 16  # narrowest width of a column that is wrapped


lines_option = click.option(
    "-n",
    "--lines",
    "count",
    type=IntegerRange(1, 100_000),
    metavar="NUMBER",
    default=40,
    show_default=True,
    help="Number of lines to print.",
)


def on_terminal() -> bool:
    """Return whether to print tables. This is the case if stdout is a capable terminal and rich is
    installed."""
    able = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return able and importlib.util.find_spec("rich") is not None


def rows(
    headings: Sequence[str], lines: Iterable[Sequence[str]], styles: Mapping[str, str]
) -> None:
    """Print rows as a rich table on a terminal (which honours NO_COLOR), otherwise as plain columns.

    No text is cut: if the terminal is too narrow for the table, the columns are plain, too. `styles`
    maps the last word in the column `state` to its rich style.
    """
    cleaned = [[clean(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(headings, *cleaned, strict=True)]
    if on_terminal() and _table(headings, cleaned, styles, widths):
        return
    for line in (headings, *cleaned):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def clean(text: str) -> str:
    """Return an untrusted text as one line without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def legible(text: str) -> str:
    """Return an untrusted text as one line without control characters and repeated spaces.

    The result is empty if a reader would see nothing.
    """
    line = " ".join(clean(text).split())
    return line if any(letter not in _INVISIBLE for letter in line) else ""


def _table(
    headings: Sequence[str],
    lines: list[list[str]],
    styles: Mapping[str, str],
    widths: Sequence[int],
) -> bool:
    """Print a table that wraps cells with several words; returns False if the terminal is too narrow."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    whole = [
        heading.lower() == "state" or not any(" " in line[n] for line in lines)
        for n, heading in enumerate(headings)
    ]
    needed = (
        width if one else min(width, MIN_WRAPPED) for width, one in zip(widths, whole, strict=True)
    )
    console = Console()
    if sum(needed) + GAP * len(widths) > console.width:
        return False
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading, one in zip(headings, whole, strict=True):
        table.add_column(heading, overflow="fold", no_wrap=one)
    for line in lines:
        table.add_row(
            *(
                Text(
                    cell,
                    styles.get(cell.rpartition(" ")[2], "") if heading.lower() == "state" else "",
                )
                for heading, cell in zip(headings, line, strict=True)
            )
        )
    console.print(table)
    return True
