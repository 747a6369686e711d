"""Return the decisions about a target from the end of its drain until its return to service. Pure
functions.

These are decisions about repairs, tests, probation and scaling.
"""

from __future__ import annotations

from fleetmedic.kernel.labels import TargetKind
from fleetmedic.wording.counts import counted
from remediator.core import guards, plan, step_guards
from remediator.core.action import Effect
from remediator.core.approving import needs_approval, request_approval
from remediator.core.decision import Act, Case, Decision, Hold, Move, Wait, Widen, held
from remediator.core.ending import beyond_level, give_up, notify_once
from remediator.core.evidence import AlertStatus
from remediator.core.guards import Ruling
from remediator.core.model import OWNER, IncidentState, Level, StepRun, StepState
from remediator.core.moving import move_jobs, save_checkpoints
from remediator.core.reasons import Reason, sentence
from remediator.scaling.target import ScalingReason, desired

MOST_DOUBLINGS = 6
LONGEST_PROBATION = 86_400.0
LOOK_AGAIN = 2.0
# After a longer hold (seconds), the target is tested first: somebody may have repaired it.
FACTS_HOLD_FOR = 300.0
# A reset may itself log an event, a moment (seconds) after the cluster reports its end.
EVENT_MARGIN = 2.0
NO_REPAIR = "The playbook has no repair for this fault: manual intervention is required."


def decide_jobs_moved(case: Case) -> Decision:
    """Return the next decision in state JOBS_MOVED: notify people, then start the first repair, or
    end without one."""
    if case.incident.target.kind is TargetKind.JOB:
        failed = case.incident.reason is Reason.JOB_FAILED
        return notify_once(case, "job_failed" if failed else "closed") or Move(
            IncidentState.CLOSED, case.incident.reason, case.incident.text
        )
    if notification := notify_once(case, "opened"):
        return notification
    if not case.playbook.ladder:
        return give_up(case, Reason.LADDER_EXHAUSTED, NO_REPAIR)
    if case.level.rank < Level.REPAIR.rank:
        return beyond_level(case, tuple(rung.action for rung in case.playbook.ladder))
    if not case.facts.firing:
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    if widening := _widening(case):
        return widening
    if doubt := _confirming_test(case):
        return doubt
    onward = start_repair_from(case, 0)
    if _repairs(onward) and _stale(case, case.incident.since):
        return Move(IncidentState.VERIFYING, Reason.HELD_LONG)
    return onward


def start_repair_from(case: Case, first: int) -> Decision:
    """Return the decision to start the first repair, from index `first` on, that no guard refuses.

    If a guard holds that repair, the decision is a hold. If no repair is left, the incident is escalated.
    """
    refused, unable = "", True
    for index, rung in enumerate(case.playbook.ladder[first:], first):
        verdict = step_guards.repairs(case, rung)
        if verdict.ruling is Ruling.REFUSE:
            refused += f" The remediator does not {rung.action.would}: {verdict.text}"
            unable = unable and verdict.reason is Reason.UNSUPPORTED
            continue
        if not verdict.allows:
            return held(verdict)
        return Move(
            IncidentState.REPAIRING,
            Reason.REPAIR_STARTS,
            f"Repair {index + 1}: {rung.action.would}.",
            rung=index,
        )
    reason = Reason.UNSUPPORTED if refused and unable else Reason.LADDER_EXHAUSTED
    return give_up(case, reason, sentence(reason) + refused)


def decide_repairing(case: Case) -> Decision:
    """Return the next decision in state REPAIRING: run the current repair, or scale the workload."""
    if case.playbook.scale is not None:
        return _scaling(case)
    if case.incident.rung >= len(case.playbook.ladder):  # the playbook was shortened since
        return start_repair_from(case, case.incident.rung)
    rung = case.playbook.ladder[case.incident.rung]
    run = case.incident.last_in_state(rung.action.name)
    if run is not None and run.state is StepState.DONE:
        return Move(IncidentState.VERIFYING, Reason.REPAIRED)
    if run is not None and run.reason is Reason.EFFECT_UNKNOWN:
        return give_up(case, Reason.EFFECT_UNKNOWN, run.text)
    if run is not None:
        return start_repair_from(case, case.incident.rung + 1)
    if case.level.rank < Level.REPAIR.rank:  # it was lowered since
        return give_up(case, Reason.LEVEL)
    verdict = step_guards.repairs(case, rung)
    if verdict.ruling is Ruling.REFUSE:
        return start_repair_from(case, case.incident.rung + 1)
    if not case.facts.firing:
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    if not verdict.allows:
        return held(verdict)
    if _is_late(case):
        return Move(IncidentState.VERIFYING, Reason.HELD_LONG)
    if rung.action.whole_node and (first := _drain_node(case)):
        return first
    return Act(plan.repair(case.incident, rung), Reason.REPAIR_STARTS)


def decide_verifying(case: Case) -> Decision:
    """Return the next decision in state VERIFYING: test the target after its repair.

    A test without a result means neither healthy nor unhealthy.
    """
    run = _tested_here(case)
    if run is None:
        return _verify(case)
    if run.step.id == plan.WATCH and run.state is StepState.DONE:
        return Move(IncidentState.PROBATION, Reason.HEALTHY_IN_SERVICE, run.text, until=case.now)
    if run.step.id == plan.WATCH and case.facts.firing:
        return Move(IncidentState.QUARANTINED, Reason.NEW_ALERT)
    if run.step.id == plan.WATCH and run.reason is Reason.STEP_REFUSED:
        return _verify(case)  # an alert interrupted the test and is over now
    if run.state is StepState.DONE and _event_during(case, run):
        return start_repair_from(case, _next_rung(case))
    # Without a test under load, healthy metrics do not outweigh an active alert.
    by_metrics = run.step.id == plan.METRICS and run.state is StepState.DONE
    refuted = by_metrics and case.facts.evidence.standing is AlertStatus.ACTIVE
    if refuted and case.incident.repaired_at is None:
        return Move(IncidentState.QUARANTINED, Reason.NEW_ALERT)
    if run.state is StepState.DONE and not refuted:
        factor = 2 ** min(case.incident.recurrence, MOST_DOUBLINGS)
        probation = case.playbook.probation * (factor if case.playbook.double_on_repeat else 1)
        until = case.now + min(probation, max(LONGEST_PROBATION, case.playbook.probation))
        return Move(IncidentState.PROBATION, Reason.ON_PROBATION, until=until)
    if run.passed is None and not refuted:
        return give_up(case, Reason.UNVERIFIABLE, run.text)
    if case.level.rank < Level.REPAIR.rank:
        return give_up(case, Reason.LEVEL, run.text)
    onward = start_repair_from(case, _next_rung(case))
    old = _stale(case, run.ended or run.started)
    return _verify(case) if old and _repairs(onward) else onward


def decide_probation(case: Case) -> Decision:
    """Return the next decision in state PROBATION: wait, test once more, release the target, notify
    people, close."""
    incident = case.incident
    if incident.readmitted and not incident.quarantined:
        return notify_once(case, "closed") or Move(IncidentState.CLOSED, Reason.READMITTED)
    watched = incident.reason is Reason.HEALTHY_IN_SERVICE
    # One alert of an event may report several: the time of the latest one counts, not the alert's start.
    new_event = case.facts.event_at is not None and case.facts.event_at > incident.since
    new_alert = any(episode.starts_at > incident.since for episode in incident.alerts)
    evidence = case.facts.evidence.standing
    by_metrics = case.shape.needs_approval and not watched
    if new_event or ((new_alert or by_metrics) and evidence is AlertStatus.ACTIVE):
        # A target with running jobs is not tested under load; it is handled as if newly quarantined.
        state = IncidentState.QUARANTINED if watched else IncidentState.VERIFYING
        return Move(state, Reason.NEW_ALERT)
    if incident.until is not None and case.now < incident.until:
        return Wait(incident.until)
    verdict = step_guards.tests_or_releases(case)
    if new_alert and evidence is AlertStatus.UNKNOWN:
        # An alert that Prometheus does not confirm is no reason for a test, and none for a release.
        verdict = guards.all_of(verdict, guards.alert_active(case.facts.evidence))
    if not verdict.allows:
        return held(verdict)
    run = incident.last(plan.WATCH) if watched else _tested_here(case)
    if run is None:
        return _verify(case)
    if run.state is StepState.FAILED:
        return (
            give_up(case, Reason.UNVERIFIABLE, run.text)
            if run.passed is None
            else start_repair_from(case, _next_rung(case))
        )
    if needs_approval(case, run):
        return request_approval(case, run)
    release = case.actions.of(Effect.RELEASES)
    failed = [run for run in incident.runs(release.name) if run.state is StepState.FAILED]
    if len(failed) >= 2:
        return give_up(case, Reason.RELEASE_FAILED, failed[-1].text)
    step = plan.new_step(incident, release, plan.QUICK, also=incident.quarantined)
    return Act(step, Reason.READMITTED)


def _widening(case: Case) -> Widen | None:
    gpu = case.incident.target.kind is TargetKind.GPU
    if not gpu or case.playbook.widen_to is None or not case.facts.widens:
        return None
    node = case.incident.target.name
    if case.facts.siblings >= 1:
        return Widen(
            f"{case.facts.siblings + 1} GPUs of {node} failed at once: one incident of the node takes over."
        )
    if case.facts.exporter_down:
        return Widen(f"The exporter of {node} is down too: an incident of the node takes over.")
    return None


def _confirming_test(case: Case) -> Decision | None:
    """Return the next decision for a drained target with too few independent signals: run an active
    test.

    A failed test counts as one more signal. A passed test means that no repair is needed. None if
    the repair may start.
    """
    if len(case.facts.witnesses) >= case.playbook.witnesses:
        return None
    if case.incident.target.kind is TargetKind.NODE and case.facts.node_others:
        return held(guards.node_free(case.facts.stops, case.facts.node_others))
    if case.shape.needs_approval:
        text = "Too few independent signals, and this cluster has no test under load that could be one more."
        return give_up(case, Reason.WITNESSES, text)
    run = case.incident.last(plan.OPINION)
    asked = len(case.incident.runs(plan.OPINION))
    broken_off = run is not None and run.passed is None and run.reason is Reason.STEP_REFUSED
    # The signal that interrupted the test may not be confirmed yet; then the test is repeated.
    if run is None or (broken_off and asked < plan.MOST_TESTS):
        deadline = case.playbook.verify.deadline
        test = case.actions.of(Effect.VERIFIES)
        step = plan.new_step(case.incident, test, deadline, name=plan.OPINION)
        return Act(step, Reason.WITNESSES)
    if run.state is StepState.DONE:
        return Move(IncidentState.VERIFYING, Reason.NOTHING_TO_REPAIR)
    return None if run.passed is False else give_up(case, Reason.WITNESSES, run.text)


def _drain_node(case: Case) -> Decision | None:
    """Return the next decision to quarantine and drain the node before a reboot that repairs one GPU.

    None if the node is quarantined and has no jobs.
    """
    node = plan.node_of(case.incident.target)
    if case.facts.node_jobs and case.shape.unsupported(case.actions.of(Effect.MOVES_JOBS)):
        text = f"This cluster cannot move the jobs off {node} before a reboot."
        return give_up(case, Reason.UNSUPPORTED, text)
    if case.facts.node_quarantine_owner not in (None, OWNER):
        return held(guards.not_owned_by_others(case.facts.node_quarantine_owner))
    if any(job.running for job in case.facts.node_jobs):
        verdict = step_guards.moves_running_jobs(case)
        if verdict.reason is Reason.WITNESSES and not case.facts.alerts_active:
            # No further signal will come: the healthy jobs of the node stay, and an operator decides.
            return give_up(case, Reason.WITNESSES, verdict.text)
        if verdict.ruling is Ruling.HOLD:
            return held(verdict)
    if node not in case.incident.quarantined:
        if case.incident.runs(plan.quarantine(case.actions, case.incident, node).id):
            return give_up(case, Reason.QUARANTINE_FAILED)
        pool = case.facts.pool
        verdict = guards.all_of(
            guards.not_pinned(case.facts.stops),
            guards.budget_out("nodes", pool.nodes_out, pool.nodes, case.limits),
        )
        if not verdict.allows:
            return held(verdict)
        return Act(plan.quarantine(case.actions, case.incident, node), Reason.QUARANTINED)
    if case.facts.node_quarantine_owner is None:
        text = f"Somebody else released {node}, so the remediator does not reboot it."
        return give_up(case, Reason.RELEASED_BY_OTHERS, text)
    if case.facts.node_jobs:
        return save_checkpoints(case, case.facts.node_jobs, node) or move_jobs(
            case, case.facts.node_jobs, node
        )
    return None


def _scaling(case: Case) -> Decision:
    """Return the next scaling decision: one step at a time while the alert is active, with a
    cooldown between steps."""
    scale, load, incident = case.playbook.scale, case.facts.workload, case.incident
    assert scale is not None  # noqa: S101 - checked by decide_repairing
    action = case.actions.of(Effect.SCALES)
    runs = incident.runs(action.name)
    if runs and runs[-1].state is StepState.FAILED:
        return give_up(case, Reason.STEP_REFUSED, runs[-1].text)
    if runs and (not case.facts.firing or len(runs) >= scale.max_steps):
        return notify_once(case, "closed") or Move(IncidentState.CLOSED, Reason.RESCALED)
    shrinks = step_guards.is_scale_in(case)
    if shrinks and not case.facts.firing:
        text = f"The alert on {incident.target} ended before any replica was removed."
        return Move(IncidentState.CLOSED, Reason.ALERT_GONE, text)
    verdict = guards.all_of(
        step_guards.scales_in(case) if shrinks else step_guards.alert_driven_step(case),
        guards.target_known(case.facts.known and load is not None),
        guards.cooldown(
            tuple(
                at
                for name, on, at in case.facts.attempts
                if (name, on) == (action.name, incident.target)
            ),
            scale.cooldown,
            case.now,
        ),
    )
    if not verdict.allows:
        return held(verdict)
    assert load is not None  # noqa: S101 - `known` was checked above
    wish = desired(
        load.wanted,
        load.waiting,
        per_replica=scale.per_replica,
        minimum=load.minimum,
        maximum=load.maximum,
        step=abs(scale.step),
    )
    change = wish.replicas - load.wanted
    if change * scale.step > 0:
        step = plan.new_step(incident, action, plan.QUICK * 3, replicas=wish.replicas)
        text = f"{wish.text} From {load.wanted} to {counted(wish.replicas, 'replica')}."
        return Act(step, Reason.RESCALED, text)
    if wish.why is (ScalingReason.AT_MINIMUM if shrinks else ScalingReason.AT_MAXIMUM):
        return notify_once(case, "limit", wish.text) or Move(
            IncidentState.CLOSED, Reason.AT_LIMIT, wish.text
        )
    if wish.why is ScalingReason.UNKNOWN_DEMAND:
        return Hold(Reason.FACTS_UNKNOWN, wish.text)
    if not case.facts.firing:
        return Move(IncidentState.CLOSED, Reason.RESCALED, wish.text)
    return Wait(case.now + LOOK_AGAIN)


def _verify(case: Case) -> Decision:
    """Return the decision to test the target under load.

    If jobs run on it or may start on it, watch its metrics instead. If the cluster has no such test, metrics
    verify a target without running jobs.
    """
    incident = case.incident
    verdict = step_guards.tests_or_releases(case)
    if not verdict.allows:
        return held(verdict)
    if len(incident.runs_with(Effect.VERIFIES)) >= plan.MOST_TESTS:
        return give_up(case, Reason.TESTED_OFTEN)
    busy = any(job.running for job in case.facts.jobs)
    test = case.actions.of(Effect.VERIFIES)
    # A test of the whole node would put load on GPUs that another user or program has quarantined.
    others = incident.target.kind is TargetKind.NODE and bool(case.facts.node_others)
    open_to_jobs = OWNER not in (case.facts.quarantine_owner, case.facts.node_quarantine_owner)
    load_test = not case.shape.needs_approval
    if busy or (load_test and (open_to_jobs or others)):
        deadline = case.playbook.verify.deadline + 3 * case.limits.watch
        step = plan.new_step(incident, test, deadline, name=plan.WATCH)
        text = f"The remediator watches the metrics of {incident.target}, without a load test."
        return Act(step, Reason.STEP_ALLOWED, text)
    if not load_test:
        deadline = case.playbook.verify.deadline + 3 * case.limits.watch
        step = plan.new_step(incident, test, deadline, name=plan.METRICS)
        text = f"The remediator verifies {incident.target} by its metrics: this cluster has no test under load."
        return Act(step, Reason.STEP_ALLOWED, text)
    step = plan.new_step(incident, test, case.playbook.verify.deadline)
    return Act(step, Reason.STEP_ALLOWED, f"The remediator tests {incident.target}.")


def _event_during(case: Case, run: StepRun) -> bool:
    """Return whether an event of the repaired hardware happened during or after a test that passed.

    An event before the start of the test is ignored, because the test is newer. Later events are
    handled in probation.
    """
    repaired, event = case.incident.repaired_at, case.facts.event_at
    if repaired is None or event is None:
        return False
    return event > max(repaired + EVENT_MARGIN, run.started)


def _tested_here(case: Case) -> StepRun | None:
    """Return the latest test of the target since the incident entered its current state, or None."""
    names = (case.actions.of(Effect.VERIFIES).name, plan.WATCH, plan.METRICS)
    runs = [run for run in case.incident.counted_steps(case.incident.mark) if run.step.id in names]
    return runs[-1] if runs else None


def _next_rung(case: Case) -> int:
    """Return the index of the current repair if it was not tried yet, otherwise the index of the
    next repair."""
    ladder, rung = case.playbook.ladder, case.incident.rung
    tried = rung < len(ladder) and case.incident.runs(ladder[rung].action.name)
    return rung + 1 if tried else rung


def _repairs(decision: Decision) -> bool:
    return isinstance(decision, Move) and decision.state is IncidentState.REPAIRING


def _is_late(case: Case) -> bool:
    """Return whether the repair was chosen long ago and none of its steps has started."""
    done = case.incident.counted_steps(case.incident.mark)
    nothing = all(run.step.effect is Effect.NOTIFIES for run in done)
    return nothing and _stale(case, case.incident.since)


def _stale(case: Case, since: float) -> bool:
    """Return whether evidence from the time `since` (Unix seconds) is too old for a repair."""
    return step_guards.evidence_is_stale(case) or case.now - since > FACTS_HOLD_FOR
