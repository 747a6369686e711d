"""What the real systems of the tests have in common: Debian's packages, unpacked and never installed, and
control groups that must be empty in the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.apt import Apt, last_line
from fleetmedic.stack.fetch import parts_dir, unpack_once


def unpack(
    system: str, proof: str, packages: Sequence[str], libraries: re.Pattern[str],
    arrange: Callable[[Path], None], if_offered: Sequence[str] = (),
) -> Path:  # fmt: skip
    """The folder that is laid over /usr: these packages, with those libraries that they depend on. They are
    fetched when the file `proof` of them is not there yet; `arrange` changes the unpacked root first. `if_offered`: packages that only
    some releases of Debian have.

    Raises UserError where this machine cannot have them.
    """
    folder = parts_dir() / system.lower()

    def make(work: Path) -> None:
        apt = Apt(work)
        complaint = apt.update()
        if not all(map(apt.offers, packages)):
            raise UserError(f"the apt sources offer no {system} ({last_line(complaint)}).")
        more = filter(apt.offers, if_offered)
        if why := apt.download([*packages, *more, *apt.needs(packages, libraries)]) or apt.unpack():
            raise UserError(f"{system} cannot be fetched ({why}).")
        arrange(apt.root)
        shutil.rmtree(folder, ignore_errors=True)
        apt.root.replace(folder)

    unpack_once(system, folder / proof, make)
    return folder / "usr"


def end_processes(groups: Iterable[Path]) -> None:
    """SIGKILL to every process of these control groups and of those below them."""
    for root in groups:
        for procs in root.rglob("cgroup.procs"):
            for pid in procs.read_text().split():
                with suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)


def remove_groups(groups: Iterable[Path]) -> None:
    """Remove these control groups with those below them; one that still has a process stays."""
    for root in groups:
        for path, _, _ in os.walk(root, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()
