"""What an action is: something to look for, and something to do. It composes verbs of a cluster.

The frame, not the action, writes the journal, keeps the deadline, looks first, repeats what failed
for the moment, and looks again. An action therefore never asks whether it was run before.
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

    `waited` says for how long (seconds) it has gone on since it was begun, `heard` whether an alert of
    another instrument than the incident's has come meanwhile, `accused` whether one of the incident's
    alerts fires now. `confirm` is asked right before the step is done: may it be done now? `alone`:
    disruptive steps go one at a time.
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
    """What was seen. `over` ends the step, well or not (`ok`); else `text` says what is missing.

    `passed` is the result of tests: None while, or because, nothing could tell.
    """

    over: bool
    text: str
    ok: bool = True
    passed: bool | None = None


class Action(Protocol):
    """A verb of the remediator. `disruptive` ones are few at a time, and never repeated blindly."""

    @property
    def name(self) -> str: ...

    @property
    def disruptive(self) -> bool: ...

    async def observe(self, step: Step, tools: Tools) -> Look:
        """Look whether the effect is there. Raises ClusterError when that cannot be seen."""
        ...

    async def act(self, step: Step, tools: Tools) -> None:
        """Bring the effect about; harmless when repeated with the same step. Raises ClusterError."""
        ...
