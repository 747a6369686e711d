"""The interface of an action: it observes an effect and brings the effect about, using a cluster's verbs.

The executor, not the action, writes the journal, enforces the deadline, observes before and after, and
retries transient failures. An action therefore never checks whether it ran before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from remediator.clusters.base import Cluster
from remediator.core.guards import Verdict
from remediator.core.model import Incident, Playbook, Step
from remediator.senses import Senses


@dataclass(frozen=True, slots=True)
class Tools:
    """What an action may use for one step.

    `waited`: seconds since the step started. `heard`: whether an alert of another instrument than the
    incident's has arrived meanwhile. `accused`: whether one of the incident's alerts is firing now.
    `confirm`: checks right before the step whether it is still allowed. `alone`: whether disruptive steps
    run one at a time.
    """

    cluster: Cluster
    senses: Senses
    incident: Incident
    playbook: Playbook
    confirm: Callable[[Step], Awaitable[Verdict]]
    waited: Callable[[], float] = lambda: 0.0
    heard: Callable[[], bool] = lambda: False
    accused: Callable[[], bool] = lambda: False
    alone: Callable[[], bool] = lambda: False
    watch: float = 300.0


@dataclass(frozen=True, slots=True)
class Look:
    """An observation. `over` ends the step, successfully or not (`ok`); else `text` says what is missing.

    `passed` is the result of tests; None if there is no result.
    """

    over: bool
    text: str
    ok: bool = True
    passed: bool | None = None


class Action(Protocol):
    """An action of the remediator. The number of concurrent `disruptive` actions is limited."""

    @property
    def name(self) -> str: ...

    @property
    def disruptive(self) -> bool: ...

    async def observe(self, step: Step, tools: Tools) -> Look:
        """Check whether the effect is visible. Raises ClusterError if that cannot be checked."""
        ...

    async def act(self, step: Step, tools: Tools) -> None:
        """Bring the effect about; idempotent for the same step. Raises ClusterError."""
        ...
