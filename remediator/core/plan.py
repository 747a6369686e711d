"""Builds the steps of a playbook: which action, on what, as which attempt, under which operation id."""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.model import Incident, Level, Playbook, Rung, Step, op_id

QUICK = 10.0
# the step that tests a target about which too few witnesses speak
OPINION = "opinion"
# the step that watches the metrics of a target on which jobs run, whose alerts are over
WATCH = "watch"
RELEASE_NODE = "release:node"
# the step by which a person's order to release is carried out
ORDERED = "release:order"
NOTIFY = 15.0
MOST_TESTS = 10
REPAIRS = frozenset({"reset_gpu", "reboot_node"})
DISRUPTIVE = REPAIRS | {"restart_jobs"}

WOULD = {
    "notify": "tell people", "quarantine_gpu": "quarantine the GPU", "quarantine_node": "quarantine the node",
    "signal_checkpoint": "ask its jobs for a checkpoint", "restart_jobs": "restart its jobs elsewhere",
    "reset_gpu": "reset the GPU", "reboot_node": "reboot the node", "verify": "test it",
    "release": "re-admit it after probation", "scale": "scale the workload",
}  # fmt: skip


def node_of(target: Target) -> Target:
    """The node that a GPU or node target lies on."""
    return Target(TargetKind.NODE, target.name)


def new_step(
    incident: Incident, action: str, deadline: float, *, on: Target | None = None,
    name: str | None = None, jobs: tuple[str, ...] = (), also: tuple[Target, ...] = (),
    replicas: int | None = None,
) -> Step:  # fmt: skip
    """The next attempt of a step. `name` tells apart steps that share an action."""
    identity = name or action
    attempt = incident.attempts(identity) + 1
    operation = op_id(incident.id, identity, attempt)
    target = on or incident.target
    return Step(identity, action, target, attempt, operation, deadline, jobs, also, replicas)


def quarantine(incident: Incident, on: Target | None = None, jobs: tuple[str, ...] = ()) -> Step:
    """Keep new jobs off the target, or off the node given; `jobs` are those that were on it."""
    target = on or incident.target
    kind = "gpu" if target.kind is TargetKind.GPU else "node"
    return new_step(incident, f"quarantine_{kind}", QUICK, on=target, jobs=jobs)


def notify(incident: Incident, occasion: str) -> Step:
    """Tell people; once per occasion."""
    return new_step(incident, "notify", NOTIFY, name=f"notify:{occasion}")


def repair(incident: Incident, rung: Rung) -> Step:
    """One rung of the ladder."""
    target = node_of(incident.target) if rung.action == "reboot_node" else incident.target
    return new_step(incident, rung.action, rung.deadline, on=target)


def outline(playbook: Playbook, kind: TargetKind) -> tuple[tuple[str, Level], ...]:
    """The actions of a playbook on a kind of target, each with the level that it needs, in order."""
    steps: list[tuple[str, Level]] = []
    if playbook.quarantine:
        action = "quarantine_gpu" if kind is TargetKind.GPU else "quarantine_node"
        steps.append((action, Level.QUARANTINE))
    if playbook.jobs and playbook.jobs.signal:
        steps.append(("signal_checkpoint", Level.DRAIN))
    if playbook.jobs and playbook.jobs.restart:
        steps.append(("restart_jobs", Level.DRAIN))
    if playbook.notify:
        steps.append(("notify", Level.QUARANTINE))
    if playbook.ladder:
        steps += [(rung.action, Level.REPAIR) for rung in playbook.ladder]
        steps += [("verify", Level.REPAIR), ("release", Level.REPAIR)]
    if playbook.scale:
        steps.append(("scale", Level.REPAIR))
    return tuple(steps)
