"""Select the incidents of a list, and count the incidents that the list leaves out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.model import Incident


@dataclass(frozen=True, slots=True)
class IncidentList:
    """Some incidents, oldest first.

    `left_out` is the number of earlier incidents that match the filters and are not shown. `before` is
    the id to continue with, if there are any. `total` counts all incidents of the journal.
    """

    shown: tuple[Incident, ...]
    total: int
    left_out: int
    before: str | None


def select(
    incidents: Iterable[Incident],
    limit: int,
    *,
    before: str | None = None,
    target: Target | None = None,
    node: str | None = None,
    since: float | None = None,
) -> IncidentList:
    """Return the latest `limit` incidents that match all filters, and all open incidents that match.

    `incidents` are in the order in which they were opened. `before` selects the incidents that were
    opened before the incident with this id; the list then has no other open incidents. `node` selects
    the incidents of a node and of its GPUs. `since` (Unix seconds) leaves out what ended earlier.
    Raises UserError if no incident has the id `before`.
    """
    known = list(incidents)
    earlier = known if before is None else known[: _position(known, before)]
    matches = _filter(target, node, since)
    found = [one for one in earlier if matches(one)]
    rest, latest = found[:-limit], found[-limit:]
    still_open = [] if before is not None else [one for one in rest if not one.ended]
    left_out = len(rest) - len(still_open)
    return IncidentList(
        (*still_open, *latest), len(known), left_out, latest[0].id if left_out else None
    )


def _position(known: list[Incident], identity: str) -> int:
    for n, one in enumerate(known):
        if one.id == identity:
            return n
    raise UserError(f"before={identity[:80]!r}: expected the id of an incident.")


def _filter(
    target: Target | None, node: str | None, since: float | None
) -> Callable[[Incident], bool]:
    def matches(one: Incident) -> bool:
        on_node = one.target.kind in (TargetKind.NODE, TargetKind.GPU) and one.target.name == node
        return (
            (target is None or one.target == target)
            and (node is None or on_node)
            and (since is None or not one.ended or one.since > since)
        )

    return matches
