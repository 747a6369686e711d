"""Run apt with a private state directory, to read package lists and download packages without root.

The machine's package lists, package state and installed packages are not changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

TOOLS = ("apt-get", "apt-cache", "dpkg-deb")


def missing_tool() -> str | None:
    """Return the first program that a download needs and that is not on PATH, or None."""
    return next((tool for tool in TOOLS if not shutil.which(tool)), None)


class Apt:
    """apt with its state in the directory `work`.

    Packages are downloaded to `work`/debs and unpacked in `work`/root. `sources` replaces the
    machine's apt sources.
    """

    def __init__(self, work: Path, sources: Sequence[str] = ()) -> None:
        self._work = work
        self.debs, self.root = work / "debs", work / "root"
        for name in ("lists/partial", "cache/archives/partial", "debs", "root"):
            (work / name).mkdir(parents=True)
        (work / "status").touch()
        self._options = [
            f"-oDir::State={work}",
            f"-oDir::State::lists={work}/lists",
            f"-oDir::State::status={work}/status",
            f"-oDir::Cache={work}/cache",
            "-oAPT::Sandbox::User=",
            "-oAcquire::Languages=none",
            "-oAcquire::Retries=2",
            "-oAcquire::http::Timeout=20",
            "-oAcquire::https::Timeout=20",
        ]
        if sources:
            (work / "sources.list").write_text("".join(f"{line}\n" for line in sources))
            self._options += [
                f"-oDir::Etc::sourcelist={work}/sources.list",
                "-oDir::Etc::sourceparts=-",
            ]

    def update(self) -> str:
        """Download the package lists of the apt sources. Returns apt's stderr."""
        return self.run("apt-get", "-qq", "update").stderr

    def offers(self, package: str) -> bool:
        """Return whether an apt source provides the package's file, not only its name."""
        shown = self.run("apt-cache", "show", "--no-all-versions", package)
        return shown.returncode == 0 and "\nFilename:" in f"\n{shown.stdout}"

    def needs(self, packages: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
        """Return the direct and indirect dependencies that a source provides and whose names match
        `pattern`."""
        kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        quiet = [f"--no-{kind}" for kind in kinds]
        tree = self.run("apt-cache", "depends", "--recurse", *quiet, *packages).stdout
        names = dict.fromkeys(line for line in tree.splitlines() if pattern.fullmatch(line))
        return [name for name in names if name not in packages and self.offers(name)]

    def download(self, packages: Sequence[str]) -> str | None:
        """Download packages into `debs`. Returns the reason for a failure, or None."""
        got = self.run("apt-get", "-qq", "download", *packages, cwd=self.debs)
        return last_line(got.stderr) if got.returncode else None

    def unpack(self) -> str | None:
        """Unpack all packages of `debs` in `root`. Returns the package that failed and why, or None."""
        for package in sorted(self.debs.glob("*.deb")):
            done = self.run("dpkg-deb", "-x", str(package), str(self.root))
            if done.returncode:
                return f"{package.name} cannot be unpacked ({last_line(done.stderr)})"
        return None

    def run(
        self, program: str, *arguments: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the programs in TOOLS. apt's programs use the private state directory."""
        options = self._options if program.startswith("apt") else []
        return subprocess.run(
            [program, *options, *arguments],
            cwd=cwd or self._work,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )


def last_line(text: str) -> str:
    """Return the last non-empty line, without apt's prefix `E: `."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^[EW]: ", "", lines[-1])[:200].rstrip(".") if lines else "no reason given"
