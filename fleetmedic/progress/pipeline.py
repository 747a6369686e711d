"""A data pipeline's word on itself."""

from __future__ import annotations

import time
from types import TracebackType

from fleetmedic.progress.sender import Courier, Place, Sender


class Pipeline:
    """One pipeline, or one worker of it that has a name of its own: of a name there is one on a node.

    `expected_interval`: seconds within which it means to succeed again, 0 when it promises nothing.
    A run that follows an earlier one goes on counting where that stopped.
    """

    def __init__(
        self,
        name: str,
        directory: Place = None,
        *,
        socket: Place = None,
        expected_interval: float = 0.0,
    ) -> None:
        sender = Sender(f"{name}@pipeline" if name else "", directory, socket)
        self._state: dict[str, object] = {
            "kind": "pipeline",
            "pipeline": name,
            "began": time.time(),
            "records": 0,
            "success_at": 0.0,
            "running": True,
        }
        earlier = sender.before()
        if earlier.get("pipeline") == name:
            kept = ("began", "records", "success_at", "backlog")
            self._state |= {key: earlier[key] for key in kept if _number(earlier.get(key))}
        self._state["expected_interval"] = expected_interval
        self._courier = Courier(sender, self._report)
        self._courier.changed(at_once=True)

    def records(self, done: int, *, backlog: int | None = None) -> None:
        """So many records more are done, and so many wait at the input."""
        self._tell(done, backlog, success=False)

    def success(self, records: int = 0, *, backlog: int | None = None) -> None:
        """A run is done, and with it so many records more; so many wait at the input."""
        self._tell(records, backlog, success=True)

    def close(self) -> None:
        """The process ends; what it said stays, because the next run is waited for."""
        with self._courier.state:
            self._state["running"] = False
        self._courier.changed(at_once=True)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _tell(self, records: int, backlog: int | None, *, success: bool) -> None:
        try:
            with self._courier.state:
                news: dict[str, object] = {
                    "records": int(str(self._state["records"])) + max(0, int(records))
                }
                if backlog is not None:
                    news["backlog"] = max(0, int(backlog))
                if success:
                    news["success_at"] = time.time()
                self._state.update(news)
        except (TypeError, ValueError, OverflowError):
            return
        self._courier.changed(at_once=success)

    def _report(self) -> dict[str, object]:
        with self._courier.state:
            return dict(self._state)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
