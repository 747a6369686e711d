"""Load and validate the playbooks of the package and of the user, in matching order.

A user's playbook replaces a packaged playbook of the same name. Playbooks with alert names come
before playbooks that match any alert. Otherwise the user's playbooks come first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec

from fleetmedic.alerting.reports import AlertReport, declared
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import TargetKind
from fleetmedic.kernel.settings import load
from remediator.actions.registry import catalogue
from remediator.core.action import ActionSpec
from remediator.core.model import (
    FaultClass,
    JobsPlan,
    Level,
    Playbook,
    Rung,
    ScalePlan,
    VerifyPlan,
)

ACTIONS = catalogue()
_MOST = re.compile(r"([1-9]\d{0,3})/(.+)")


class MatchFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The alerts that a playbook matches: any of the names, and all of the labels.

    An empty list of names matches every name.
    """

    alertname: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class JobsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `jobs` of a playbook: how the jobs on the target are handled."""

    signal: bool = False
    restart: bool = True
    grace: str = "10s"
    deadline: str = "1m"
    max: str = "2/1h"
    then: str = ""


class RungFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a playbook's `ladder`: a repair and its limits."""

    do: str
    deadline: str = "5m"
    max: str = "2/24h"
    cooldown: str = "10m"


class VerifyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `verify` of a playbook: the tests after a repair."""

    tests: tuple[Literal["probe", "metrics"], ...] = ("probe", "metrics")
    passes: int = 2
    deadline: str = "2m"


class ReadmitFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `readmit` of a playbook: the probation before the target returns to service."""

    probation: str = "15m"
    double_on_repeat: bool = True


class ScaleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The section `scale` of a playbook: how a workload is scaled."""

    step: int = 1
    per_replica: float = 4.0
    cooldown: str = "3m"
    max_steps: int = 20


class PlaybookFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of one file in playbooks/*.yml."""

    playbook: str
    match: MatchFile
    summary: str = ""
    target: TargetKind | None = None
    fault: FaultClass = msgspec.field(default=FaultClass.HARDWARE, name="class")
    level: Level = Level.REPAIR
    quarantine: bool = False
    witnesses: int = 1
    widen_to: str | None = None
    jobs: JobsFile | None = None
    ladder: tuple[RungFile, ...] = ()
    verify: VerifyFile = VerifyFile()
    readmit: ReadmitFile = ReadmitFile()
    notify: bool = True
    scale: ScaleFile | None = None
    dead_man_signal: bool = False


def load_library(folders: Iterable[Path], factor: float = 1.0) -> tuple[Playbook, ...]:
    """Load all playbooks in matching order.

    Raises UserError with the file name and the invalid key's path.
    """
    own = [read_playbook(path, factor) for folder in folders for path in _files(folder)]
    names = [playbook.name for playbook in own]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"playbook_dirs: duplicate playbook name {twice!r}; rename one of them.")
    shipped = [
        playbook
        for path in _files(Path(str(files("remediator"))) / "playbooks")
        if (playbook := read_playbook(path, factor)).name not in names
    ]
    found = sorted(own + shipped, key=lambda playbook: not playbook.alertnames)
    for playbook in found:
        _check_widening(playbook, found)
    return tuple(found)


def read_playbook(path: Path, factor: float = 1.0) -> Playbook:
    """Read one playbook. `factor` divides its long durations. Raises UserError."""
    raw = load(path, PlaybookFile)
    read = _PlaybookParser(str(path), factor)
    playbook = Playbook(
        name=raw.playbook,
        alertnames=raw.match.alertname,
        labels=tuple(sorted(raw.match.labels.items())),
        target=raw.target,
        fault_class=raw.fault,
        level=raw.level,
        quarantine=raw.quarantine,
        witnesses=raw.witnesses,
        widen_to=raw.widen_to,
        jobs=read.jobs(raw.jobs),
        ladder=tuple(read.rung(n, rung) for n, rung in enumerate(raw.ladder)),
        verify=VerifyPlan(
            tuple(raw.verify.tests),
            raw.verify.passes,
            read.seconds(raw.verify.deadline, "verify.deadline"),
        ),
        probation=read.long(raw.readmit.probation, "readmit.probation"),
        double_on_repeat=raw.readmit.double_on_repeat,
        notify=raw.notify,
        scale=read.scale(raw.scale),
        dead_man_signal=raw.dead_man_signal,
    )
    if problem := _problem(playbook):
        raise UserError(f"{path}: {problem}")
    return playbook


class _PlaybookParser:
    """Parses durations and counts of a playbook. Errors contain the path in the file."""

    def __init__(self, where: str, factor: float) -> None:
        self._where = where
        self._factor = factor

    def seconds(self, text: str, place: str) -> float:
        try:
            return parse_duration(text)
        except UserError as error:
            raise UserError(f"{self._where}: at $.{place}: {error}") from None

    def long(self, text: str, place: str) -> float:
        return self.seconds(text, place) / self._factor

    def most(self, text: str, place: str) -> tuple[int, float]:
        match = _MOST.fullmatch(text)
        if match is None:
            raise UserError(f"{self._where}: at $.{place}: expected COUNT/DURATION, such as 2/24h.")
        return int(match[1]), self.long(match[2], place)

    def jobs(self, raw: JobsFile | None) -> JobsPlan | None:
        if raw is None:
            return None
        most, window = self.most(raw.max, "jobs.max")
        grace = self.seconds(raw.grace, "jobs.grace")
        deadline = self.seconds(raw.deadline, "jobs.deadline")
        then = self.last_resort(raw.then, "jobs.then") if raw.then else None
        return JobsPlan(raw.signal, raw.restart, grace, deadline, most, window, then)

    def rung(self, number: int, raw: RungFile) -> Rung:
        place = f"ladder[{number}]"
        most, window = self.most(raw.max, f"{place}.max")
        deadline = self.seconds(raw.deadline, f"{place}.deadline")
        cooldown = self.long(raw.cooldown, f"{place}.cooldown")
        return Rung(self.repair(raw.do, f"{place}.do"), deadline, most, window, cooldown)

    def repair(self, name: str, place: str) -> ActionSpec:
        """Return the registered repair of that name."""
        return self._action(name, place, ACTIONS.repairs())

    def last_resort(self, name: str, place: str) -> ActionSpec:
        """Return the registered action of that name that ends a job."""
        return self._action(name, place, ACTIONS.last_resorts())

    def _action(self, name: str, place: str, valid: Iterable[ActionSpec]) -> ActionSpec:
        found = {action.name: action for action in valid}
        if name in found:
            return found[name]
        raise UserError(
            f"{self._where}: at $.{place}: expected one of: {', '.join(found)}; got {name[:80]!r}."
        )

    def scale(self, raw: ScaleFile | None) -> ScalePlan | None:
        if raw is None:
            return None
        cooldown = self.long(raw.cooldown, "scale.cooldown")
        return ScalePlan(raw.step, raw.per_replica, cooldown, raw.max_steps)


def _problem(playbook: Playbook) -> str | None:
    """Return why a playbook is invalid or unsafe, with the path in the file; None if it is valid."""
    hardware = playbook.target in (TargetKind.GPU, TargetKind.NODE)
    rungs = {rung.action.name: rung.action for rung in playbook.ladder}
    jobs = playbook.jobs
    unfit = next((name for name, one in rungs.items() if playbook.target not in one.targets), "")
    checks = (
        (not playbook.name, "at $.playbook: expected a name."),
        (
            playbook.quarantine and playbook.fault_class is FaultClass.APPLICATION,
            "at $.quarantine: class application does not allow a quarantine; remove it.",
        ),
        (
            # Of other alerts, only the label is known: routing leaves out the playbook for them.
            playbook.quarantine
            and any(
                declared(name, "") is AlertReport.APPLICATION_ERROR for name in playbook.alertnames
            ),
            "at $.match.alertname: alerts on application XIDs (13, 31, 43, 45) do not allow a quarantine; remove them.",
        ),
        (
            playbook.quarantine and not playbook.alertnames,
            "at $.match.alertname: expected alert names, which quarantine: true requires.",
        ),
        (
            (playbook.quarantine or bool(rungs)) and not hardware,
            "at $.target: expected gpu or node, which quarantine and ladder require.",
        ),
        (
            jobs is not None
            and jobs.then is not None
            and (playbook.target not in jobs.then.targets or not jobs.restart),
            "at $.jobs.then: requires target: job and restart: true.",
        ),
        (bool(rungs) and not playbook.quarantine, "at $.ladder: repairs require quarantine: true."),
        (
            bool(unfit),
            f"at $.ladder: {unfit} cannot act on target: {playbook.target}; remove it.",
        ),
        (len(rungs) < len(playbook.ladder), "at $.ladder: duplicate repair; remove one of them."),
        (
            playbook.scale is not None and playbook.target is not TargetKind.WORKLOAD,
            "at $.scale: scale requires target: workload.",
        ),
        (
            playbook.scale is not None
            and (playbook.scale.step == 0 or playbook.scale.per_replica <= 0),
            "at $.scale: expected a step other than 0 and a per_replica above 0.",
        ),
        (not 1 <= playbook.verify.passes <= 20, "at $.verify.passes: expected 1 to 20."),
        (not playbook.verify.tests, "at $.verify.tests: expected probe, metrics or both."),
        (not 1 <= playbook.witnesses <= 5, "at $.witnesses: expected 1 to 5."),
    )
    return next((sentence for wrong, sentence in checks if wrong), None)


def _check_widening(playbook: Playbook, found: list[Playbook]) -> None:
    if playbook.widen_to is None:
        return
    wider = next((one for one in found if one.name == playbook.widen_to), None)
    if wider is None or wider.target is not TargetKind.NODE:
        raise UserError(
            f"playbook {playbook.name}: at $.widen_to: playbook {playbook.widen_to!r} does not "
            "exist or does not have target: node."
        )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        what = "not a directory" if folder.exists() else "directory not found"
        raise UserError(f"{folder}: {what}; correct playbook_dirs.")
    return sorted(folder.glob("*.yml"))
