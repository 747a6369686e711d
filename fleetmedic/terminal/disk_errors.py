"""Explain in one sentence that a disk is full, access rights are missing, or a database is locked."""

from __future__ import annotations

import errno
import os
import pwd
import sqlite3
from pathlib import Path

from fleetmedic.kernel.errors import UserError

_NO_SPACE, _QUOTA = "no space left", "the disk quota is exceeded"
_DENIED = "permission denied"
_READ_ONLY = "the file system is read-only"
_OS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _QUOTA,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _READ_ONLY,
}
_SQLITE = {
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_CANTOPEN: "the file is missing, or permission is denied",
}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_UNNAMED = "the output of the command, or a file of the stack"
ELSEWHERE = "another directory with --state-dir or FLEETMEDIC_HOME"


def unusable(path: Path, error: OSError) -> UserError:
    """Return the error for a path of a stack that cannot be used: the cause and the fix."""
    said = f"cannot use {path}: {error.strerror or error}. Choose {ELSEWHERE}."
    return UserError(explain(error, path) or said)


def explain(error: BaseException, path: Path | None = None) -> str | None:
    """Return a sentence with the cause, the file and the fix; None if the error has a different cause.

    `path` is used for an error that does not contain its file.
    """
    cause: str | None = None
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            where = path or "a database of the stack"
            return f"{where} is locked by another process. Try again in some seconds."
        cause = _SQLITE.get(code)
    elif isinstance(error, OSError):
        cause = _OS.get(error.errno or 0)
        path = Path(os.fsdecode(error.filename)) if error.filename else path
    if cause is None:
        return None
    named = path or ("a database of the stack" if isinstance(error, sqlite3.Error) else _UNNAMED)
    return f"cannot use {named}: {cause}. {_cure(cause, path)}"


def _cure(cause: str, path: Path | None) -> str:
    if cause in (_NO_SPACE, _QUOTA):
        return f"Free disk space, or choose {ELSEWHERE}."
    if cause == _READ_ONLY:
        return f"Choose {ELSEWHERE}."
    return access_cure(path) if path else f"Run the command as its owner, or choose {ELSEWHERE}."


def access_cure(path: Path) -> str:
    """Return how to get access to a path: as the owner of the path, or of its nearest visible parent."""
    for place in (path, *path.absolute().parents):
        try:
            owner = place.stat().st_uid
        except OSError:  # missing, or in a directory that this user may not search
            continue
        if owner != os.geteuid():
            which = "its owner" if place == path else f"the owner of {place}"
            return f"Run the command as {user_name(owner)}, {which}, or choose {ELSEWHERE}."
        break
    return f"Check the permissions of {path}, or choose {ELSEWHERE}."


def user_name(uid: int) -> str:
    """Return `user NAME`, or `user id NUMBER` for a user without a name."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"
