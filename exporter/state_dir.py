"""The state directory of the exporter: one exporter per directory, and its check before the start."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from fleetmedic.kernel.errors import UserError


def claim(path: Path) -> int:
    """Create the state directory, lock it for this process, and return the lock's file descriptor.

    Raises UserError if another exporter holds the lock, or the directory is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"--state.dir: another exporter uses {path}; stop it, or specify another directory."
        ) from None
    except OSError as error:
        raise _unusable(path, error) from None
    return lock


def check(path: Path) -> None:
    """Check that the state directory is writable or can be created, without creating it. Raises
    UserError.

    Access rights alone do not show this: root may write to /proc, but nothing can be created there.
    """
    try:
        existing = next(place for place in (path, *path.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _unusable(path, error) from None


def _unusable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"--state.dir: cannot create or write {path} ({error.strerror}); specify another directory."
    )
