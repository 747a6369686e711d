"""Return the decisions for incidents that need an operator, or that end on an operator's order.
Pure functions."""

from __future__ import annotations

from remediator.core import guards, plan, step_guards
from remediator.core.action import ActionSpec, Effect
from remediator.core.decision import Act, Case, Decision, Hold, Move, Rehearse, Wait, held
from remediator.core.model import OWNER, IncidentState, Level, StepState
from remediator.core.reasons import Reason, sentence


def give_up(case: Case, reason: Reason, text: str = "") -> Decision:
    """Stop automatic actions, because an operator must act.

    An incident with quarantined targets becomes ESCALATED and stays open. Other incidents become FAILED.
    """
    if case.incident.quarantined:
        return Move(IncidentState.ESCALATED, reason, text)
    return notify_once(case, "failed", text or sentence(reason)) or Move(
        IncidentState.FAILED, reason, text
    )


def notify_once(case: Case, occasion: str, text: str = "") -> Decision | None:
    """Return the step that sends the notification about `occasion`, such as `escalated`.

    None if people were already notified of it, or if the playbook does not notify.
    """
    if not case.playbook.notify or case.incident.last(plan.notification(occasion)) is not None:
        return None
    return Act(
        plan.notify(case.actions, case.incident, occasion),
        Reason.STEP_ALLOWED,
        text or "People are to be notified.",
    )


def beyond_level(case: Case, actions: tuple[ActionSpec, ...]) -> Decision:
    """Return the next decision for an incident whose remaining steps the automation level does not allow.

    The decisions are, in this order: record the steps that are not allowed, notify people, and wait
    for an operator. When every alert is resolved, verify whether an operator repaired the target.
    """
    if not case.incident.rehearsed:
        return Rehearse(actions, Reason.LEVEL)
    if notification := notify_once(case, "level"):
        return notification
    if not case.facts.firing:
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    return Wait()


def decide_escalated(case: Case) -> Decision:
    """Return the next decision in state ESCALATED: notify people once, then wait for an operator.

    If a GPU could not be repaired, its node is released for its other GPUs. The node stays
    quarantined if the outcome of its reboot is unknown.
    """
    if notification := notify_once(case, "escalated"):
        return notification
    if _healthy_later(case):
        return Move(IncidentState.VERIFYING, Reason.ALERT_GONE)
    node = plan.node_of(case.incident.target)
    if case.incident.target.gpu is None or node not in case.facts.kept:
        return Wait()
    if case.incident.reason is Reason.EFFECT_UNKNOWN or case.facts.exporter_down:
        return Wait()
    release = case.actions.of(Effect.RELEASES)
    name = plan.step_on_node(release)
    runs = case.incident.runs(name)
    if len([run for run in runs if run.state is StepState.FAILED]) >= 2:
        return Wait()
    verdict = step_guards.tests_or_releases(case)
    if not verdict.allows:
        return held(verdict)
    step = plan.new_step(case.incident, release, plan.QUICK, on=node, name=name, also=(node,))
    text = f"{node} returns to service; {case.incident.target} stays quarantined: an operator is needed."
    return Act(step, Reason.READMITTED, text)


def _healthy_later(case: Case) -> bool:
    """Return whether to test the target again, because its alerts are over.

    True for a target without a test result (UNVERIFIABLE), or with too few signals and no repair so far.
    """
    incident = case.incident
    unseen = incident.reason is Reason.UNVERIFIABLE
    doubt = unseen or (incident.reason is Reason.WITNESSES and incident.repaired_at is None)
    waited = case.now - incident.since >= case.limits.watch
    few = len(incident.runs_with(Effect.VERIFIES)) < plan.MOST_TESTS
    kept = incident.target in incident.quarantined
    return doubt and kept and waited and few and not case.facts.firing


def decide_release(case: Case) -> Decision:
    """Return the next decision after an operator's release order: release every target that the
    incident quarantined."""
    incident = case.incident
    order = incident.released
    text = f"{order.by}: {order.why}" if order else ""
    if not incident.quarantined or (
        case.facts.known and case.facts.quarantine_owner != OWNER and not case.facts.kept
    ):
        return Move(IncidentState.OVERRIDDEN, Reason.RELEASED_BY_PERSON, text)
    verdict = guards.all_of(
        guards.one_installation(case.facts.stops), guards.target_known(case.facts.known)
    )
    if not verdict.allows:
        return held(verdict)
    failed = [run for run in incident.runs(plan.ORDERED) if run.state is StepState.FAILED]
    if len(failed) >= 2 and incident.state is not IncidentState.ESCALATED:
        return Move(IncidentState.ESCALATED, Reason.RELEASE_FAILED, failed[-1].text)
    if len(failed) >= 2:
        return Wait()
    release = case.actions.of(Effect.RELEASES)
    step = plan.new_step(
        incident, release, plan.QUICK, name=plan.ORDERED, also=incident.quarantined
    )
    return Act(step, Reason.RELEASED_BY_PERSON, text)


def notify_long_hold(case: Case, decision: Decision) -> Decision:
    """Return a notification, once per reason, if the decision is a long hold; otherwise the decision.

    If a hold affects many incidents, it contains a `group`; `notices` sends one message for the
    group instead.
    """
    incident = case.incident
    if not isinstance(decision, Hold) or decision.group or incident.level is Level.OBSERVE:
        return decision
    if incident.held is not decision.reason or incident.held_since is None:
        return decision
    if case.now - incident.held_since < case.limits.notice:
        return decision
    return notify_once(case, f"held-{decision.reason}", decision.text) or decision
