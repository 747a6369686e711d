"""Select the guards for each type of step. Pure functions.

The engine checks the guards before it announces a step, and again right before the step starts.
"""

from __future__ import annotations

from dataclasses import replace

from fleetmedic.kernel.labels import TargetKind
from remediator.core import guards, job_failures, plan
from remediator.core.action import ActionSpec, Effect
from remediator.core.decision import Case
from remediator.core.evidence import latest_evidence, tested_sick
from remediator.core.guards import Ruling, Verdict
from remediator.core.model import OWNER, FaultClass, IncidentState, Playbook, Rung, Step
from remediator.core.reasons import Reason

# If no alert is active, an event or a failed test is sufficient evidence for this long (seconds).
EVIDENCE_HOLDS_FOR = 20.0


def evidence_is_stale(case: Case) -> bool:
    """Return whether the evidence against the target is only a past event or an old test.

    If so, the remediator tests the target before a disruptive step, because an operator may have
    repaired the target meanwhile.
    """
    if case.facts.alerts_active:
        return False
    newest = latest_evidence(case.incident, case.facts.event_at)
    return newest is not None and case.now - newest > EVIDENCE_HOLDS_FOR


def automatic_step(case: Case) -> Verdict:
    """Check the guards of every step that no operator has ordered: pause, and the lock of another
    remediator."""
    facts = case.facts
    return guards.all_of(
        guards.not_paused(facts.paused, facts.stops), guards.one_installation(facts.stops)
    )


def tests_or_releases(case: Case) -> Verdict:
    """Check the guards of a test or a release. The cluster must also know the target."""
    return guards.all_of(automatic_step(case), guards.target_known(case.facts.known))


def return_to_service(case: Case) -> Verdict:
    """Check the guards of a release that an operator approved, because no load test was possible."""
    facts = case.facts
    return guards.all_of(
        tests_or_releases(case),
        guards.same_hardware(facts.identity),
        guards.sensor_up(facts.exporter_down),
        guards.alerts_over(facts.evidence),
    )


def alert_driven_step(case: Case) -> Verdict:
    """Check the guards of any action in response to alerts, including actions that can be undone at once."""
    facts = case.facts
    return guards.all_of(
        automatic_step(case),
        guards.target_known(facts.known),
        guards.same_hardware(facts.identity),
        guards.not_withheld(facts.evidence),
    )


def planned(case: Case, action: ActionSpec) -> Verdict:
    """Refuse an action that the shape of the plan leaves out, because the cluster does not support it."""
    return guards.supported(case.shape.unsupported(action))


def quarantine(case: Case) -> Verdict:
    """Check the guards that must allow a quarantine.

    A quarantine needs no wait and no second signal, because it can be undone at once.
    """
    facts, limits = case.facts, case.limits
    if case.playbook.fault_class is FaultClass.APPLICATION:
        return Verdict(
            Ruling.REFUSE, Reason.LEVEL, "An application fault never leads to a quarantine."
        )
    gpu = case.incident.target.kind is TargetKind.GPU
    what, out, total = (
        ("GPUs", facts.pool.gpus_out, facts.pool.gpus)
        if gpu
        else ("nodes", facts.pool.nodes_out, facts.pool.nodes)
    )
    verdicts = [
        alert_driven_step(case),
        guards.not_pinned(facts.stops),
        guards.not_owned_by_others(facts.quarantine_owner),
        guards.not_owned_by_others(facts.node_quarantine_owner),
    ]
    action = case.actions.of(Effect.QUARANTINES, case.incident.target.kind)
    verdicts.append(planned(case, action))
    if not facts.recently_received:
        # An alert that an earlier process received must be confirmed first.
        verdicts.append(guards.alert_active(facts.evidence))
    if facts.quarantine_owner != OWNER and not facts.dead:
        verdicts.append(guards.budget_out(what, out, total, limits))
        verdicts.append(guards.budget_new(facts.pool.recent, limits, case.now))
    return guards.all_of(*verdicts)


def moves_dead_jobs(case: Case) -> Verdict:
    """Check the guards of restarting a dead job elsewhere. No running job is disturbed."""
    return guards.all_of(
        alert_driven_step(case),
        planned(case, case.actions.of(Effect.MOVES_JOBS)),
        guards.identified(case.facts.identity),
        guards.alert_active(case.facts.evidence),
    )


def disruptive_step(case: Case) -> Verdict:
    """Check the guards of every step that disturbs a running job, a GPU or a node."""
    facts = case.facts
    return guards.all_of(
        alert_driven_step(case),
        guards.identified(facts.identity),
        guards.alert_active(facts.evidence),
        guards.no_storm(facts.stops),
        guards.steady_clock(facts.stops, case.now),
        guards.held_long_enough(case.incident.opened, case.limits, case.now),
        guards.dead_man(facts.sensors, case.limits),
        guards.monitoring_up(facts.sensors, case.limits),
    )


def reboots(case: Case) -> Verdict:
    """Check the guards of rebooting a node, or of draining it for a reboot."""
    return guards.node_free(case.facts.stops, case.facts.node_others)


def moves_running_jobs(case: Case) -> Verdict:
    """Check the guards of restarting running jobs elsewhere."""
    whole = case.incident.target.kind is TargetKind.NODE
    return guards.all_of(
        planned(case, case.actions.of(Effect.MOVES_JOBS)),
        disruptive_step(case),
        *((reboots(case),) if whole else ()),
        guards.no_shared_stall(case.facts.stops),
        guards.independent_signals(signals(case), case.playbook.witnesses),
    )


def fails_job(case: Case, action: ActionSpec) -> Verdict:
    """Check the guards of failing a job for good: only the job itself can be the cause."""
    return guards.all_of(
        planned(case, action),
        guards.level(action.level, case.level),
        disruptive_step(case),
        guards.no_shared_stall(case.facts.stops),
        guards.cause_certain(job_failures.below_limit(case) or job_failures.doubt(case)),
    )


def signals(case: Case) -> frozenset[str]:
    """Return the independent signals about the target, including a test that failed since the last repair."""
    tested = {"the active test"} if tested_sick(case.incident) else frozenset()
    return case.facts.witnesses | tested


def repairs(case: Case, rung: Rung) -> Verdict:
    """Check the guards of one repair. Rejects a repair that the cluster cannot run or verify."""
    on = plan.repair(case.incident, rung).target
    times = tuple(
        at for name, target, at in case.facts.attempts if (name, target) == (rung.action.name, on)
    )
    return guards.all_of(
        planned(case, rung.action),
        guards.attempts(times, rung.max_attempts, rung.window, case.now),
        guards.not_paused(case.facts.paused, case.facts.stops),
        guards.cooldown(times, rung.cooldown, case.now),
        disruptive_step(case),
        *((reboots(case),) if rung.action.whole_node else ()),
    )


def any_repair_supported(case: Case) -> bool:
    """Return whether at least one repair of the playbook is in the plan."""
    return any(planned(case, rung.action).allows for rung in case.playbook.ladder)


def scales_in(case: Case) -> Verdict:
    """Check the guards that must allow the removal of replicas."""
    facts = case.facts
    return guards.all_of(
        alert_driven_step(case),
        guards.alert_active(facts.evidence),
        guards.steady_clock(facts.stops, case.now),
        guards.dead_man(facts.sensors, case.limits),
    )


def needs_facts(
    action: ActionSpec, playbook: Playbook, state: IncidentState = IncidentState.TRIAGED
) -> bool:
    """Return whether new facts must be gathered right before a step. Other steps start without them.

    `state` is the state of the incident: a release that an operator approved needs new facts.
    """
    approved = action.effect is Effect.RELEASES and state is IncidentState.AWAIT_APPROVAL
    scales = action.effect is Effect.SCALES
    shrinks = scales and playbook.scale is not None and playbook.scale.step < 0
    return action.disruptive or approved or shrinks


def level_in_force(case: Case, step: Step) -> Verdict:
    """Hold an announced step if the automation level was lowered since. An operator's order needs no level."""
    if step.id == plan.ORDERED or step.effect is Effect.NOTIFIES:
        return guards.ALLOWED
    verdict = guards.level(case.actions.named(step.action).level, case.level)
    return verdict if verdict.allows else replace(verdict, ruling=Ruling.HOLD)


def right_before(case: Case, step: Step) -> Verdict:
    """Check the guards of an announced step right before it starts.

    For the steps in `needs_facts`, the case has facts gathered for this check.
    """
    return guards.all_of(level_in_force(case, step), _guards_of(case, step))


def _guards_of(case: Case, step: Step) -> Verdict:
    if step.effect is Effect.REPAIRS:
        whole = case.actions.named(step.action).whole_node
        return guards.all_of(disruptive_step(case), *((reboots(case),) if whole else ()))
    if step.effect is Effect.MOVES_JOBS:
        seen = {job.job_id: job.running for job in (*case.facts.jobs, *case.facts.node_jobs)}
        running = any(seen.get(job, False) for job in step.jobs)
        verdict = moves_running_jobs(case) if running else moves_dead_jobs(case)
        return guards.all_of(verdict, guards.cause_certain(job_failures.no_trouble(case)))
    if step.effect is Effect.FAILS_JOBS:
        return fails_job(case, case.actions.named(step.action))
    if step.effect is Effect.SCALES and is_scale_in(case):
        return scales_in(case)
    if step.id == plan.ORDERED:
        # A pause does not hold an operator's order.
        return guards.one_installation(case.facts.stops)
    if step.effect is Effect.RELEASES and case.incident.state is IncidentState.AWAIT_APPROVAL:
        return _approved_release(case)
    return automatic_step(case)


def _approved_release(case: Case) -> Verdict:
    """Check the guards of a release in state AWAIT_APPROVAL. There is none without an approval."""
    if case.incident.approved is None:
        return Verdict(
            Ruling.HOLD, Reason.AWAIT_APPROVAL, "No operator approved the return to service."
        )
    return return_to_service(case)


def is_scale_in(case: Case) -> bool:
    """Return whether the playbook removes replicas."""
    return case.playbook.scale is not None and case.playbook.scale.step < 0
