"""Download releases of Prometheus and Alertmanager that are newer than those of this machine's
Debian suite. For tests only.

Users may run newer releases than those that `up` starts, so rules, pages and configurations are tested with
those too. The packages come from later Debian suites of the archive in the machine's own apt sources. A private
apt state reads those suites, so that nothing can be installed from them. Each release is unpacked in its own
directory below parts_dir().
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.apt import Apt, last_line
from fleetmedic.stack.fetch import parts_dir, unpack_once

# Debian's suites after the one with Prometheus 2.42. The newest version that fits is taken.
SUITES = ("trixie", "forky", "sid")
_SOURCE_FIELDS = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"


@dataclass(frozen=True, slots=True)
class NewerRelease:
    """A release: `packages` of one version that is at least `lowest` and below `below`.

    `programs` maps a program's name to its path in the package.
    """

    name: str
    packages: tuple[str, ...]
    lowest: tuple[int, ...]
    below: tuple[int, ...]
    programs: Mapping[str, str]

    def fits(self, version: str) -> bool:
        """Return whether Debian's version string, such as `3.5.3+ds1-6`, belongs to this release."""
        return self.lowest <= numbers(version) < self.below


_PROMETHEUS = ("prometheus", "promtool")
RELEASES = (
    NewerRelease(
        "prometheus-2.53",
        _PROMETHEUS,
        (2, 53),
        (3,),
        {"prometheus-2.53": "usr/bin/prometheus", "promtool-2.53": "usr/bin/promtool"},
    ),
    NewerRelease(
        "prometheus-3",
        _PROMETHEUS,
        (3,),
        (4,),
        {"prometheus-3": "usr/bin/prometheus", "promtool-3": "usr/bin/promtool"},
    ),
    NewerRelease(
        "alertmanager-0.33",
        ("prometheus-alertmanager",),
        (0, 33),
        (1,),
        {"alertmanager-0.33": "usr/bin/prometheus-alertmanager", "amtool-0.33": "usr/bin/amtool"},
    ),
    NewerRelease(
        "compose",
        ("docker-compose",),
        (2,),
        (99,),
        {"compose": "usr/libexec/docker/cli-plugins/docker-compose"},
    ),
)
# Part name, such as promtool-3, to the release that contains it.
PARTS: Mapping[str, NewerRelease] = {
    part: release for release in RELEASES for part in release.programs
}


def path(part: str) -> Path:
    """Return the path that a program has after its release is unpacked."""
    release = PARTS[part]
    return parts_dir() / release.name / release.programs[part]


def fetch(part: str) -> Path:
    """Download and unpack a program's release if it is missing; returns the program's path.

    Raises UserError with the reason if the download fails.
    """
    release = PARTS[part]

    def make(work: Path) -> None:
        try:
            _unpack(release, Apt(work, _sources(part)), parts_dir() / release.name)
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"{part} cannot be fetched: the package archive does not answer."
            ) from error

    unpack_once(part, path(part), make)
    if not path(part).is_file():
        raise UserError(
            f"{part} cannot be fetched: the package does not contain {release.programs[part]}."
        )
    return path(part)


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version without Debian's epoch: 3, 5, 3 for `3.5.3+ds1-6`."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def _unpack(release: NewerRelease, apt: Apt, into: Path) -> None:
    complaint = apt.update()
    listed = apt.run("apt-cache", "madison", release.packages[0]).stdout.splitlines()
    offered = {line.split("|")[1].strip() for line in listed if line.count("|") >= 2}
    fitting = sorted(filter(release.fits, offered), key=numbers)
    if not fitting:
        if offered:
            raise UserError(
                f"{release.name} cannot be fetched: the apt sources of this machine have only the "
                f"versions {', '.join(sorted(offered))} of the package {release.packages[0]}."
            )
        raise UserError(
            f"{release.name} cannot be fetched: the apt sources of this machine do not have the "
            f"package {release.packages[0]} ({last_line(complaint)})."
        )
    wanted = [f"{package}={fitting[-1]}" for package in release.packages]
    if why := apt.download(wanted) or apt.unpack():
        raise UserError(f"{release.name} cannot be fetched: {why}.")
    shutil.rmtree(apt.root / "usr/share/doc", ignore_errors=True)
    shutil.rmtree(into, ignore_errors=True)
    apt.root.replace(into)


def _sources(part: str) -> list[str]:
    """Return one apt source line for each later suite of the machine's Debian archive."""
    result = subprocess.run(
        ["apt-get", "indextargets", "--format", _SOURCE_FIELDS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for line in result.stdout.splitlines():
        address, release, component, signed = line.split("|")
        if component == "main" and "security" not in address and "-" not in release:
            # apt writes the field's own name where the source has no such field
            keys = f"[signed-by={signed}] " if signed.startswith("/") else ""
            return [f"deb {keys}{address} {suite} main" for suite in SUITES]
    raise UserError(
        f"{part} cannot be fetched: this machine's apt sources contain no Debian archive."
    )
