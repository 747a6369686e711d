"""Progress reports of a training job."""

from __future__ import annotations

import math
import os
import time
from types import TracebackType

from fleetmedic.progress.sender import MIN_SECONDS, Place, Sender, environment

KEPT_INTERVALS = 3
RANKS = ("FLEETMEDIC_RANK", "RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")


class Progress:
    """Reports the progress of one training process. In a distributed job, each process reports with its `rank`.

    Defaults: `job_id`, `directory` and `socket` come from FLEETMEDIC_JOB_ID,
    FLEETMEDIC_PROGRESS_DIR and FLEETMEDIC_PROGRESS_SOCKET. The rank comes from FLEETMEDIC_RANK,
    RANK, SLURM_PROCID or OMPI_COMM_WORLD_RANK; the default is 0. The number of restarts comes from
    FLEETMEDIC_RESTARTS. `checkpoint_interval` is in seconds; without it, the longest of the last
    three intervals between checkpoints is used.

    In the report, `loss` is null for a loss that is not finite (NaN or Inf), and missing if no loss was
    reported. `checkpoint_interval` is 0 while it is unknown.
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
        """Report the completion of step `n`, which took `seconds` (default: since the last step).

        `samples` is the number of samples that this process handled in the step. `data_wait` and `compute` are
        the seconds of the step spent waiting for data and computing. Time in a collective, waiting for other
        ranks, is not `compute`, so the `compute` of each rank shows which rank is slow.
        """
        try:
            now = time.time()
            took = now - float(str(self._state["step_at"])) if seconds is None else seconds
            news: dict[str, object] = {
                "step": int(n),
                "step_seconds": round(float(took), 6),
                "step_at": now,
            }
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
        """Report a durable checkpoint of that step. Set `at` (Unix seconds) for a checkpoint found on resume."""
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
        """Report the end of the training job."""
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
    """Return the rank of this process in its job from the environment; 0 by default."""
    return next((_whole(os.environ[name]) for name in RANKS if os.environ.get(name)), 0)


def _whole(text: str) -> int:
    try:
        return max(0, int(text))
    except ValueError:
        return 0
