"""Incidents are held or escalated, and actions fail: real remediators of the rack and of the mill."""

from __future__ import annotations

from every_alert import mill
from every_alert.fleet import Fleet
from every_alert.processes import free_port
from every_alert.story import Story
from fleetmedic.hardware.faults import inject


def _lose(fleet: Fleet, *gpus: tuple[str, int]) -> None:
    for node, gpu in gpus:
        inject(mill.hardware(fleet), node, gpu, "lost", heals_by="none")


def _store_full(fleet: Fleet) -> None:
    mill.take_quarantines(fleet, taken=False)
    _lose(fleet, ("node1", 0), ("node1", 1), ("node2", 0))


def _beyond_repair(fleet: Fleet) -> None:
    mill.take_quarantines(fleet, taken=True)
    _lose(fleet, ("node3", 0))


def _the_rest(fleet: Fleet) -> None:
    _lose(fleet, ("node2", 1), ("node3", 1))


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
        "Three GPUs of cluster mill are lost while the store of the cluster rejects quarantines.",
        {"RemediatorActionFailureRateHigh": {"cluster": "mill"}},
        _store_full, instead="a full disk: the store rejects quarantines",
    ),
    Story(
        "A GPU of cluster mill is lost, and the single reset in the site's playbook does not repair the GPU.",
        {"RemediatorIncidentEscalated": {"cluster": "mill"}},
        _beyond_repair, after=frozenset({"RemediatorActionFailureRateHigh"}),
    ),
    Story(
        "The last two GPUs of cluster mill are lost, so both GPUs of all three nodes are lost.",
        {"RemediatorStorm": {"cluster": "mill"}, "RemediatorIncidentHeldLong": {"cluster": "mill"}},
        _the_rest, after=frozenset({"RemediatorIncidentEscalated"}),
    ),
    Story(
        "An operator pauses the remediator of cluster rack and does not resume it.",
        {"RemediatorPaused": {"cluster": "rack"}},
        _paused, after=frozenset({"NotificationChannelFailing"}),
    ),
    Story(
        "A second remediator takes over the lock of cluster mill.",
        {"RemediatorNotActing": {"cluster": "mill"}},
        _second, after=frozenset({"RemediatorStorm", "RemediatorIncidentHeldLong"}),
    ),
)  # fmt: skip
