"""Define the interface of the remediator's actions, such as `reset_gpu`.

An action calls the cluster to cause an effect, and observes whether the effect is present. The
executor writes the journal, enforces the deadline, observes before and after each action, and
retries transient failures. An action therefore never checks whether it ran before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from remediator.clusters.base import Cluster
from remediator.core.action import ActionSpec
from remediator.core.guards import Verdict
from remediator.core.model import Incident, Playbook, Step
from remediator.senses import Senses


@dataclass(frozen=True, slots=True)
class Tools:
    """The cluster, the data sources and the callbacks that an action may use during one step.

    `waited` returns the seconds since the step started. `other_signal` returns whether an alert
    from an instrument other than the incident's has arrived since then. `alert_active` returns
    whether one of the incident's alerts is firing now. `confirm` checks right before the action
    whether the guards still allow the step. `acted` is called after each operation of the cluster,
    whether it failed or not. `one_at_a_time` returns whether disruptive steps must
    run one at a time. `addresses` is the number of addresses that receive notifications.
    """

    cluster: Cluster
    senses: Senses
    incident: Incident
    playbook: Playbook
    confirm: Callable[[Step], Awaitable[Verdict]]
    waited: Callable[[], float] = lambda: 0.0
    other_signal: Callable[[], bool] = lambda: False
    alert_active: Callable[[], bool] = lambda: False
    one_at_a_time: Callable[[], bool] = lambda: False
    acted: Callable[[], None] = lambda: None
    watch: float = 300.0
    addresses: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one check whether a step's effect is present.

    If `over` is true, the step has ended: successfully if `ok` is true, otherwise with a failure. If
    `over` is false, `text` describes the part of the effect that is still missing. `passed` is the
    result of the tests, or None if there is no result.
    """

    over: bool
    text: str
    ok: bool = True
    passed: bool | None = None


class Action(Protocol):
    """One kind of step that the remediator can run. Implementations inherit from this class."""

    @property
    def spec(self) -> ActionSpec:
        """The declaration of the action, by which the core decides."""
        ...

    @property
    def name(self) -> str:
        """Return the action's name in playbooks, the journal and metrics."""
        return self.spec.name

    async def observe(self, step: Step, tools: Tools) -> Observation:
        """Check whether the action's effect is present on the target.

        Raises ClusterError if this check fails.
        """
        ...

    async def act(self, step: Step, tools: Tools) -> None:
        """Cause the action's effect on the cluster. A repeated call for the same step changes nothing.

        Raises ClusterError.
        """
        ...
