"""Build the steps of a playbook, with action, target, attempt number and operation id."""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.model import Incident, Level, Playbook, Rung, Step, op_id

QUICK = 10.0
# the step that tests a target for which there are too few independent signals
OPINION = "opinion"
# the step that watches the metrics of a target whose alerts are over and on which jobs run
WATCH = "watch"
RELEASE_NODE = "release:node"
# the step that carries out an operator's release order
ORDERED = "release:order"
NOTIFY = 15.0
MOST_TESTS = 10
REPAIRS = frozenset({"reset_gpu", "reboot_node"})
DISRUPTIVE = REPAIRS | {"restart_jobs"}

# The automation level that each action needs. Actions that are not listed need QUARANTINE.
NEEDED_LEVEL = {
    "signal_checkpoint": Level.DRAIN,
    "restart_jobs": Level.DRAIN,
    "reset_gpu": Level.REPAIR,
    "reboot_node": Level.REPAIR,
    "scale": Level.REPAIR,
}

WOULD = {
    "notify": "notify people",
    "quarantine_gpu": "quarantine the GPU",
    "quarantine_node": "quarantine the node",
    "signal_checkpoint": "signal its jobs to write a checkpoint",
    "restart_jobs": "restart its jobs elsewhere",
    "reset_gpu": "reset the GPU",
    "reboot_node": "reboot the node",
    "verify": "test it",
    "release": "re-admit it after probation",
    "scale": "scale the workload",
}


def node_of(target: Target) -> Target:
    """Return the node of a GPU target, or the node target itself."""
    return Target(TargetKind.NODE, target.name)


def new_step(
    incident: Incident,
    action: str,
    deadline: float,
    *,
    on: Target | None = None,
    name: str | None = None,
    jobs: tuple[str, ...] = (),
    also: tuple[Target, ...] = (),
    replicas: int | None = None,
) -> Step:
    """Return the next attempt of a step. `name` distinguishes steps with the same action."""
    identity = name or action
    attempt = incident.attempts(identity) + 1
    operation = op_id(incident.id, identity, attempt)
    target = on or incident.target
    return Step(identity, action, target, attempt, operation, deadline, jobs, also, replicas)


def quarantine(incident: Incident, on: Target | None = None, jobs: tuple[str, ...] = ()) -> Step:
    """Return the step that quarantines `on`, or the target if `on` is not given. `jobs` are the
    jobs that run on it."""
    target = on or incident.target
    kind = "gpu" if target.kind is TargetKind.GPU else "node"
    return new_step(incident, f"quarantine_{kind}", QUICK, on=target, jobs=jobs)


def notify(incident: Incident, occasion: str) -> Step:
    """Return the step that sends the notification about `occasion`, such as `escalated`."""
    return new_step(incident, "notify", NOTIFY, name=f"notify:{occasion}")


def repair(incident: Incident, rung: Rung) -> Step:
    """Return the step for one repair of the playbook's `ladder`."""
    target = node_of(incident.target) if rung.action == "reboot_node" else incident.target
    return new_step(incident, rung.action, rung.deadline, on=target)


def needed_level(action: str) -> Level:
    """Return the automation level that an action needs."""
    return NEEDED_LEVEL.get(action, Level.QUARANTINE)


def outline(playbook: Playbook, kind: TargetKind) -> tuple[tuple[str, Level], ...]:
    """Return the actions of a playbook for a type of target, in order, each with the level that it needs."""
    actions: list[str] = []
    if playbook.quarantine:
        actions.append("quarantine_gpu" if kind is TargetKind.GPU else "quarantine_node")
    if playbook.jobs and playbook.jobs.signal:
        actions.append("signal_checkpoint")
    if playbook.jobs and playbook.jobs.restart:
        actions.append("restart_jobs")
    if playbook.notify:
        actions.append("notify")
    actions += [rung.action for rung in playbook.ladder]
    steps = [(action, needed_level(action)) for action in actions]
    if playbook.ladder:
        steps += [("verify", Level.REPAIR), ("release", Level.REPAIR)]
    if playbook.scale:
        steps.append(("scale", needed_level("scale")))
    return tuple(steps)
