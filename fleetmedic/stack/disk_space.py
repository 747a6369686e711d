"""Check the free disk space for a stack. `fleetmedic up` and `fleetmedic doctor` use the same limit."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

# a day of metrics of the simulated fleet, and the first files of Prometheus
MIN_FREE_BYTES = 300_000_000


def existing_parent(state: Path) -> Path:
    """Return the directory, or its nearest parent that exists and is not hidden from this user."""
    for one in (state, *state.parents):
        with contextlib.suppress(PermissionError):
            if one.exists():
                return one
    return Path("/")


def free_bytes(state: Path) -> int:
    """Return the free bytes for a state directory, which may not exist yet."""
    return shutil.disk_usage(existing_parent(state)).free


def too_small(state: Path) -> str | None:
    """Return the sentence that there is too little free space for a stack, or None if there is enough."""
    free = free_bytes(state)
    if free >= MIN_FREE_BYTES:
        return None
    return (
        f"{state} has {free / 1e6:.0f} MB of free disk space; the stack needs at least "
        f"{MIN_FREE_BYTES / 1e6:.0f} MB"
    )
