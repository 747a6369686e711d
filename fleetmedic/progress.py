"""How a training job says how far it is. Standard library only, so any job can import it.

    progress = Progress()
    progress.step(n, loss=loss, seconds=took)
    progress.checkpoint(n)
    progress.close()

Writes DIR/JOB.json whole or not at all, at most twice a second. It never raises into the training
loop and, outside a cluster, does nothing. In the file `loss` is null for a loss that is not finite
and is left out while none was reported; `checkpoint_interval` is 0 while it is unknown.
"""

from __future__ import annotations

import json
import math
import os
import time
from types import TracebackType

MIN_SECONDS = 0.5
KEPT_INTERVALS = 3


class Progress:
    """One job's progress file.

    `job_id` and `directory` come from FLEETMEDIC_JOB_ID and FLEETMEDIC_PROGRESS_DIR, the number of
    restarts from FLEETMEDIC_RESTARTS. `checkpoint_interval` in seconds, where it is known; else it
    is the longest of the last three gaps between checkpoints.
    """

    def __init__(
        self,
        job_id: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        *,
        checkpoint_interval: float = 0.0,
    ) -> None:
        job = job_id or os.environ.get("FLEETMEDIC_JOB_ID", "")
        folder = os.fspath(directory or os.environ.get("FLEETMEDIC_PROGRESS_DIR", ""))
        self._path = os.path.join(folder, f"{job}.json") if job and folder else ""  # noqa: PTH118
        self._written = 0.0
        self._given = checkpoint_interval
        self._gaps: list[float] = []
        self._state: dict[str, object] = {
            "job_id": job,
            "step": 0,
            "step_seconds": 0.0,
            "step_at": time.time(),
            "checkpoint_step": 0,
            "checkpoint_at": 0.0,
            "checkpoint_interval": checkpoint_interval,
            "restarts": _whole(os.environ.get("FLEETMEDIC_RESTARTS", "0")),
            "running": True,
            "pid": os.getpid(),
        }
        self._write()

    def step(self, n: int, *, loss: float | None = None, seconds: float | None = None) -> None:
        """Step `n` is done, with this loss, after so many seconds (else since the last one)."""
        try:
            now = time.time()
            took = now - float(str(self._state["step_at"])) if seconds is None else seconds
            self._state.update(step=int(n), step_seconds=round(float(took), 6), step_at=now)
            if loss is not None:
                self._state["loss"] = float(loss) if math.isfinite(loss) else None
        except (TypeError, ValueError, OverflowError):
            return
        if not 0 <= time.monotonic() - self._written < MIN_SECONDS:
            self._write()

    def checkpoint(self, step: int, *, at: float | None = None) -> None:
        """A checkpoint of that step is safe. `at` (Unix seconds) for one found when resuming."""
        try:
            when = time.time() if at is None else float(at)
            before = float(str(self._state["checkpoint_at"]))
            if at is None and before > 0:
                self._gaps = [*self._gaps, when - before][-KEPT_INTERVALS:]
            interval = self._given or round(max(self._gaps, default=0.0), 3)
            self._state.update(
                checkpoint_step=int(step), checkpoint_at=when, checkpoint_interval=interval
            )
        except (TypeError, ValueError, OverflowError):
            return

    def close(self) -> None:
        """The job ends."""
        self._state["running"] = False
        self._write()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self) -> None:
        """A full disk or a folder that is gone costs the report, never the training."""
        if not self._path:
            return
        self._written = time.monotonic()
        beside = f"{self._path}.{os.getpid()}.tmp"
        try:
            with open(beside, "w", encoding="utf-8") as file:  # noqa: PTH123 - light to import
                json.dump(self._state, file, allow_nan=False)
            os.replace(beside, self._path)  # noqa: PTH105
        except (OSError, ValueError, TypeError):
            return


def _whole(text: str) -> int:
    try:
        return max(0, int(text))
    except ValueError:
        return 0
