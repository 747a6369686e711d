"""Time that never jumps. Decision functions take `now` as an argument."""

from __future__ import annotations

import asyncio
import time


def monotonic() -> float:
    """Return the running event loop's time (seconds), so that a loop with virtual time moves everything.

    Without a running loop, return the machine's monotonic clock, which is also the default of a loop.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
