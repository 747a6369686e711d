"""What a story is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from every_alert.fleet import Fleet

Labels = Mapping[str, str]
# An hour passes in a minute. Groups are evaluated each second at most, and some rules count the
# evaluations of an hour: no factor above 60 leaves them enough.
USUAL_FACTOR = 60


@dataclass(frozen=True, slots=True)
class Story:
    """`does` is what happens to the fleet; `raises` the alerts that must follow, each with labels that
    tell whom it must be about.

    `begin` does it, and may leave something that goes on. `factor` divides the durations of the rules
    that judge it. `instead` names what stands in for a system of somebody else. `after` are alerts of
    other stories that must have been raised before this one begins, because it would hide them.
    `fleeting`: what happens is over in a moment, and so is its alert; where the machine was too busy to
    see it, it happens again. `slow`: it takes more than 80 s, which a test is not made to wait for.
    `needs_root`: it acts as several users.
    """

    does: str
    raises: Mapping[str, Labels]
    begin: Callable[[Fleet], None]
    factor: int = USUAL_FACTOR
    instead: str = ""
    after: frozenset[str] = field(default_factory=frozenset)
    fleeting: bool = False
    slow: bool = False
    needs_root: bool = False
