"""The settings of the detectors: rules.yml, validated when it is read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load
from fleetmedic.kernel.urls import check_base_url, check_public_url
from rules.links import DASHBOARD_BASE, RUNBOOK_BASE

SHORTEST_SCORING = 5.0
MOST_FALSE_ALERTS = 1e6


class RulesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings in rules.yml. Durations use the Prometheus format. Paths are used unchanged.

    `interval` is the time between two runs, `refit` the time between two fits, and `score_every`
    the time between two scorings. A run without a fit checks that the rules are still loaded.
    `factor` divides the durations of the generated rules, like `rules render --factor`.
    `false_alerts_per_day` replaces the budget that a detector declares, by the detector's name.
    """

    prometheus_url: str
    rules_dir: str
    work_dir: str
    interval: str = "60s"
    window: str = "24h"
    step: str = "30s"
    factor: float = 1.0
    promtool: str = ""
    runbook_base: str = RUNBOOK_BASE
    dashboard_base: str = DASHBOARD_BASE
    refit: str = "1h"
    score_every: str = "10s"
    scrape_interval: str = "5s"
    false_alerts_per_day: dict[str, float] = {}

    @property
    def scoring_seconds(self) -> float:
        """Seconds between two scorings, divided by `factor` like the rules that use the scores."""
        return max(SHORTEST_SCORING, parse_duration(self.score_every) / self.factor)

    def promtool_path(self) -> Path:
        """Return the path of promtool: from the settings, otherwise from PATH. Raises UserError if
        it is missing."""
        found = self.promtool or shutil.which("promtool")
        if not found or not Path(found).is_file():
            raise UserError(
                f"promtool not found ({found or 'not on PATH'}). Generated rules must be checked before "
                "they are loaded: set `promtool` in rules.yml."
            )
        return Path(found)


def read_settings(path: Path) -> RulesSettings:
    """Read and validate rules.yml. Raises UserError with the file and the key."""
    settings = load(path, RulesSettings)
    _check_budgets(settings.false_alerts_per_day, f"{path}: at $.false_alerts_per_day")
    check_base_url(settings.prometheus_url, f"{path}: at $.prometheus_url")
    for name in ("runbook_base", "dashboard_base"):
        check_public_url(getattr(settings, name), f"{path}: at $.{name}")
    if not 1 <= settings.factor <= 10_000:
        raise UserError(f"{path}: at $.factor: expected 1 to 10000, got {settings.factor:g}.")
    for name, least, most in (
        ("interval", 1, 86_400),
        ("refit", 1, 604_800),
        ("score_every", 1, 3600),
        ("step", 5, 3600),
        ("scrape_interval", 1, 600),
        ("window", 600, 90 * 86_400),
    ):
        try:
            seconds = parse_duration(getattr(settings, name))
        except UserError as error:
            raise UserError(f"{path}: at $.{name}: {error}") from None
        if not least <= seconds <= most:
            raise UserError(
                f"{path}: at $.{name}: expected {least} s to {most} s, got {seconds:g} s."
            )
    return settings


def _check_budgets(budgets: Mapping[str, float], place: str) -> None:
    # Imported here, because detectors need large libraries.
    from rules.detectors.registry import DETECTORS

    for name, budget in budgets.items():
        if name not in DETECTORS.names():
            known = ", ".join(DETECTORS.names())
            raise UserError(f"{place}: unknown detector {name[:80]!r}; expected one of: {known}.")
        if not 0 < budget <= MOST_FALSE_ALERTS:
            raise UserError(
                f"{place}.{name}: expected a number above 0 and at most {MOST_FALSE_ALERTS:g}, got {budget:g}."
            )


def require_folders(settings: RulesSettings, path: Path) -> None:
    """Create the directories for rules and models. Raises UserError with the key."""
    for name in ("rules_dir", "work_dir"):
        folder = Path(getattr(settings, name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{path}: at $.{name}: cannot create {folder} ({error.strerror}). "
                "Set a directory that this user can write to."
            ) from None
