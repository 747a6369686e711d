"""The definition of a story."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from every_alert.fleet import Fleet

Labels = Mapping[str, str]
# One minute stands for one hour. Groups are evaluated at most once a second, and some rules count the
# evaluations of an hour, so with a factor above 60 there would be too few.
USUAL_FACTOR = 60


@dataclass(frozen=True, slots=True)
class Story:
    """`does` describes the fault; `raises` are the alerts that must follow, with labels of the target.

    `begin` injects the fault. `factor` divides the durations of the rules. `instead` describes the fake
    of an external system. `after` are alerts of other stories that must be raised before this story
    starts, because it would hide them. `fleeting`: fault and alert are short, so the fault is injected
    again if the alert was missed. `slow`: takes more than 80 s and is skipped in tests. `needs_root`: the
    story acts as several users.
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
