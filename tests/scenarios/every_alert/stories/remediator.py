"""The remediator waits, gives up, or may not act: real remediators of the rack and of the mill."""

from __future__ import annotations

from every_alert import mill
from every_alert.fleet import Fleet
from every_alert.processes import free_port
from every_alert.story import Story
from fleetmedic.hardware.faults import inject

# A pause stops the rack's remediator, from which another story needs actions that fail.
ACTED = frozenset({"RemediatorActionFailureRateHigh", "NotificationChannelFailing"})


def _beyond_repair(fleet: Fleet) -> None:
    inject(mill.hardware(fleet), mill.NODES[0], mill.GPUS[0], "lost", heals_by="none")


def _all_at_once(fleet: Fleet) -> None:
    for node in mill.NODES:
        for gpu in mill.GPUS:
            inject(mill.hardware(fleet), node, gpu, "lost", heals_by="none")


def _paused(fleet: Fleet) -> None:
    url = f"--url=http://127.0.0.1:{fleet.ports['remediator']}"
    token = f"--token-file={fleet.folder}/token"
    fleet.processes.ours("pause", "pause", "--reason=maintenance of a switch", url, token)


def _second(fleet: Fleet) -> None:
    fleet.processes.ours(
        "second", "remediator", "serve", f"--config={fleet.folder}/mill/remediator.yml",
        f"--web.listen-address=127.0.0.1:{free_port()}", f"--data-dir={fleet.folder}/mill/second",
        "--take-over=the other host is being replaced",
    )  # fmt: skip


STORIES = (
    Story(
        "A GPU of the mill is lost, and the one reset that the site's playbook allows does not bring it back.",
        {"RemediatorIncidentEscalated": {"cluster": "mill"}},
        _beyond_repair,
    ),
    Story(
        "All GPUs of the mill are lost at once.",
        {"RemediatorStorm": {"cluster": "mill"}, "RemediatorIncidentHeldLong": {"cluster": "mill"}},
        _all_at_once, after=frozenset({"RemediatorIncidentEscalated"}),
    ),
    Story(
        "A person pauses the rack's remediator, and forgets it.",
        {"RemediatorPaused": {"cluster": "rack"}},
        _paused, after=ACTED,
    ),
    Story(
        "A second remediator takes over the lock of the mill's cluster.",
        {"RemediatorNotActing": {"cluster": "mill"}},
        _second, after=frozenset({"RemediatorStorm", "RemediatorIncidentHeldLong"}),
    ),
)  # fmt: skip
