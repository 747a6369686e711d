"""What an action is: something to look for, and something to do. It composes verbs of a cluster.

The frame, not the action, writes the journal, keeps the deadline, looks first, repeats what failed
for the moment, and looks again. An action therefore never asks whether it was run before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from remediator.clusters.base import Cluster
from remediator.core.model import Incident, Playbook, Step
from remediator.senses import Senses


class Notifier(Protocol):
    """Tells people about an incident. Raises ClusterError where nobody could be reached."""

    async def tell(self, incident: Incident, occasion: str, op_id: str) -> str:
        """Tell them, and say in a sentence whom."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What an action may use for one step. `waited` says for how long (seconds) it has gone on,
    `heard` whether an alert of another sensor than the incident's has come meanwhile, `paused` whether a person
    stopped every action.
    """

    cluster: Cluster
    senses: Senses
    notifier: Notifier
    incident: Incident
    playbook: Playbook
    waited: Callable[[], float]
    heard: Callable[[], bool] = lambda: False
    paused: Callable[[], bool] = lambda: False


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
