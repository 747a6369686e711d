"""Explicit registries: a tuple beside the members, read by the composition root alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """Anything with a name of its own."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


class Registry(Generic[N]):
    """Members by name, in the order given. A name that stands twice is a programming error."""

    def __init__(self, kind: str, members: tuple[N, ...]) -> None:
        self.kind = kind
        self._members = {member.name: member for member in members}
        if len(self._members) != len(members):
            raise ValueError(f"two members of the registry of {kind}s share a name")

    def __iter__(self) -> Iterator[N]:
        return iter(self._members.values())

    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return tuple(self._members)

    def get(self, name: str) -> N:
        """The member of that name. Raises LookupError with a sentence that lists the names."""
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members)
            raise LookupError(f"there is no {self.kind} {name!r}; known: {known}") from None
