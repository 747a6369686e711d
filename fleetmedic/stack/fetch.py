"""Downloads Prometheus and Alertmanager from the machine's own apt sources, and unpacks them.

Nothing is installed: an installed package would start services. apt gets private folders, so an
ordinary user may do this as well as root, and the machine's own package state is left alone. The
archive's address is whatever the machine's sources say.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from fleetmedic.kernel.home import home
from fleetmedic.stack.apt import Apt, lacking_tool, last

Report = Callable[[str], None]

SERVERS = ("prometheus", "prometheus-alertmanager")
# What the exporter is compared with, by tests and benchmarks; the stack does not run it.
COMPARED = ("prometheus-node-exporter",)
# Tools that later releases ship as packages of their own, and the fallback without namespaces.
OPTIONAL = ("promtool", "amtool", "proot", *COMPARED)
# Only these of their dependencies: the pages of Prometheus, and what proot is linked with.
_NEEDED = re.compile(r"(libjs-|fonts-|libtalloc|libarchive)[a-z0-9.+-]+")
# The time zones' raw data alone are 210 MB; the pages load none of them.
_USELESS = (
    "etc", "lib", "usr/share/doc", "usr/share/man", "usr/share/lintian",
    "usr/share/javascript/moment-timezone/data",
)  # fmt: skip
_URI = re.compile(r"'[^']+' (?P<file>\S+) (?P<size>\d+) ")
_BY_HAND = (
    "install the packages {packages} yourself, or name the programs with --prometheus-bin and "
    "--alertmanager-bin."
)


def parts_dir() -> Path:
    """Where the unpacked programs lie: `root/` below it looks like the root of a machine."""
    return home() / "parts"


def unpacked() -> bool:
    """Whether a download was completed before."""
    return (parts_dir() / "parts.json").is_file()


def lacking() -> list[str]:
    """The packages that an earlier download did not know of; none where nothing is unpacked."""
    if not unpacked():
        return []
    try:
        told = json.loads((parts_dir() / "parts.json").read_text())
    except (OSError, ValueError):
        return []
    asked = told.get("asked", []) if isinstance(told, dict) else []
    return [name for name in COMPARED if name not in asked]


def once(what: str, there: Path, make: Callable[[Path], None]) -> None:
    """Let `make` put a part below parts_dir(), unless the file `there` of it is there. It is given an
    empty folder to work in, and is alone with it: another process waits, and finds the part.

    Raises UserError where this machine has no tools to fetch with.
    """
    if there.is_file():
        return
    if tool := lacking_tool():
        raise UserError(f"{what} cannot be fetched: this machine has no {tool}.")
    folder = parts_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.is_file():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
                make(Path(work))


def by_hand() -> str:
    """What a person can do where nothing can be downloaded."""
    return _BY_HAND.format(packages=" and ".join(SERVERS))


def fetch(report: Report) -> None:
    """Download and unpack the programs unless they are there; says what and how large.

    Raises UserError, with what to do by hand, where the machine has no apt or no network. Where only
    something lacks that an earlier download did not know of, a failure is said and not raised.
    """
    if missing := lacking_tool():
        raise UserError(f"this machine has no {missing}, so nothing can be fetched: {by_hand()}")
    folder = parts_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
                _Download(Path(work), report).into(folder)
        elif more := lacking():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
                _Download(Path(work), report).beside(folder, more)


class _Download:
    """One download, all of it below apt's own folder until it is complete."""

    def __init__(self, work: Path, report: Report) -> None:
        self._apt = Apt(work)
        self._report = report

    def into(self, folder: Path) -> None:
        """Download, unpack, and put the result at `folder`/root in one step."""
        self._report("reading the package lists of this machine's apt sources (20 to 40 MB)")
        complaint = self._apt.update()
        packages = self._packages()
        sizes = self._sizes(packages, complaint)
        self._report(
            f"downloading {len(sizes)} packages, {sum(sizes.values()) / 1e6:.1f} MB, from there: "
            + ", ".join(sorted(file.partition("_")[0] for file in sizes))
        )
        if why := self._apt.download(packages):
            raise UserError(f"the download failed ({why}): try again, or {by_hand()}")
        self._unpack(folder, list(sizes))

    def beside(self, folder: Path, packages: list[str]) -> None:
        """Download these packages and put them beside what lies at `folder`/root. Never raises for
        a machine that cannot have them; unless no source offers them, it is asked again next time."""
        self._report("reading the package lists of this machine's apt sources (20 to 40 MB)")
        complaint = self._apt.update()
        before = json.loads((folder / "parts.json").read_text()).get("packages", [])
        if not complaint.strip() and not any(map(self._apt.offers, packages)):
            _remember(folder, before)
        why = self._apt.download(packages) or self._apt.unpack()
        files = sorted(self._apt.debs.glob("*.deb"))
        if why or not files:
            why = why or last(complaint)
            self._report(f"{', '.join(packages)} cannot be fetched ({why}); nothing else needs it")
            return
        for path in (self._apt.root / "usr/bin").iterdir():
            path.replace(folder / "root/usr/bin" / path.name)
        _remember(folder, [*before, *(package.name for package in files)])
        self._report(f"unpacked {', '.join(packages)} in {folder}")

    def _packages(self) -> list[str]:
        known = [name for name in (*SERVERS, *OPTIONAL) if self._apt.offers(name)]
        return [*known, *self._apt.needs(known, _NEEDED)]

    def _sizes(self, packages: list[str], complaint: str) -> dict[str, int]:
        """File name to bytes, as apt is about to fetch them."""
        lacking = [name for name in SERVERS if name not in packages]
        if lacking:
            why = f" ({last(complaint)})" if complaint.strip() else ""
            raise UserError(
                f"this machine's apt sources offer no {lacking[0]}{why}: connect it to its package "
                f"archive, or {by_hand()}"
            )
        listed = self._apt.run("apt-get", "--print-uris", "download", *packages).stdout
        return {found["file"]: int(found["size"]) for found in _URI.finditer(listed)}

    def _unpack(self, folder: Path, files: list[str]) -> None:
        root = self._apt.root
        if why := self._apt.unpack():
            raise UserError(f"{why}: free some disk space below {folder} and try again.")
        for useless in _USELESS:
            shutil.rmtree(root / useless, ignore_errors=True)
        megabytes = sum(path.lstat().st_size for path in root.rglob("*")) / 1e6
        shutil.rmtree(folder / "root", ignore_errors=True)
        root.replace(folder / "root")
        _remember(folder, files)
        self._report(f"unpacked {megabytes:.0f} MB in {folder}; remove that folder to undo it")


def _remember(folder: Path, files: list[str]) -> None:
    """Write down what was unpacked, and what was asked for and may have been in no source."""
    told = {"packages": files, "asked": [*SERVERS, *OPTIONAL]}
    write_atomic(folder / "parts.json", json.dumps(told, indent=1))
