"""Define the guards. A guard is a function that allows, holds or refuses a step, with a reason.

A held step is checked again later; a refused step is not. Guards are monotone: more targets out of
service, more attempts or fewer signals never turn a hold or a refusal into an allowance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.kernel.durations import format_duration
from fleetmedic.wording.counts import counted
from remediator.core.evidence import AlertStatus, Evidence
from remediator.core.facts import Identity, SensorFacts, Stops
from remediator.core.model import OWNER, Level
from remediator.core.reasons import Reason, sentence


class Ruling(StrEnum):
    """The result of a guard: allow, hold or refuse the step."""

    ALLOW = "allow"
    HOLD = "hold"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a guard with its reason. `until` is the Unix time of the next check, if known.

    `group` identifies a cause that blocks many incidents at the same time; one message is sent for it.
    """

    ruling: Ruling
    reason: Reason
    text: str = ""
    until: float | None = None
    group: str = ""

    @property
    def allows(self) -> bool:
        """Return whether the guard allows the step to start."""
        return self.ruling is Ruling.ALLOW


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the guards from remediator.yml, in seconds and percent.

    `notice`: people are notified when an incident is held for this long. `pin`: a target that an
    operator released is not quarantined again for this long. `watch`: metrics must be healthy for
    this long before hardware with running jobs is released. `calm`: a storm ends when the pool has
    stayed below the limit for this long. `approval`: a request for an approval expires after this
    time.
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
    approval: float = 1800.0


ALLOWED = Verdict(Ruling.ALLOW, Reason.STEP_ALLOWED)


def _hold(reason: Reason, text: str = "", until: float | None = None, group: str = "") -> Verdict:
    return Verdict(Ruling.HOLD, reason, text or sentence(reason), until, group)


def _everywhere(reason: Reason, text: str = "", until: float | None = None) -> Verdict:
    """Return a hold whose cause affects all incidents, so that people get only one message."""
    return _hold(reason, text, until, str(reason))


def all_of(*verdicts: Verdict) -> Verdict:
    """Combine verdicts: return the first refusal, otherwise the first hold, otherwise ALLOWED."""
    against = [verdict for verdict in verdicts if not verdict.allows]
    refusals = [verdict for verdict in against if verdict.ruling is Ruling.REFUSE]
    return (refusals or against or [ALLOWED])[0]


def not_paused(paused: bool, stops: Stops = Stops()) -> Verdict:  # noqa: B008 - frozen
    """Hold every action while an operator has paused the remediator."""
    return _hold(Reason.PAUSED, stops.pause, group=stops.pause_group) if paused else ALLOWED


def one_installation(stops: Stops) -> Verdict:
    """Hold every action if another remediator acts on the cluster."""
    if not stops.other_installation:
        return ALLOWED
    return _everywhere(Reason.OTHER_INSTALLATION, stops.other_installation)


def same_hardware(identity: Identity) -> Verdict:
    """Hold every action if the alert names hardware other than that in the cluster's inventory."""
    return _hold(Reason.IDENTITY, identity.problem) if identity.problem else ALLOWED


def identified(identity: Identity) -> Verdict:
    """Hold a disruptive step if no alert's UUID confirms the hardware."""
    if identity.confirmed or identity.problem:
        return same_hardware(identity)
    text = "No alert of the incident has a UUID that matches the inventory: an operator is needed."
    return _hold(Reason.IDENTITY, text)


def not_withheld(evidence: Evidence) -> Verdict:
    """Hold every action if the alert is silenced, inhibited or muted by a maintenance window."""
    if evidence.standing is not AlertStatus.WITHHELD:
        return ALLOWED
    return _hold(evidence.reason, evidence.text, group=evidence.group)


def alert_active(evidence: Evidence) -> Verdict:
    """Hold a disruptive step unless the alert is confirmed as active."""
    if evidence.standing is AlertStatus.ACTIVE:
        return ALLOWED
    group = evidence.group
    if evidence.standing is AlertStatus.UNKNOWN:
        group = group or str(evidence.reason)
    return _hold(evidence.reason, evidence.text, group=group)


def alerts_over(evidence: Evidence) -> Verdict:
    """Hold a return to service without a load test unless every alert of the incident is over."""
    if evidence.standing is AlertStatus.OVER:
        return ALLOWED
    if evidence.standing is AlertStatus.ACTIVE:
        return _hold(Reason.NEW_ALERT, "An alert of the incident is active again.")
    return alert_active(evidence)


def sensor_up(exporter_down: bool) -> Verdict:
    """Hold a return to service without a load test while the exporter of the target's node is down."""
    if not exporter_down:
        return ALLOWED
    text = "The exporter of the target's node is down, so the health of the target is unknown."
    return _hold(Reason.SENSORS_BLIND, text)


def steady_clock(stops: Stops, now: float) -> Verdict:
    """Hold a disruptive step for some time after a jump of the wall clock, when times are unreliable."""
    if not stops.clock:
        return ALLOWED
    return _everywhere(Reason.CLOCK_JUMP, stops.clock, now + stops.clock_left)


def no_storm(stops: Stops) -> Verdict:
    """Hold a disruptive step while too much of the pool is reported unhealthy."""
    return _hold(Reason.STORM, stops.storm, group=stops.storm_group) if stops.storm else ALLOWED


def no_shared_stall(stops: Stops) -> Verdict:
    """Hold the restart of a stalled job while other jobs are stalled too, for example by shared storage."""
    return _everywhere(Reason.JOBS_STALLED, stops.stalls) if stops.stalls else ALLOWED


def cause_certain(doubt: str) -> Verdict:
    """Hold the failing of a job while something other than the job may cause its failures."""
    return _hold(Reason.CAUSE_UNKNOWN, doubt) if doubt else ALLOWED


def not_pinned(stops: Stops) -> Verdict:
    """Hold a quarantine for some time after an operator returned the target to service."""
    if not stops.pinned:
        return ALLOWED
    return _hold(Reason.PINNED, stops.pinned, stops.pinned_until)


def node_free(stops: Stops, others: tuple[str, ...]) -> Verdict:
    """Hold a reboot if an operator returned the node to service, or others quarantined one of its GPUs."""
    if stops.node_pinned:
        return _hold(Reason.PINNED, stops.node_pinned, stops.node_pinned_until)
    if others:
        text = f"The node is not rebooted, because another owner keeps {', '.join(others[:3])}."
        return _hold(Reason.OTHER_OWNER, text)
    return ALLOWED


def supported(unsupported: str) -> Verdict:
    """Refuse a step that was left out of the plan. `unsupported` is why; empty if it is in the plan."""
    return Verdict(Ruling.REFUSE, Reason.UNSUPPORTED, unsupported) if unsupported else ALLOWED


def target_known(facts_known: bool) -> Verdict:
    """Hold every action if the cluster does not respond or does not know the target."""
    return ALLOWED if facts_known else _everywhere(Reason.FACTS_UNKNOWN)


def not_owned_by_others(owner: str | None) -> Verdict:
    """Hold every action on a target that another user or program has quarantined."""
    if owner is None or owner == OWNER:
        return ALLOWED
    return _hold(
        Reason.OTHER_OWNER, f"{owner} quarantined the target; only that owner can release it."
    )


def level(needed: Level, in_force: Level) -> Verdict:
    """Refuse a step that needs a higher automation level than the level in force."""
    if in_force.rank >= needed.rank:
        return ALLOWED
    text = f"This step needs level {needed}; the configured level is {in_force}."
    return Verdict(Ruling.REFUSE, Reason.LEVEL, text)


def budget_out(what: str, out: int, total: int, limits: Limits) -> Verdict:
    """Hold a quarantine if max_out_percent of the pool is already out of service. The budget allows
    at least one target.

    `out` is the number of targets that the remediator keeps out of service before this step.
    """
    allowed = max(1, math.floor(total * limits.max_out_percent / 100))
    if out < allowed:
        return ALLOWED
    text = f"The remediator keeps {out} of {total} {what} of the pool out of service; the budget allows {allowed}."
    return _hold(Reason.BUDGET_OUT, text)


def budget_new(recent: tuple[float, ...], limits: Limits, now: float) -> Verdict:
    """Hold a quarantine if there were max_new quarantines in the window. `recent` has their times."""
    inside = sorted(at for at in recent if at > now - limits.max_new_window)
    if len(inside) < limits.max_new:
        return ALLOWED
    free_at = inside[len(inside) - limits.max_new] + limits.max_new_window
    window = format_duration(round(limits.max_new_window))
    text = (
        f"{counted(len(inside), 'target')} {'was' if len(inside) == 1 else 'were'} quarantined in the last "
        f"{window}; the budget allows {counted(limits.max_new, 'new quarantine')} in this time. The next is "
        f"allowed at {utc(free_at)}."
    )
    return _hold(Reason.BUDGET_NEW, text, free_at)


def attempts(times: tuple[float, ...], most: int, window: float, now: float) -> Verdict:
    """Refuse a repair that was tried `most` times on the target in the last `window` seconds."""
    inside = [at for at in times if at > now - window]
    if len(inside) < most:
        return ALLOWED
    text = f"The step was tried {counted(len(inside), 'time')} on this target in the last {window:g} s, as often as the playbook allows."
    return Verdict(Ruling.REFUSE, Reason.ATTEMPTS, text)


def cooldown(times: tuple[float, ...], seconds: float, now: float) -> Verdict:
    """Hold a repair until `seconds` have passed since its last attempt on the target."""
    free_at = max(times, default=-math.inf) + seconds
    if now >= free_at:
        return ALLOWED
    text = f"The last attempt was at {utc(max(times))}; the cooldown ends at {utc(free_at)}."
    return _hold(Reason.COOLDOWN, text, free_at)


def utc(at: float) -> str:
    """Format a Unix time as the time of day in UTC."""
    minutes, seconds = divmod(int(at) % 86_400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02} UTC"


def dead_man(sensors: SensorFacts, limits: Limits) -> Verdict:
    """Hold a disruptive step if no Watchdog alert arrived for `dead_man` seconds."""
    if limits.dead_man <= 0 or sensors.watchdog_age <= limits.dead_man:
        return ALLOWED
    return _everywhere(Reason.DEAD_MAN)


def monitoring_up(sensors: SensorFacts, limits: Limits) -> Verdict:
    """Hold a disruptive step unless Prometheus responds and enough exporters of the pool are up.
    The exporter of the target's own node does not count.

    `exporters_up_percent` 0 disables the check.
    """
    if limits.exporters_up_percent <= 0:
        return ALLOWED
    if not sensors.prometheus or sensors.exporters_up is None:
        text = "Prometheus does not answer, so the health of the pool is unknown."
        return _everywhere(Reason.SENSORS_BLIND, text)
    if sensors.exporters_up * 100 >= limits.exporters_up_percent:
        return ALLOWED
    text = f"Only {sensors.exporters_up:.0%} of the pool's other exporters are up."
    return _everywhere(Reason.SENSORS_BLIND, text)


def independent_signals(seen: frozenset[str], needed: int) -> Verdict:
    """Hold a disruptive step until there are `needed` independent signals."""
    if len(seen) >= needed:
        return ALLOWED
    names = ", ".join(sorted(seen)) or "none"
    return _hold(Reason.WITNESSES, f"{needed} independent signals are needed; present: {names}.")


def held_long_enough(opened: float, limits: Limits, now: float) -> Verdict:
    """Hold a disruptive step briefly after the first alert, because further alerts may show that
    more hardware has failed."""
    if now >= opened + limits.hold:
        return ALLOWED
    return _hold(Reason.HOLD, until=opened + limits.hold)
