"""Explain in one sentence that a disk is full, access rights are missing, or a database is locked."""

from __future__ import annotations

import errno
import sqlite3

_NO_SPACE, _QUOTA = "no space left", "the disk quota is exceeded"
_DENIED = "permission denied"
_OS = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _QUOTA,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "the file system is read-only",
}
_SQLITE = {
    sqlite3.SQLITE_FULL: _NO_SPACE,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_CANTOPEN: "the file is missing, or permission is denied",
}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def explain(error: BaseException) -> str | None:
    """Return a sentence with the cause, the file and the fix; None if the error has a different
    cause."""
    cause: str | None = None
    file = "a database of the stack"
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return f"{file} is locked by another process. Try again in some seconds."
        cause = _SQLITE.get(code)
    elif isinstance(error, OSError):
        cause, file = _OS.get(error.errno or 0), str(error.filename or "a file")
    if cause is None:
        return None
    cure = (
        "Free disk space"
        if cause in (_NO_SPACE, _QUOTA)
        else "Run the command as the owner of the file"
    )
    return (
        f"cannot use {file}: {cause}. {cure}, or choose another directory with --state-dir or "
        "FLEETMEDIC_HOME."
    )
