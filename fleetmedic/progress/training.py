"""A training job's word on itself."""

from __future__ import annotations

import math
import os
import time
from types import TracebackType

from fleetmedic.progress.sender import MIN_SECONDS, Place, Sender, environment

KEPT_INTERVALS = 3
RANKS = ("FLEETMEDIC_RANK", "RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")


class Progress:
    """One training process. Of a job with several, each makes its own, with its `rank`.

    `job_id`, `directory` and `socket` come from FLEETMEDIC_JOB_ID, _PROGRESS_DIR and _PROGRESS_SOCKET,
    the rank from FLEETMEDIC_RANK, RANK, SLURM_PROCID or OMPI_COMM_WORLD_RANK, else it is 0; the number
    of restarts from FLEETMEDIC_RESTARTS. `checkpoint_interval` in seconds, where it is known; else it
    is the longest of the last three gaps between checkpoints.

    In the report `loss` is null for a loss that is not finite and is left out while none was told;
    `checkpoint_interval` is 0 while it is unknown.
    """

    def __init__(
        self,
        job_id: str | None = None,
        directory: Place = None,
        *,
        socket: Place = None,
        rank: int | None = None,
        checkpoint_interval: float = 0.0,
    ) -> None:
        job = job_id or environment("JOB_ID")
        number = _rank() if rank is None else rank
        self._sender = Sender(f"{job}@{number}" if job and number else job, directory, socket)
        self._written = 0.0
        self._given = checkpoint_interval
        self._gaps: list[float] = []
        self._state: dict[str, object] = {
            "job_id": job,
            "rank": number,
            "step": 0,
            "step_seconds": 0.0,
            "step_at": time.time(),
            "checkpoint_step": 0,
            "checkpoint_at": 0.0,
            "checkpoint_interval": checkpoint_interval,
            "restarts": _whole(environment("RESTARTS", "0")),
            "running": True,
            "began": time.time(),
        }
        self._write()

    def step(
        self,
        n: int,
        *,
        loss: float | None = None,
        seconds: float | None = None,
        samples: int | None = None,
        data_wait: float | None = None,
        compute: float | None = None,
    ) -> None:
        """Step `n` is done, with this loss, after so many seconds (else since the last one).

        `samples` this process took in during the step; seconds of the step that it spent waiting for
        data and computing. A rank that waits for others in a collective does not compute: with
        `compute` of each rank the slow one can be told from those that wait for it.
        """
        try:
            now = time.time()
            took = now - float(str(self._state["step_at"])) if seconds is None else seconds
            news: dict[str, object] = {
                "step": int(n), "step_seconds": round(float(took), 6), "step_at": now,
            }  # fmt: skip
            if loss is not None:
                news["loss"] = float(loss) if math.isfinite(loss) else None
            if samples is not None:
                news["samples"] = int(str(self._state.get("samples", 0))) + max(0, int(samples))
            if data_wait is not None:
                news["data_wait_seconds"] = round(float(data_wait), 6)
            if compute is not None:
                news["compute_seconds"] = round(float(compute), 6)
            self._state.update(news)
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
        self._written = time.monotonic()
        self._sender.send(self._state)


def _rank() -> int:
    """This process's number within its job, as what started it says; 0 when nobody does."""
    return next((_whole(os.environ[name]) for name in RANKS if os.environ.get(name)), 0)


def _whole(text: str) -> int:
    try:
        return max(0, int(text))
    except ValueError:
        return 0
