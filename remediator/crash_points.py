"""Crash points for tests: with CRASH_AT=n in the environment, the process is killed after the n-th journal
write or cluster effect. Tests use this to show that the remediator recovers from a crash at each point."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable

_lock = threading.Lock()
_passed = 0


def crash_point() -> None:
    """Call this right after each journal write and each cluster effect."""
    global _passed
    crash_at = os.environ.get("CRASH_AT")
    if crash_at is None:
        return
    with _lock:
        _passed += 1
        if str(_passed) == crash_at:
            os._exit(137)


async def effect(call: Awaitable[None]) -> None:
    """Await one call that changes the cluster, then pass its crash point."""
    await call
    crash_point()
