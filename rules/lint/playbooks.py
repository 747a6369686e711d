"""The shipped playbooks, as the linter needs them: which alerts they match, and whether they quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fleetmedic.kernel.settings import parse_yaml


@dataclass(frozen=True, slots=True)
class ShippedPlaybook:
    """The parts of a playbook file that an alert's declaration must agree with."""

    name: str
    alertnames: frozenset[str]
    quarantine: bool


@cache
def playbooks() -> Mapping[str, ShippedPlaybook]:
    """Return the shipped playbooks by name."""
    # The files only: the remediator's code reads them, and its package is not imported from here.
    folder = Path(str(files("remediator"))) / "playbooks"
    found = [_read(path) for path in sorted(folder.glob("*.yml"))]
    return {one.name: one for one in found}


def playbook_of(alertname: str) -> str | None:
    """Return the name of the shipped playbook that matches an alert by its name, or None."""
    return next((one.name for one in playbooks().values() if alertname in one.alertnames), None)


def _read(path: Path) -> ShippedPlaybook:
    raw: Any = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    match = raw.get("match") or {}
    quarantine = bool(raw.get("quarantine", False))
    return ShippedPlaybook(raw["playbook"], frozenset(match.get("alertname", ())), quarantine)
