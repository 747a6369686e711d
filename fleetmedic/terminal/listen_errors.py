"""Explain in one sentence why a process cannot listen on a port."""

from __future__ import annotations

import errno
import os

from fleetmedic.kernel.errors import UserError

FIRST_UNPRIVILEGED = 1024


def cannot_listen(host: str, port: int, error: OSError, option: str) -> UserError:
    """Return the error for a port that cannot be used; `option` is the option that sets the address."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.EACCES and port < FIRST_UNPRIVILEGED:
        why += f"; a port below {FIRST_UNPRIVILEGED} requires root privileges"
    return UserError(f"cannot listen on {host}:{port} ({why}). Specify another {option}.")
