"""Define option types for numbers. click calls its own types `integer range` and `float range` in errors."""

from __future__ import annotations

import click


class IntegerRange(click.IntRange):
    """An integer within limits."""

    name = "integer"


class NumberRange(click.FloatRange):
    """A number within limits."""

    name = "number"
