"""The settings of the detectors: rules.yml, checked once."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load
from rules.links import DASHBOARD_BASE, RUNBOOK_BASE

SHORTEST_SCORING = 5.0


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """False alerts a day that a detector may raise over the whole fleet."""

    peer_band: float = 0.1
    gpu_covariance: float = 1.0

    def of(self, detector: str) -> float:
        """The budget of that detector; one a day for one that has no setting of its own."""
        value = getattr(self, detector, 1.0)
        assert isinstance(value, float)  # noqa: S101 - the fields above
        return value


class RulesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """rules.yml. Durations are written as in Prometheus; paths are used as given.

    `interval` lies between two runs, `refit` between two trainings (a run in between checks that the
    rules still stand), `score_every` between two scorings. `factor` divides the durations of the
    generated rules, as `rules render` does with the shipped ones.
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
    false_alerts_per_day: Budget = Budget()

    @property
    def scoring_seconds(self) -> float:
        """Seconds between two scorings, shortened with the rules that wait for the scores."""
        return max(SHORTEST_SCORING, parse_duration(self.score_every) / self.factor)

    def promtool_path(self) -> Path:
        """Where promtool is: as set, else on PATH. Raises UserError when it is nowhere."""
        found = self.promtool or shutil.which("promtool")
        if not found or not Path(found).is_file():
            raise UserError(
                f"promtool is not at {found or 'any place on PATH'}, and no generated rule goes live "
                "unchecked: set `promtool` in rules.yml."
            )
        return Path(found)


def read_settings(path: Path) -> RulesSettings:
    """Read and check rules.yml. Raises UserError naming the file and the key."""
    settings = load(path, RulesSettings)
    url = urlsplit(settings.prometheus_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserError(f"{path}: at $.prometheus_url: no URL; write http://HOST:9090.")
    if not 1 <= settings.factor <= 10_000:
        raise UserError(f"{path}: at $.factor: {settings.factor:g} is not between 1 and 10000.")
    for name, least, most in (
        ("interval", 1, 86_400), ("refit", 1, 604_800), ("score_every", 1, 3600),
        ("step", 5, 3600), ("scrape_interval", 1, 600), ("window", 600, 90 * 86_400),
    ):  # fmt: skip
        try:
            seconds = parse_duration(getattr(settings, name))
        except UserError as error:
            raise UserError(f"{path}: at $.{name}: {error}") from None
        if not least <= seconds <= most:
            raise UserError(f"{path}: at $.{name}: {seconds:g} s is not from {least} to {most} s.")
    return settings


def require_folders(settings: RulesSettings, path: Path) -> None:
    """Make the folders that rules and models go to. Raises UserError naming the key."""
    for name in ("rules_dir", "work_dir"):
        folder = Path(getattr(settings, name))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{path}: at $.{name}: {folder} cannot be made ({error.strerror}); "
                "name a folder that this user can write."
            ) from None
