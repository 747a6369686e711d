"""Build the steps of a playbook, with action, target, attempt number and operation id."""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.action import HARDWARE, ActionCatalogue, ActionSpec, Effect, Level
from remediator.core.model import Incident, Playbook, Rung, Step, op_id

QUICK = 10.0
# Steps with an id of their own. The id of any other step is the name of its action.
# the step that tests a target for which there are too few independent signals
OPINION = "opinion"
# the step that watches the metrics of a target whose alerts are over and on which jobs run
WATCH = "watch"
# the step that verifies a target by its metrics, because the cluster has no test under load
METRICS = "metrics"
# the step that carries out an operator's release order
ORDERED = "release:order"
NOTIFY = 15.0
MOST_TESTS = 10


def node_of(target: Target) -> Target:
    """Return the node of a GPU target, or the node target itself."""
    return Target(TargetKind.NODE, target.name)


def new_step(
    incident: Incident,
    action: ActionSpec,
    deadline: float,
    *,
    on: Target | None = None,
    name: str | None = None,
    jobs: tuple[str, ...] = (),
    also: tuple[Target, ...] = (),
    replicas: int | None = None,
) -> Step:
    """Return the next attempt of a step. `name` distinguishes steps with the same action."""
    identity = name or action.name
    attempt = incident.attempts(identity) + 1
    operation = op_id(incident.id, identity, attempt)
    target = on or incident.target
    return Step(
        identity,
        action.name,
        action.effect,
        target,
        attempt,
        operation,
        deadline,
        jobs,
        also,
        replicas,
    )


def quarantine(
    actions: ActionCatalogue,
    incident: Incident,
    on: Target | None = None,
    jobs: tuple[str, ...] = (),
) -> Step:
    """Return the step that quarantines `on`, or the target if `on` is not given. `jobs` are the
    jobs that run on it."""
    target = on or incident.target
    action = actions.of(Effect.QUARANTINES, target.kind)
    return new_step(incident, action, QUICK, on=target, jobs=jobs)


def notify(actions: ActionCatalogue, incident: Incident, occasion: str) -> Step:
    """Return the step that sends the notification about `occasion`, such as `escalated`."""
    action = actions.of(Effect.NOTIFIES)
    return new_step(incident, action, NOTIFY, name=notification(occasion))


def step_on_node(action: ActionSpec) -> str:
    """Return the id of a step that acts on the node of the incident's GPU."""
    return f"{action.name}:node"


def notification(occasion: str) -> str:
    """Return the id of the step that sends the notification about `occasion`."""
    return f"notify:{occasion}"


def repair(incident: Incident, rung: Rung) -> Step:
    """Return the step for one repair of the playbook's `ladder`."""
    target = node_of(incident.target) if rung.action.whole_node else incident.target
    return new_step(incident, rung.action, rung.deadline, on=target)


def outline(
    actions: ActionCatalogue, playbook: Playbook, kind: TargetKind
) -> tuple[tuple[ActionSpec, Level], ...]:
    """Return the actions of a playbook for a type of target, in order, each with the level that it needs.

    A test and a release end every quarantine at any level; as planned steps they follow a repair.
    """
    chosen: list[ActionSpec] = []
    if playbook.quarantine and kind in HARDWARE:
        chosen.append(actions.of(Effect.QUARANTINES, kind))
    if playbook.jobs and playbook.jobs.signal:
        chosen.append(actions.of(Effect.SAVES))
    if playbook.jobs and playbook.jobs.restart:
        chosen.append(actions.of(Effect.MOVES_JOBS))
    if playbook.notify:
        chosen.append(actions.of(Effect.NOTIFIES))
    if playbook.jobs and playbook.jobs.then:
        chosen.append(playbook.jobs.then)
    chosen += [rung.action for rung in playbook.ladder]
    steps = [(action, action.level) for action in chosen]
    if playbook.ladder:
        ends = (Effect.VERIFIES, Effect.RELEASES)
        steps += [(actions.of(effect), Level.REPAIR) for effect in ends]
    if playbook.scale:
        scale = actions.of(Effect.SCALES)
        steps.append((scale, scale.level))
    return tuple(steps)
