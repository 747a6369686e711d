"""What happens to a job after it ended, and what a GPU did to deserve a mark. Pure.

One owner decides about retries: this file. A failure is retried in place after 2 s, again after
10 s, then elsewhere, then the job has failed. What the cluster or a GPU did to the job is not held
against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from fleetmedic.localcluster.model import JobState

IN_PLACE_DELAYS = (2.0, 10.0)
MAX_FAILURES = len(IN_PLACE_DELAYS) + 2
FORGET_AFTER = 600.0
VERDICT_SECONDS = 10.0
PROBE_SECONDS = 1.0
SUSPICIOUS_JOBS = 2


class Reason(StrEnum):
    """Why a job is in its state."""

    SUBMITTED = "submitted"
    NO_ROOM = "no_room"
    STARTED = "started"
    COMPLETED = "completed"
    RETRY_IN_PLACE = "retry_in_place"
    RETRY_ELSEWHERE = "retry_elsewhere"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    GPU_PROBE_FAILED = "gpu_probe_failed"
    NO_VERDICT = "no_verdict"
    GPU_QUARANTINED = "gpu_quarantined"
    RESTART_REQUESTED = "restart_requested"
    FAILED_BY_REQUEST = "failed_by_request"
    CANCELLED = "cancelled"
    NODE_REBOOTED = "node_rebooted"
    CLUSTER_STOPPED = "cluster_stopped"


class Stop(StrEnum):
    """Why the cluster itself ended an attempt."""

    RESTART = "restart"
    FAIL = "fail"
    CANCEL = "cancel"
    REBOOT = "reboot"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt ended: an exit code or a signal, both None when nobody saw it."""

    code: int | None = None
    signal: int | None = None
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        if self.signal is not None:
            return f"ended by signal {self.signal}"
        if self.code is None:
            return "vanished"
        known = {126: ": the command could not be run", 127: ": the command was not found"}
        return f"exited with {self.code}{known.get(self.code, '')}"


@dataclass(frozen=True, slots=True)
class Ended:
    """The facts about an attempt that ended. `failures` are those held against the job before,
    `sick` its GPUs that did not answer a probe at its end."""

    exit: Exit
    failures: int
    ran_seconds: float
    stop: Stop | None = None
    stop_text: str = ""
    sick: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The job's next state, why, and from when on (`due`, Unix seconds) it may be started.

    `failures` is the new count. `suspect`: its GPUs come under suspicion; `acquit`: the GPUs it
    cast suspicion on are cleared of it, since the job fails everywhere.
    """

    state: JobState
    reason: Reason
    text: str
    due: float
    failures: int
    charged: bool = False
    suspect: bool = False
    acquit: bool = False


def after_exit(ended: Ended, now: float) -> Decision:
    """What becomes of a job whose attempt just ended."""
    if ended.stop is not None:
        return _after_stop(ended, ended.stop, now)
    if ended.exit.code == 0:
        return Decision(
            JobState.COMPLETED, Reason.COMPLETED, "it exited with 0", now, ended.failures
        )
    if ended.sick:
        return _after_gpu(ended, now)
    before = 0 if ended.ran_seconds >= FORGET_AFTER else ended.failures
    failures = before + 1
    what = f"it {ended.exit}" if not ended.exit.error else ended.exit.error
    if failures <= len(IN_PLACE_DELAYS):
        delay = IN_PLACE_DELAYS[failures - 1]
        text = f"{what}: again in place after {delay:g} s (failure {failures})"
        return Decision(
            JobState.RETRYING, Reason.RETRY_IN_PLACE, text, now + delay, failures, charged=True
        )
    if failures < MAX_FAILURES:
        text = f"{what}: failure {failures}, so elsewhere"
        return Decision(
            JobState.MOVING, Reason.RETRY_ELSEWHERE, text, now, failures, charged=True, suspect=True
        )
    text = f"{what}: failure {failures}, in place and elsewhere, so it is given up"
    return Decision(
        JobState.FAILED, Reason.ATTEMPTS_EXHAUSTED, text, now, failures, charged=True, acquit=True
    )


def _after_stop(ended: Ended, stop: Stop, now: float) -> Decision:
    state, reason, text = {
        Stop.RESTART: (JobState.MOVING, Reason.RESTART_REQUESTED, "stopped, to start elsewhere"),
        Stop.FAIL: (JobState.FAILED, Reason.FAILED_BY_REQUEST, "failed by request"),
        Stop.CANCEL: (JobState.CANCELLED, Reason.CANCELLED, "cancelled"),
        Stop.REBOOT: (JobState.MOVING, Reason.NODE_REBOOTED, "its node was restarted under it"),
        Stop.SHUTDOWN: (JobState.MOVING, Reason.CLUSTER_STOPPED, "the cluster was stopped"),
    }[stop]
    return Decision(state, reason, ended.stop_text or text, now, ended.failures)


def _after_gpu(ended: Ended, now: float) -> Decision:
    """The GPU failed, not the job: it waits for what becomes of the GPU."""
    names = ", ".join(map(str, ended.sick))
    text = (
        f"GPU {names} does not answer: again in place after {IN_PLACE_DELAYS[0]:g} s, or elsewhere"
    )
    due = now + IN_PLACE_DELAYS[0]
    return Decision(JobState.RETRYING, Reason.GPU_PROBE_FAILED, text, due, ended.failures)


class Step(StrEnum):
    """What to do with a job that waits for its own GPUs."""

    WAIT = "wait"
    START = "start"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class InPlace:
    """`refund`: the failure is the GPU's and not held against the job; `mark`: GPUs to mark."""

    step: Step
    reason: Reason
    text: str
    due: float
    verdict_until: float | None = None
    refund: bool = False
    mark: tuple[int, ...] = ()


def in_place(
    *, due: float, verdict_until: float | None, quarantined: bool, sick: tuple[int, ...], now: float
) -> InPlace:
    """Whether a RETRYING job starts on its GPUs, waits for a verdict on them, or moves.

    `sick` are the GPUs whose probe fails now (empty before `due`, when none is asked). A sick GPU
    costs the job nothing: it waits for somebody to decide, and moves by itself after 10 s.
    """
    if quarantined:
        text = "its GPUs are quarantined, so elsewhere"
        return InPlace(Step.MOVE, Reason.GPU_QUARANTINED, text, now, refund=True)
    if now < due:
        return InPlace(Step.WAIT, Reason.RETRY_IN_PLACE, "", due, verdict_until)
    if not sick:
        return InPlace(Step.START, Reason.STARTED, "its GPUs answer", now)
    names = ", ".join(map(str, sick))
    until = verdict_until if verdict_until is not None else now + VERDICT_SECONDS
    if now < until:
        text = f"GPU {names} does not answer: waiting for a verdict on it"
        return InPlace(
            Step.WAIT, Reason.GPU_PROBE_FAILED, text, min(now + PROBE_SECONDS, until), until, True
        )
    text = f"GPU {names} does not answer and nobody decided within {VERDICT_SECONDS:g} s: elsewhere"
    return InPlace(Step.MOVE, Reason.NO_VERDICT, text, now, refund=True, mark=sick)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A job failed on this GPU as often as it may, and has not failed elsewhere since."""

    node: str
    index: int
    job_id: str


def suspected(suspicions: Iterable[Suspicion]) -> dict[tuple[str, int], str]:
    """The GPUs on which at least two different jobs failed, each with a sentence that says so."""
    jobs: dict[tuple[str, int], list[str]] = {}
    for item in suspicions:
        found = jobs.setdefault((item.node, item.index), [])
        if item.job_id not in found:
            found.append(item.job_id)
    return {
        place: f"{len(names)} different jobs failed here: {', '.join(names[:3])}"
        for place, names in jobs.items()
        if len(names) >= SUSPICIOUS_JOBS
    }
