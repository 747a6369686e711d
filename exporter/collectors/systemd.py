"""Exports the state of the systemd units that a GPU host depends on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from exporter.collector import CollectorError
from exporter.exposition import Sample
from exporter.kernel_files import integer

INCLUDE = (
    r"(nvidia-[\w-]+|dcgm[\w-]*|fabricmanager|openibd|rdma-ndd|opensm|slurm[\w-]*|munge|kubelet"
    r"|containerd|docker|crio|chronyd?|ntpd?|ntpsec|systemd-timesyncd|sshd?|sssd|lnet|autofs"
    r"|multipathd|iscsid|node-problem-detector)\.service"
)
MAX_UNITS = 100
MAX_BYTES = 1 << 20
TIMEOUT = 5.0
LIST_EVERY = 5  # rounds between two lists of units, because new units are rare
STATES = ("active", "activating", "deactivating", "inactive", "failed")
_PROPERTIES = "Id,LoadState,ActiveState,Type,NRestarts"


class Systemd:
    """Runs `systemctl` for the units whose full name matches `include`. The call may block on a
    busy systemd.

    Exports nothing on a machine that was not booted with systemd (the directory `booted` is
    missing).
    """

    name = "systemd"
    inline = False
    interval = 30.0

    def __init__(
        self,
        include: re.Pattern[str],
        systemctl: Sequence[str] = ("systemctl",),
        booted: Path = Path("/run/systemd/system"),
    ) -> None:
        self._include = include
        self._systemctl = systemctl
        self._booted = booted
        self._units: list[str] = []
        self._rounds = 0

    def collect(self, now: float) -> Iterator[Sample]:
        if not self._booted.is_dir() or shutil.which(self._systemctl[0]) is None:
            return
        if self._rounds % LIST_EVERY == 0:
            self._units = self._matching_units()
        self._rounds += 1
        if not self._units:
            return
        output = self._run_systemctl("show", f"--property={_PROPERTIES}", "--", *self._units)
        for block in output.split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            yield from _samples(unit)

    def _matching_units(self) -> list[str]:
        """Return the loaded systemd units whose name matches `include`."""
        output = self._run_systemctl(
            "list-units", "--all", "--plain", "--no-legend", "--full", "--type=service"
        )
        found = [words[0] for line in output.splitlines() if len(words := line.split()) > 2]
        return [name for name in found if self._include.fullmatch(name)][:MAX_UNITS]

    def _run_systemctl(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [*self._systemctl, "--no-pager", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
                env=_environment(),
            )
        except subprocess.TimeoutExpired:
            raise CollectorError(
                f"systemctl {arguments[0]} did not respond within {TIMEOUT:g} s"
            ) from None
        except OSError as error:
            raise CollectorError(f"cannot run systemctl: {error.strerror}") from None
        if done.returncode:
            why = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason"]
            raise CollectorError(f"systemctl {arguments[0]} failed: {why[0][:200]}")
        return done.stdout[:MAX_BYTES].decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "SYSTEMD_COLORS": "0"}


def _samples(unit: dict[str, str]) -> Iterator[Sample]:
    name, state = unit.get("Id", ""), unit.get("ActiveState", "")
    if not name or unit.get("LoadState") != "loaded":
        return
    state = "active" if state in ("reloading", "refreshing") else state
    for each in STATES:
        labels = (name, each, unit.get("Type", ""))
        yield Sample("node_systemd_unit_state", labels, each == state)
    if (restarts := integer(unit.get("NRestarts", ""))) is not None:
        yield Sample("node_systemd_service_restart_total", (name,), restarts)
