"""Format states and the pause for console output."""

from __future__ import annotations

from typing import Protocol

from fleetmedic.terminal.output import clean
from fleetmedic.terminal.times import moment

HELD = ", held"


class Paused(Protocol):
    """An object that has the user who paused the remediator, the reason, and the time (Unix
    seconds)."""

    @property
    def by(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def at(self) -> float: ...


def pause_line(pause: Paused | None) -> str | None:
    """Return the line that says that the remediator is paused; None if it is not."""
    if pause is None:
        return None
    return clean(f"Paused by {pause.by} since {moment(pause.at)}: {pause.reason}")


def state_of(state: str, held: bool) -> str:
    """Return the state of an incident, with the suffix "held" if a guard holds the incident."""
    return f"{state}{HELD}" if held and state != "HELD" else state


STYLES = {
    "CLOSED": "green",
    "PROBATION": "green",
    "HELD": "yellow",
    "held": "yellow",
    "AWAIT_APPROVAL": "yellow",
    "ESCALATED": "bold red",
    "FAILED": "bold red",
    "OVERRIDDEN": "dim",
    "SUPPRESSED": "dim",
}
