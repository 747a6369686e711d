"""Find maintenance windows that can match the same alert, so that each of them can mute the alert.

Alertmanager uses the first matching route and evaluates only that route's time intervals. So each set of
maintenance windows that can match one alert gets its own route, before the routes of smaller sets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from fleetmedic.kernel.errors import UserError

MAX_SETS = 256
_MAX_STARTS = 64
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_LITERAL = re.compile(r"(?:[A-Za-z0-9_-]|\\[^A-Za-z0-9])(?![*+?{])")
_CHOICE = re.compile(r"\((?:\?:)?([A-Za-z0-9_|-]*)\)(?![*+?{])")
Match = dict[str, str]
Start = tuple[str, bool]
"""The beginning of a string, and whether the string ends there."""


def overlapping_sets(matches: Sequence[Match], place: str) -> list[tuple[int, ...]]:
    """Return the sets of maintenance windows (indices in `matches`) that can match one alert, largest first.

    A set is left out only if two members can never match the same label value. Raises UserError
    with `place` for more than MAX_SETS sets of two or more.
    """
    count = len(matches)
    pairs = {
        (a, b) for a in range(count) for b in range(a + 1, count) if _meet(matches[a], matches[b])
    }
    found: list[tuple[int, ...]] = []
    grown: list[tuple[int, ...]] = [(one,) for one in range(count)]
    while grown:
        found = grown + found
        grown = [
            (*each, more)
            for each in grown
            for more in range(each[-1] + 1, count)
            if all((one, more) in pairs for one in each)
        ]
        if len(found) + len(grown) > count + MAX_SETS:
            raise UserError(
                f"{place}: more than {MAX_SETS} combinations of maintenance windows can match one alert. Merge some "
                "windows, or make their regular expressions for the same label start with different literal text."
            )
    return found


def _meet(one: Match, other: Match) -> bool:
    """Return whether one alert can match both maintenance windows; True if this is uncertain."""
    return all(
        any(_touch(a, b) for a in _starts(text) for b in _starts(other[label]))
        for label, text in one.items()
        if label in other
    )


def _touch(one: Start, other: Start) -> bool:
    (text, ends), (second, second_ends) = one, other
    return (text.startswith(second) and (text == second or not second_ends)) or (
        second.startswith(text) and not ends
    )


@lru_cache(maxsize=4096)
def _starts(expression: str) -> tuple[Start, ...]:
    """Return the possible prefixes of the strings that a regular expression matches."""
    found: list[Start] = []
    for alternative in _alternatives(expression):
        texts, at = [""], 0
        while at < len(alternative):
            if literal := _LITERAL.match(alternative, at):
                texts = [text + literal[0][-1] for text in texts]
                at = literal.end()
                continue
            choice = _CHOICE.match(alternative, at)
            choices = choice[1].split("|") if choice else []
            if not choice or len(texts) * len(choices) > _MAX_STARTS:
                break
            texts = [text + more for text in texts for more in choices]
            at = choice.end()
        found += [(text, at == len(alternative)) for text in texts]
    return tuple(found)


def _alternatives(expression: str) -> list[str]:
    """Split a regular expression at each `|` that is outside of all groups."""
    if expression.startswith("(?"):
        return ["."]  # flags such as (?i) change what a literal matches
    found, depth = [""], 0
    for piece in _PIECE.findall(expression):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += piece
    return found
