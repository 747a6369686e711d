"""The retry policy of the embedded cluster: decides about a job whose attempt has ended. Pure functions.

Only this module decides about retries and about marks on GPUs. A failure is retried on the same GPUs after 2 s,
then after 10 s, then on other GPUs; after that the job has failed. If the cluster or a GPU caused the end, it
does not count as a failure of the job.
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
# Exit codes of a shell, and of our shim, for a command that cannot be executed or is not found. A program
# that ran for longer (seconds) exited with the code itself.
CANNOT_START = (126, 127)
START_SECONDS = 5.0
# Broken programs of two users look like a broken GPU, so the mark expires, and the next jobs are the test.
SUSPICION_SECONDS = 1800.0


class JobReason(StrEnum):
    """The reason for a job's state."""

    SUBMITTED = "submitted"
    NO_ROOM = "no_room"
    STARTED = "started"
    COMPLETED = "completed"
    RETRY_IN_PLACE = "retry_in_place"
    RETRY_ELSEWHERE = "retry_elsewhere"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    COMMAND_INVALID = "command_invalid"
    GPU_PROBE_FAILED = "gpu_probe_failed"
    NO_VERDICT = "no_verdict"
    GPU_QUARANTINED = "gpu_quarantined"
    RESTART_REQUESTED = "restart_requested"
    FAILED_BY_REQUEST = "failed_by_request"
    CANCELLED = "cancelled"
    NODE_REBOOTED = "node_rebooted"
    CLUSTER_STOPPED = "cluster_stopped"


class Stop(StrEnum):
    """The reason why the cluster itself ended an attempt of a job."""

    RESTART = "restart"
    FAIL = "fail"
    CANCEL = "cancel"
    REBOOT = "reboot"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """The end of an attempt: an exit code or a signal, both None if unknown. `error` describes other ends."""

    code: int | None = None
    signal: int | None = None
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        if self.signal is not None:
            return f"was killed by signal {self.signal}"
        if self.code is None:
            return "is gone without an exit code"
        known = {126: " (command cannot be executed)", 127: " (command not found)"}
        return f"exited with {self.code}{known.get(self.code, '')}"


@dataclass(frozen=True, slots=True)
class Ended:
    """The facts about an attempt that has ended.

    `failures` is the job's failure count before this end. `unresponsive` are its GPUs that did not
    respond to a probe at the end.
    """

    exit: ExitStatus
    failures: int
    ran_seconds: float
    stop: Stop | None = None
    stop_text: str = ""
    unresponsive: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The job's next state, the reason, and the earliest time of the next start (`due`, Unix seconds).

    `failures` is the new failure count. `charged`: the end of the attempt counts as a failure of
    the job. `suspect`: the store must record a Suspicion for each GPU of the job. `acquit`: the
    store must delete the Suspicions from this job, because the job fails on other GPUs too.
    """

    state: JobState
    reason: JobReason
    text: str
    due: float
    failures: int
    charged: bool = False
    suspect: bool = False
    acquit: bool = False


def after_exit(ended: Ended, now: float) -> RetryDecision:
    """Return the retry decision for a job whose attempt has ended."""
    if ended.stop is not None:
        return _after_stop(ended, ended.stop, now)
    if ended.exit.code == 0:
        return RetryDecision(
            JobState.COMPLETED,
            JobReason.COMPLETED,
            "the command exited with 0",
            now,
            ended.failures,
        )
    if ended.unresponsive:
        return _after_gpu(ended, now)
    if ended.exit.code in CANNOT_START and ended.ran_seconds < START_SECONDS:
        text = f"the command {ended.exit}, which no retry can change"
        return RetryDecision(
            JobState.FAILED,
            JobReason.COMMAND_INVALID,
            text,
            now,
            ended.failures + 1,
            charged=True,
            acquit=True,
        )
    before = 0 if ended.ran_seconds >= FORGET_AFTER else ended.failures
    failures = before + 1
    what = f"the command {ended.exit}" if not ended.exit.error else ended.exit.error
    if failures <= len(IN_PLACE_DELAYS):
        delay = IN_PLACE_DELAYS[failures - 1]
        text = f"{what}; failure {failures}, retry on the same GPUs after {delay:g} s"
        return RetryDecision(
            JobState.RETRYING, JobReason.RETRY_IN_PLACE, text, now + delay, failures, charged=True
        )
    if failures < MAX_FAILURES:
        text = f"{what}; failure {failures}, retry on other GPUs"
        return RetryDecision(
            JobState.MOVING,
            JobReason.RETRY_ELSEWHERE,
            text,
            now,
            failures,
            charged=True,
            suspect=True,
        )
    text = f"{what}; failure {failures}, on the same and on other GPUs, no more retries"
    return RetryDecision(
        JobState.FAILED,
        JobReason.ATTEMPTS_EXHAUSTED,
        text,
        now,
        failures,
        charged=True,
        acquit=True,
    )


def _after_stop(ended: Ended, stop: Stop, now: float) -> RetryDecision:
    state, reason, text = {
        Stop.RESTART: (
            JobState.MOVING,
            JobReason.RESTART_REQUESTED,
            "stopped, to restart on other GPUs",
        ),
        Stop.FAIL: (JobState.FAILED, JobReason.FAILED_BY_REQUEST, "failed by request"),
        Stop.CANCEL: (JobState.CANCELLED, JobReason.CANCELLED, "cancelled"),
        Stop.REBOOT: (JobState.MOVING, JobReason.NODE_REBOOTED, "its node rebooted"),
        Stop.SHUTDOWN: (JobState.MOVING, JobReason.CLUSTER_STOPPED, "the cluster was stopped"),
    }[stop]
    return RetryDecision(state, reason, ended.stop_text or text, now, ended.failures)


def _after_gpu(ended: Ended, now: float) -> RetryDecision:
    """Return the retry decision after the failure of a GPU: wait until it is known whether the GPU recovers."""
    names = ", ".join(map(str, ended.unresponsive))
    text = (
        f"GPU {names} does not answer a probe; retry after {IN_PLACE_DELAYS[0]:g} s, on other GPUs "
        "if it still does not answer"
    )
    due = now + IN_PLACE_DELAYS[0]
    return RetryDecision(JobState.RETRYING, JobReason.GPU_PROBE_FAILED, text, due, ended.failures)


class RetryStep(StrEnum):
    """The next step of a RETRYING job: start, wait or move."""

    WAIT = "wait"
    START = "start"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class InPlace:
    """The decision about a RETRYING job. `due` is the time of the next check or start (Unix seconds).

    `refund`: the last failure does not count, because the GPU caused it. `mark` contains the GPUs
    to mark.
    """

    step: RetryStep
    reason: JobReason
    text: str
    due: float
    verdict_until: float | None = None
    refund: bool = False
    mark: tuple[int, ...] = ()


def in_place(
    *,
    due: float,
    verdict_until: float | None,
    quarantined: bool,
    unresponsive: tuple[int, ...],
    now: float,
) -> InPlace:
    """Decide whether a RETRYING job starts on its GPUs, waits, or moves to other GPUs.

    `unresponsive` are the GPUs whose probe fails now (empty before `due`, when there is no probe
    yet). The job moves immediately if its GPUs are quarantined, or after 10 s of failed probes.
    Failed probes do not count as failures of the job.
    """
    if quarantined:
        text = "its GPUs are quarantined; retry on other GPUs"
        return InPlace(RetryStep.MOVE, JobReason.GPU_QUARANTINED, text, now, refund=True)
    if now < due:
        return InPlace(RetryStep.WAIT, JobReason.RETRY_IN_PLACE, "", due, verdict_until)
    if not unresponsive:
        return InPlace(RetryStep.START, JobReason.STARTED, "its GPUs answer the probe", now)
    names = ", ".join(map(str, unresponsive))
    until = verdict_until if verdict_until is not None else now + VERDICT_SECONDS
    if now < until:
        text = f"GPU {names} does not answer a probe; waiting for a decision about it"
        return InPlace(
            RetryStep.WAIT,
            JobReason.GPU_PROBE_FAILED,
            text,
            min(now + PROBE_SECONDS, until),
            until,
            True,
        )
    text = (
        f"GPU {names} does not answer a probe, no decision within {VERDICT_SECONDS:g} s; retry on "
        "other GPUs"
    )
    return InPlace(RetryStep.MOVE, JobReason.NO_VERDICT, text, now, refund=True, mark=unresponsive)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A record that a job failed on this GPU until it was moved, and has not failed on other GPUs since.

    `at` is when the job was moved (Unix seconds).
    """

    node: str
    index: int
    job_id: str
    at: float


def suspected(suspicions: Iterable[Suspicion], now: float) -> dict[tuple[str, int], str]:
    """Return the GPUs on which at least two different jobs failed in the last 30 minutes, each with a reason."""
    jobs: dict[tuple[str, int], list[str]] = {}
    for item in suspicions:
        if now - item.at > SUSPICION_SECONDS:
            continue
        found = jobs.setdefault((item.node, item.index), [])
        if item.job_id not in found:
            found.append(item.job_id)
    return {
        place: f"{len(names)} different jobs failed on this GPU: {', '.join(names[:3])}"
        for place, names in jobs.items()
        if len(names) >= SUSPICIOUS_JOBS
    }
