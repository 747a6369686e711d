"""Find the conditions that block actions on a target, such as a pause."""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.clocks import WallClock
from remediator.core.facts import Stops
from remediator.core.journal_state import JournalState
from remediator.core.model import Incident
from remediator.pools import release_of


def stops_of(
    incident: Incident,
    journal_state: JournalState,
    clock: WallClock,
    other_installation: str,
    pin: float,
) -> Stops:
    """Return the conditions that block actions on the incident's target, except storms of its pool.

    An operator's release of a target is respected for `pin` seconds.
    """
    pause = journal_state.pause
    node = Target(TargetKind.NODE, incident.target.name)
    pinned, pinned_until = release_of(incident.target, journal_state, pin, clock.now())
    node_pinned, node_until = release_of(node, journal_state, pin, clock.now())
    # A job has no pool, so any storm counts.
    storm = next(iter(journal_state.storms.values()), None)
    general = storm if incident.target.kind is TargetKind.JOB else None
    return Stops(
        pause=f"{pause.by} paused all actions: {pause.why}" if pause else "",
        pause_group=f"pause/{pause.at:.0f}" if pause else "",
        other_installation=other_installation,
        storm=general.text if general else "",
        storm_group=f"storm/{general.at:.0f}" if general else "",
        clock=clock.distrust(),
        clock_left=clock.seconds_left(),
        pinned=pinned,
        pinned_until=pinned_until,
        node_pinned=node_pinned,
        node_pinned_until=node_until,
    )
