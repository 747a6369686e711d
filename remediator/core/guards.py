"""May we? Each guard is one function over facts; each answers allow, hold or refuse, and why.

A hold is asked again later; a refusal ends that way of going on. Guards are monotone: more targets
out, more attempts or fewer witnesses never turn a no into a yes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from remediator.core.evidence import Evidence, Standing
from remediator.core.model import OWNER, Level
from remediator.core.reasons import Reason, sentence
from remediator.core.view import Identity, SensorView, Stops


class Ruling(StrEnum):
    """What a guard says."""

    ALLOW = "allow"
    HOLD = "hold"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A ruling with its reason; `until` is the Unix time at which to ask again, if it is known.

    `group` names what holds many incidents at once, about which people get one message.
    """

    ruling: Ruling
    reason: Reason
    text: str = ""
    until: float | None = None
    group: str = ""

    @property
    def allows(self) -> bool:
        """Whether the guard has nothing against it."""
        return self.ruling is Ruling.ALLOW


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers of the guards, from remediator.yml. Seconds and percent.

    `notice`: an incident held for so long is told to a person. `pin`: a release by a person is respected
    for so long. `watch`: metrics stay healthy for so long before hardware in use is released. `calm`: a
    storm is over after so long below its limit.
    """

    max_out_percent: float = 10.0
    max_new: int = 3
    max_new_window: float = 600.0
    dead_man: float = 180.0
    exporters_up_percent: float = 90.0
    hold: float = 3.0
    notice: float = 120.0
    pin: float = 14_400.0
    watch: float = 300.0
    calm: float = 600.0


ALLOWED = Verdict(Ruling.ALLOW, Reason.STEP_ALLOWED)


def _hold(reason: Reason, text: str = "", until: float | None = None, group: str = "") -> Verdict:
    return Verdict(Ruling.HOLD, reason, text or sentence(reason), until, group)


def _everywhere(reason: Reason, text: str = "", until: float | None = None) -> Verdict:
    """A hold that has one cause for every incident."""
    return _hold(reason, text, until, str(reason))


def all_of(*verdicts: Verdict) -> Verdict:
    """The first verdict that does not allow, refusals first; ALLOWED when all do."""
    against = [verdict for verdict in verdicts if not verdict.allows]
    refusals = [verdict for verdict in against if verdict.ruling is Ruling.REFUSE]
    return (refusals or against or [ALLOWED])[0]


def not_paused(paused: bool, stops: Stops = Stops()) -> Verdict:  # noqa: B008 - frozen
    """A person's pause holds every effect."""
    return _hold(Reason.PAUSED, stops.pause, group=stops.pause_group) if paused else ALLOWED


def one_installation(stops: Stops) -> Verdict:
    """Where another remediator acts on the cluster, this one acts on nothing."""
    if not stops.other_installation:
        return ALLOWED
    return _everywhere(Reason.OTHER_INSTALLATION, stops.other_installation)


def same_hardware(identity: Identity) -> Verdict:
    """An alert about other hardware than the inventory has there holds everything."""
    return _hold(Reason.IDENTITY, identity.problem) if identity.problem else ALLOWED


def identified(identity: Identity) -> Verdict:
    """Nothing disruptive is done to hardware that nobody has identified."""
    if identity.confirmed or identity.problem:
        return same_hardware(identity)
    text = (
        "No alert of the incident carries a uuid that the inventory confirms: a person is needed."
    )
    return _hold(Reason.IDENTITY, text)


def not_withheld(evidence: Evidence) -> Verdict:
    """A silence, an inhibition or a maintenance window holds everything."""
    if evidence.standing is not Standing.WITHHELD:
        return ALLOWED
    return _hold(evidence.reason, evidence.text, group=evidence.group)


def alert_stands(evidence: Evidence) -> Verdict:
    """Nothing disruptive is done for an alert that is not known to be active."""
    if evidence.standing is Standing.ACTIVE:
        return ALLOWED
    group = evidence.group
    if evidence.standing is Standing.UNKNOWN:
        group = group or str(evidence.reason)
    return _hold(evidence.reason, evidence.text, group=group)


def steady_clock(stops: Stops, now: float) -> Verdict:
    """After a jump of the wall clock, times cannot be compared: nothing disruptive for a while."""
    if not stops.clock:
        return ALLOWED
    return _everywhere(Reason.CLOCK_JUMP, stops.clock, now + stops.clock_left)


def no_storm(stops: Stops) -> Verdict:
    """While too much of the pool is reported unhealthy, nothing disruptive is done to any of it."""
    return _hold(Reason.STORM, stops.storm, group=stops.storm_group) if stops.storm else ALLOWED


def not_pinned(stops: Stops) -> Verdict:
    """What a person returned to service is not taken out again for a while."""
    if not stops.pinned:
        return ALLOWED
    return _hold(Reason.PINNED, stops.pinned, stops.pinned_until)


def able(needed: str, capabilities: frozenset[str]) -> Verdict:
    """A step that the cluster cannot do is refused before anything is touched for it."""
    if needed in capabilities:
        return ALLOWED
    words = needed.replace("_", " ")
    return Verdict(
        Ruling.REFUSE, Reason.UNSUPPORTED, f"This cluster lacks the capability: {words}."
    )


def known(facts_known: bool) -> Verdict:
    """A cluster that cannot be asked, or does not know the target, holds everything."""
    return ALLOWED if facts_known else _everywhere(Reason.FACTS_UNKNOWN)


def not_theirs(owner: str | None) -> Verdict:
    """Another owner's quarantine is never changed."""
    if owner is None or owner == OWNER:
        return ALLOWED
    return _hold(Reason.OTHER_OWNER, f"{owner} quarantined the target; only they can release it.")


def level(needed: Level, in_force: Level) -> Verdict:
    """A level in force below the one needed refuses."""
    if in_force.rank >= needed.rank:
        return ALLOWED
    text = f"This step needs level {needed}; the configured level is {in_force}."
    return Verdict(Ruling.REFUSE, Reason.LEVEL, text)


def budget_out(what: str, out: int, total: int, limits: Limits) -> Verdict:
    """At most max_out_percent of a pool may be out by us, one at least; `out` is before this one."""
    allowed = max(1, math.floor(total * limits.max_out_percent / 100))
    if out < allowed:
        return ALLOWED
    text = f"The remediator keeps {out} of {total} {what} of the pool out of service; the budget allows {allowed}."
    return _hold(Reason.BUDGET_OUT, text)


def budget_new(recent: tuple[float, ...], limits: Limits, now: float) -> Verdict:
    """At most max_new new quarantines in a window; `recent` are the times of the earlier ones."""
    inside = sorted(at for at in recent if at > now - limits.max_new_window)
    if len(inside) < limits.max_new:
        return ALLOWED
    text = f"{len(inside)} targets were quarantined in {limits.max_new_window:g} s, as many as allowed."
    free_at = inside[len(inside) - limits.max_new] + limits.max_new_window
    return _hold(Reason.BUDGET_NEW, text, free_at)


def attempts(times: tuple[float, ...], most: int, window: float, now: float) -> Verdict:
    """A repair that was tried `most` times on the target in the window is refused."""
    inside = [at for at in times if at > now - window]
    if len(inside) < most:
        return ALLOWED
    text = f"The step was tried {len(inside)} times on this target in {window:g} s, as often as allowed."
    return Verdict(Ruling.REFUSE, Reason.ATTEMPTS, text)


def cooldown(times: tuple[float, ...], seconds: float, now: float) -> Verdict:
    """Some time must pass between two treatments of one kind on one target."""
    free_at = max(times, default=-math.inf) + seconds
    if now >= free_at:
        return ALLOWED
    text = f"The last attempt was at {_utc(max(times))}; the cooldown ends at {_utc(free_at)}."
    return _hold(Reason.COOLDOWN, text, free_at)


def _utc(at: float) -> str:
    """The time of day of a Unix time."""
    minutes, seconds = divmod(int(at) % 86_400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02} UTC"


def dead_man(sensors: SensorView, limits: Limits) -> Verdict:
    """Without a Watchdog alert for `dead_man` seconds, nothing disruptive is started."""
    if limits.dead_man <= 0 or sensors.watchdog_age <= limits.dead_man:
        return ALLOWED
    return _everywhere(Reason.DEAD_MAN)


def sensors_see(sensors: SensorView, limits: Limits) -> Verdict:
    """Prometheus answers, and enough of the pool's other exporters are up; 0 percent asks nothing."""
    if limits.exporters_up_percent <= 0:
        return ALLOWED
    if not sensors.prometheus or sensors.exporters_up is None:
        text = "Prometheus does not answer, so the health of the pool is unknown."
        return _everywhere(Reason.SENSORS_BLIND, text)
    if sensors.exporters_up * 100 >= limits.exporters_up_percent:
        return ALLOWED
    text = f"Only {sensors.exporters_up:.0%} of the pool's other exporters are up."
    return _everywhere(Reason.SENSORS_BLIND, text)


def witnesses(seen: frozenset[str], needed: int) -> Verdict:
    """A disruptive step needs so many independent witnesses."""
    if len(seen) >= needed:
        return ALLOWED
    names = ", ".join(sorted(seen)) or "none"
    return _hold(Reason.WITNESSES, f"{needed} independent signals are needed; present: {names}.")


def held_long_enough(opened: float, limits: Limits, now: float) -> Verdict:
    """Disruptive steps wait a moment, for a larger fault to show itself."""
    if now >= opened + limits.hold:
        return ALLOWED
    return _hold(Reason.HOLD, until=opened + limits.hold)
