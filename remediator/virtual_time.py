"""An event loop with virtual time, which runs days in seconds: for tests, benchmarks and rehearsals."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing else is ready.

    `time` begins at 0. Work in threads takes no virtual time, so nothing that must last may depend on it.
    """

    def __init__(self) -> None:
        self._at = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._at

    async def shutdown_default_executor(self, *_: object) -> None:
        # Without a time limit, which would pass before the threads have ended.
        await super().shutdown_default_executor()

    def jump(self, seconds: float) -> None:
        """Move the time forward."""
        self._at += seconds


class _Jumping(selectors.DefaultSelector):
    """A selector that lets time jump instead of waiting."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        found = super().select(None if timeout is None else 0)
        if not found and timeout:
            self._loop.jump(timeout)
        return found
