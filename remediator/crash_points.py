"""Kill the process at a chosen point, for crash tests.

With CRASH_AT=n in the environment, the process exits at the n-th journal write or cluster
operation. Tests use this to show that the remediator recovers from a crash at each point.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable

_lock = threading.Lock()
_passed = 0


def crash_point() -> None:
    """Count one crash point, and exit if its number is CRASH_AT.

    Call this right after each journal write and each cluster operation.
    """
    global _passed
    crash_at = os.environ.get("CRASH_AT")
    if crash_at is None:
        return
    with _lock:
        _passed += 1
        if str(_passed) == crash_at:
            os._exit(137)


async def effect(call: Awaitable[None]) -> None:
    """Await one call that changes the cluster, then count a crash point."""
    await call
    crash_point()
