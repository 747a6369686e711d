"""Publishes a generated rule file to Prometheus. If a step fails, the previous file stays loaded.

A candidate file stays in the work directory until `rules lint` and promtool accept it. Then it
replaces the live file atomically, Prometheus reloads, and the group must be loaded. If a step
fails, the previous file is restored and Prometheus reloads again.
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
    """The exception for a rule file that was not published. Contains the failed step and the reason."""


@dataclass(frozen=True, slots=True)
class PublishPaths:
    """The directories of candidate files and of live files, and the path of promtool."""

    work_dir: Path
    rules_dir: Path
    promtool: Path


def publish(name: str, text: str, group: str, paths: PublishPaths, prometheus: Prometheus) -> bool:
    """Publish `text` as NAME.yml. Returns False if nothing changed. Raises PublishError.

    `group` is the rule group that must be loaded afterwards.
    """
    live = paths.rules_dir / f"{name}.yml"
    before = _content(live)
    if before == text.encode():
        return _reload_unless_loaded(live, group, prometheus)
    _check_candidate(_write_candidate(name, text, paths), paths.promtool)
    try:
        paths.rules_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(live, text)
    except OSError as error:
        raise PublishError(f"cannot write {live}: {error.strerror}.") from None
    try:
        prometheus.reload()
        _require_loaded(group, prometheus)
    except BaseException as error:
        _restore(live, before, prometheus)
        if isinstance(error, PrometheusError):
            raise PublishError(f"{error} The previous {live.name} was restored.") from None
        raise
    return True


def _reload_unless_loaded(live: Path, group: str, prometheus: Prometheus) -> bool:
    """Reload Prometheus if it has not loaded the group of the unchanged file. Returns whether it reloaded."""
    try:
        if prometheus.rule_names(group) is not None:
            return False
        prometheus.reload()
        _require_loaded(group, prometheus)
    except PrometheusError as error:
        raise PublishError(f"{live.name} is up to date but not loaded: {error}") from None
    return True


def _write_candidate(name: str, text: str, paths: PublishPaths) -> Path:
    folder = paths.work_dir / "candidates"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.yml"
        write_atomic(path, text, sync=False)
    except OSError as error:
        raise PublishError(f"cannot write to {folder}: {error.strerror}.") from None
    return path


def _check_candidate(candidate: Path, promtool: Path) -> None:
    errors = [finding for finding in lint_file(candidate) if finding.severity == "error"]
    if errors:
        raise PublishError(f"rules lint failed: {'; '.join(str(error) for error in errors[:3])}")
    try:
        done = subprocess.run(
            [str(promtool), "check", "rules", str(candidate)],
            capture_output=True,
            text=True,
            timeout=PROMTOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PublishError(f"cannot run {promtool}: {error}.") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[-300:]
        raise PublishError(f"promtool check rules failed: {said}")


def _require_loaded(group: str, prometheus: Prometheus) -> None:
    if prometheus.rule_names(group) is None:
        raise PrometheusError(
            f"rule group {group} is not loaded: add rules_dir/*.yml to `rule_files` of Prometheus."
        )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PublishError(f"cannot read {path}: {error.strerror}.") from None


def _restore(live: Path, before: bytes | None, prometheus: Prometheus) -> None:
    if before is None:
        live.unlink(missing_ok=True)
    else:
        write_atomic(live, before)
    try:
        prometheus.reload()
    except PrometheusError:
        pass  # Prometheus still runs its previous rules; the first error is reported
