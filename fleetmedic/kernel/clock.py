"""Time inside an event loop. Decision functions take `now` as an argument."""

from __future__ import annotations

import asyncio


def monotonic() -> float:
    """Return the running event loop's time (seconds). It never jumps, and a test may run it faster.

    Raises RuntimeError without a running event loop.
    """
    return asyncio.get_running_loop().time()
