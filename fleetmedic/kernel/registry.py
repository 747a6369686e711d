"""Registries: explicit lists of implementations, such as actions. Only the composition root reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """Any object with a name."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


class Registry(Generic[N]):
    """Members by name, in the given order. A duplicate name raises ValueError."""

    def __init__(self, kind: str, members: tuple[N, ...]) -> None:
        self.kind = kind
        self._members = {member.name: member for member in members}
        if len(self._members) != len(members):
            raise ValueError(f"duplicate name in the registry of {kind}s")

    def __iter__(self) -> Iterator[N]:
        return iter(self._members.values())

    def names(self) -> tuple[str, ...]:
        """Return the names of all members, in order."""
        return tuple(self._members)

    def get(self, name: str) -> N:
        """Return the member of that name. Raises LookupError with the list of names."""
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members)
            raise LookupError(f"unknown {self.kind} {name!r}; expected one of: {known}") from None
