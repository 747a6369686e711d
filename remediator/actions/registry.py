"""List the actions that playbooks can use.

A new action needs one file in this folder and one line here.
"""

from __future__ import annotations

from fleetmedic.kernel.registry import Registry
from remediator.actions.base import Action
from remediator.actions.checkpoint import SignalCheckpoint
from remediator.actions.fail_job import FailJob
from remediator.actions.notify import Notify
from remediator.actions.quarantine import GPU, NODE, QuarantineTarget
from remediator.actions.reboot_node import RebootNode
from remediator.actions.release import ReleaseTarget
from remediator.actions.reset_gpu import ResetGpu
from remediator.actions.restart_jobs import RestartJobs
from remediator.actions.scale import Scale
from remediator.actions.verify import Verify
from remediator.core.action import ActionCatalogue


def actions() -> Registry[Action]:
    """Create one instance of each action and return their registry."""
    members: tuple[Action, ...] = (
        Notify(),
        QuarantineTarget(GPU),
        QuarantineTarget(NODE),
        SignalCheckpoint(),
        RestartJobs(),
        ResetGpu(),
        RebootNode(),
        Verify(),
        ReleaseTarget(),
        Scale(),
        FailJob(),
    )
    return Registry("action", members)


def catalogue() -> ActionCatalogue:
    """Return what all actions declare about themselves."""
    return ActionCatalogue(action.spec for action in actions())
