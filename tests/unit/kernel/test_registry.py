"""A registry keeps the order given, and says what it knows when asked for something else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fleetmedic.kernel.registry import Registry


@dataclass(frozen=True, slots=True)
class Member:
    name: str


def test_members_come_in_the_order_given() -> None:
    registry = Registry("detector", (Member("b"), Member("a")))
    assert registry.names() == ("b", "a")
    assert list(registry) == [Member("b"), Member("a")]
    assert registry.get("a") == Member("a")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LookupError, match="unknown detector 'c'; expected one of: b, a"):
        Registry("detector", (Member("b"), Member("a"))).get("c")


def test_a_name_that_stands_twice_is_found_at_start() -> None:
    with pytest.raises(ValueError, match="registry of detectors"):
        Registry("detector", (Member("a"), Member("a")))
