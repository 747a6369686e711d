"""Format incident states and the pause status for the console."""

from __future__ import annotations

from typing import Protocol

from fleetmedic.terminal.output import clean
from fleetmedic.terminal.times import moment

HELD = ", held"
FIRING = ", alert firing"


class Paused(Protocol):
    """An object with the user who paused the remediator, the reason, and the time (Unix seconds)."""

    @property
    def by(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def at(self) -> float: ...


def pause_line(pause: Paused | None) -> str | None:
    """Return the line that says that the remediator is paused; None if it is not paused."""
    if pause is None:
        return None
    return clean(f"Paused by {pause.by} since {moment(pause.at)}: {pause.reason}")


class Stopped(Protocol):
    """A response that says why the remediator takes no action: a pause, or the lock of the cluster."""

    @property
    def pause(self) -> Paused | None: ...

    @property
    def refusal(self) -> str | None: ...


def stop_lines(answer: Stopped) -> list[str]:
    """Return a line for each cause for which the remediator takes no action."""
    return [clean(line) for line in (pause_line(answer.pause), answer.refusal) if line]


def state_of(state: str, *, held: bool, firing: bool) -> str:
    """Return the state of an incident. The suffix says that a guard holds the incident, or that its
    alert still fires after its end."""
    suffix = HELD if held and state != "HELD" else FIRING if firing else ""
    return f"{state}{suffix}"


STYLES = {
    "CLOSED": "green",
    "PROBATION": "green",
    "HELD": "yellow",
    "held": "yellow",
    "firing": "yellow",
    "AWAIT_APPROVAL": "yellow",
    "ESCALATED": "bold red",
    "FAILED": "bold red",
    "OVERRIDDEN": "dim",
    "SUPPRESSED": "dim",
}
