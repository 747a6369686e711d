"""Puts a generated rule file live, or leaves everything as it was.

A candidate lies in the work folder until our lint and promtool have passed it. Then it replaces the
live file in one step, Prometheus reloads, and the group must really be loaded. If anything fails on
the way the former file stands again, and Prometheus is told so.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.kernel.files import write_atomic
from rules.history import Prometheus, PrometheusError
from rules.lint import lint_file

PROMTOOL_SECONDS = 20.0


class PublishError(Exception):
    """The candidate did not go live; the message says at which gate and why."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where candidates wait, where live files lie, and what checks them."""

    work_dir: Path
    rules_dir: Path
    promtool: Path


def publish(name: str, text: str, group: str, places: Places, prometheus: Prometheus) -> bool:
    """Put `text` live as NAME.yml; False when it already was. Raises PublishError.

    `group` is the group in the file that must be loaded afterwards.
    """
    live = places.rules_dir / f"{name}.yml"
    before = _content(live)
    if before == text.encode():
        return _stand(live, group, prometheus)
    _gates(_candidate(name, text, places), places.promtool)
    try:
        places.rules_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(live, text)
    except OSError as error:
        raise PublishError(f"{live} cannot be written: {error.strerror}.") from None
    try:
        prometheus.reload()
        _loaded(group, prometheus)
    except BaseException as error:
        _restore(live, before, prometheus)
        if isinstance(error, PrometheusError):
            raise PublishError(f"{error} The former {live.name} stands again.") from None
        raise
    return True


def _stand(live: Path, group: str, prometheus: Prometheus) -> bool:
    """The file is as wanted; a Prometheus that has not read it yet is told to."""
    try:
        if prometheus.rule_names(group) is not None:
            return False
        prometheus.reload()
        _loaded(group, prometheus)
    except PrometheusError as error:
        raise PublishError(f"{live.name} is as wanted, but {error}") from None
    return True


def _candidate(name: str, text: str, places: Places) -> Path:
    folder = places.work_dir / "candidates"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.yml"
        write_atomic(path, text, sync=False)
    except OSError as error:
        raise PublishError(f"{folder} cannot be written: {error.strerror}.") from None
    return path


def _gates(candidate: Path, promtool: Path) -> None:
    errors = [finding for finding in lint_file(candidate) if finding.severity == "error"]
    if errors:
        raise PublishError(f"our lint refuses it: {'; '.join(str(error) for error in errors[:3])}")
    try:
        done = subprocess.run(
            [str(promtool), "check", "rules", str(candidate)],
            capture_output=True, text=True, timeout=PROMTOOL_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PublishError(f"{promtool} could not check it: {error}.") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[-300:]
        raise PublishError(f"promtool refuses it: {said}")


def _loaded(group: str, prometheus: Prometheus) -> None:
    if prometheus.rule_names(group) is None:
        raise PrometheusError(
            f"the group {group} is not loaded: `rule_files` of Prometheus must name rules_dir/*.yml."
        )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PublishError(f"{path} cannot be read: {error.strerror}.") from None


def _restore(live: Path, before: bytes | None, prometheus: Prometheus) -> None:
    if before is None:
        live.unlink(missing_ok=True)
    else:
        write_atomic(live, before)
    try:
        prometheus.reload()
    except PrometheusError:
        pass  # it still runs what it had; the first error is the one to tell
