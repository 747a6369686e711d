"""Download Prometheus and Alertmanager from the machine's own apt sources, and unpack them.

No package is installed, because an installed package starts services. apt uses private directories,
so root is not needed, and the machine's package state is not changed.
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
from fleetmedic.stack.apt import Apt, last_line, missing_tool

Report = Callable[[str], None]

SERVERS = ("prometheus", "prometheus-alertmanager")
# Used by tests and benchmarks for comparison with the exporter; the stack does not run it.
COMPARED = ("prometheus-node-exporter",)
# promtool and amtool are separate packages in later releases. proot replaces mount namespaces.
OPTIONAL = ("promtool", "amtool", "proot", *COMPARED)
# The dependencies that are downloaded: the web pages of Prometheus, and the libraries of proot.
_NEEDED = re.compile(r"(libjs-|fonts-|libtalloc|libarchive)[a-z0-9.+-]+")
# The raw time zone data is 210 MB, and the web pages do not load it.
_USELESS = (
    "etc",
    "lib",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/lintian",
    "usr/share/javascript/moment-timezone/data",
)
_URI = re.compile(r"'[^']+' (?P<file>\S+) (?P<size>\d+) ")
_BY_HAND = (
    "install the packages {packages} yourself, or set the paths with the options --prometheus-bin and "
    "--alertmanager-bin of `fleetmedic up`."
)


def parts_dir() -> Path:
    """Return the directory of unpacked packages. Its `root/` has the layout of a root file system."""
    return home() / "parts"


def unpacked() -> bool:
    """Return whether the programs were downloaded and unpacked completely before."""
    return (parts_dir() / "parts.json").is_file()


def missing_packages() -> list[str]:
    """Return the packages that an earlier fleetmedic version did not download; empty before any download."""
    if not unpacked():
        return []
    try:
        recorded = json.loads((parts_dir() / "parts.json").read_text())
    except (OSError, ValueError):
        return []
    asked = recorded.get("asked", []) if isinstance(recorded, dict) else []
    return [name for name in COMPARED if name not in asked]


def unpack_once(what: str, there: Path, make: Callable[[Path], None]) -> None:
    """Call `make` with an empty work directory, unless the file in the argument `there` exists.

    `make` adds a part to parts_dir(). A lock makes other processes wait for it. Raises UserError if
    a tool for the download is missing.
    """
    if there.is_file():
        return
    if tool := missing_tool():
        raise UserError(f"{what} cannot be fetched: {tool} is not on PATH.")
    folder = parts_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.is_file():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
                make(Path(work))


def manual_fix() -> str:
    """Return the fix for a user whose download failed, worded as the end of a sentence."""
    return _BY_HAND.format(packages=" and ".join(SERVERS))


def fetch(report: Report) -> None:
    """Download and unpack the missing programs. `report` gets progress messages.

    Raises UserError, with a manual fix, if apt or the network is not available. If only optional
    packages are missing, a failure is reported and not raised.
    """
    if missing := missing_tool():
        raise UserError(f"cannot download: {missing} is not on PATH. To fix it, {manual_fix()}")
    folder = parts_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
                _Download(Path(work), report).into(folder)
        elif more := missing_packages():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
                _Download(Path(work), report).beside(folder, more)


class _Download:
    """One download. All files stay in apt's work directory until the download is complete."""

    def __init__(self, work: Path, report: Report) -> None:
        self._apt = Apt(work)
        self._report = report

    def into(self, folder: Path) -> None:
        """Download and unpack the packages, then move the result to `folder`/root atomically."""
        self._report("reading the package lists of this machine's apt sources (20 to 40 MB)")
        complaint = self._apt.update()
        packages = self._packages()
        sizes = self._sizes(packages, complaint)
        self._report(
            f"downloading {len(sizes)} packages, {sum(sizes.values()) / 1e6:.1f} MB: "
            + ", ".join(sorted(file.partition("_")[0] for file in sizes))
        )
        if why := self._apt.download(packages):
            raise UserError(f"the download failed ({why}). Try again, or {manual_fix()}")
        self._unpack(folder, list(sizes))

    def beside(self, folder: Path, packages: list[str]) -> None:
        """Download these packages and add them to `folder`/root.

        A failed download is reported and not raised. The next call tries again, unless no source
        offers the packages.
        """
        self._report("reading the package lists of this machine's apt sources (20 to 40 MB)")
        complaint = self._apt.update()
        before = json.loads((folder / "parts.json").read_text()).get("packages", [])
        offered = [name for name in packages if self._apt.offers(name)]
        if not offered and not complaint.strip():
            _remember(folder, before)
        why = self._apt.download(offered) or self._apt.unpack() if offered else ""
        files = sorted(self._apt.debs.glob("*.deb"))
        if why or not files:
            why = why or last_line(complaint) or "no apt source offers it"
            self._report(
                f"{', '.join(packages)} cannot be fetched ({why}); only tests and benchmarks need it"
            )
            return
        for path in (self._apt.root / "usr/bin").iterdir():
            path.replace(folder / "root/usr/bin" / path.name)
        _remember(folder, [*before, *(package.name for package in files)])
        self._report(f"unpacked {', '.join(packages)} in {folder}")

    def _packages(self) -> list[str]:
        known = [name for name in (*SERVERS, *OPTIONAL) if self._apt.offers(name)]
        return [*known, *self._apt.needs(known, _NEEDED)]

    def _sizes(self, packages: list[str], complaint: str) -> dict[str, int]:
        """Return the files that apt will download, with their sizes in bytes."""
        lacking = [name for name in SERVERS if name not in packages]
        if lacking:
            why = f" ({last_line(complaint)})" if complaint.strip() else ""
            raise UserError(
                f"this machine's apt sources do not have the package {lacking[0]}{why}. Check the "
                f"network and the apt sources, or {manual_fix()}"
            )
        listed = self._apt.run("apt-get", "--print-uris", "download", *packages).stdout
        return {found["file"]: int(found["size"]) for found in _URI.finditer(listed)}

    def _unpack(self, folder: Path, files: list[str]) -> None:
        root = self._apt.root
        if why := self._apt.unpack():
            raise UserError(f"{why}. Free some disk space below {folder} and try again.")
        for useless in _USELESS:
            shutil.rmtree(root / useless, ignore_errors=True)
        megabytes = sum(path.lstat().st_size for path in root.rglob("*")) / 1e6
        shutil.rmtree(folder / "root", ignore_errors=True)
        root.replace(folder / "root")
        _remember(folder, files)
        self._report(f"unpacked {megabytes:.0f} MB in {folder}; to undo, delete that directory")


def _remember(folder: Path, files: list[str]) -> None:
    """Record the unpacked files and all requested packages, whether or not a source provided them."""
    recorded = {"packages": files, "asked": [*SERVERS, *OPTIONAL]}
    write_atomic(folder / "parts.json", json.dumps(recorded, indent=1))
