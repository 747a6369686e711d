"""Progress reports of a data pipeline."""

from __future__ import annotations

import time
from types import TracebackType

from fleetmedic.progress.sender import Place, Sender, ThrottledSender


class Pipeline:
    """Reports the progress of a data pipeline, or of one of its workers under its own name.

    Names are unique on a node. `expected_interval` is the maximum number of seconds between two
    successful runs; 0 means undefined. A new run continues the counters of the previous run.
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
        self._sender = ThrottledSender(sender, self._report)
        self._sender.changed(at_once=True)

    def records(self, done: int, *, backlog: int | None = None) -> None:
        """Add `done` processed records. `backlog` is the number of waiting records."""
        self._update(done, backlog, success=False)

    def success(self, records: int = 0, *, backlog: int | None = None) -> None:
        """Report a successful run that processed `records` more records. `backlog` is the number of
        waiting records.
        """
        self._update(records, backlog, success=True)

    def close(self) -> None:
        """Report the end of the pipeline's process. Its series remain, because another run is expected."""
        with self._sender.state:
            self._state["running"] = False
        self._sender.changed(at_once=True)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _update(self, records: int, backlog: int | None, *, success: bool) -> None:
        try:
            with self._sender.state:
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
        self._sender.changed(at_once=success)

    def _report(self) -> dict[str, object]:
        with self._sender.state:
            return dict(self._state)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
