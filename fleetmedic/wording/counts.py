"""Write a number with its noun in a sentence."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, such as `1 node`, `2 nodes` or `0 processes`.

    A noun of several words ends with its noun, as in `waiting request`.
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:g} {noun}{ending}" if isinstance(number, float) else f"{number} {noun}{ending}"
