"""Write files atomically: write a temporary file, sync it, rename it. Keep the links and devices of users."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def write_atomic(path: Path, data: str | bytes, *, mode: int = 0o644, sync: bool = True) -> None:
    """Replace a file atomically: readers see the old or the new content, even after a crash.

    `sync=False` skips the fsync, for content that is refreshed each second anyway.
    Raises OSError if the directory is not writable.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)  # users do not know the temporary file
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if sync:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_output(path: Path, data: str | bytes) -> None:
    """Write an output file that a user named, where a shell redirection would write it.

    A regular file is replaced atomically. The target of a symbolic link is written, and the link is
    kept. A device or a pipe is written to and never replaced. Raises OSError.

    Other files are written with `write_atomic`: a process must not follow the links of other users.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    if there is None or stat.S_ISREG(there.st_mode):
        target = Path(os.path.realpath(path))
        if there is None or _is_same(target, there):
            write_atomic(target, data)
            return
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def _is_same(target: Path, there: os.stat_result) -> bool:
    """Return whether a resolved path is the file. A link in /proc may name a deleted file."""
    try:
        return os.path.samestat(target.stat(), there)
    except OSError:
        return False
