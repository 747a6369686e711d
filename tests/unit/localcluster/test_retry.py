"""What becomes of a job after its attempt ended, and of GPUs that jobs fail on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.localcluster.model import JobState
from fleetmedic.localcluster.retry import (
    FORGET_AFTER,
    MAX_FAILURES,
    VERDICT_SECONDS,
    Ended,
    ExitStatus,
    JobReason,
    RetryStep,
    Stop,
    Suspicion,
    after_exit,
    in_place,
    suspected,
)

NOW = 1_000.0
exits = st.one_of(
    st.integers(0, 255).map(lambda code: ExitStatus(code)),
    st.integers(1, 64).map(lambda number: ExitStatus(signal=number)),
    st.just(ExitStatus()),
)
stops = st.none() | st.sampled_from(Stop)


def failed(failures: int, ran: float = 5.0) -> Ended:
    return Ended(ExitStatus(1), failures, ran)


def test_failures_go_2s_then_10s_in_place_then_elsewhere_then_no_further() -> None:
    decisions = [after_exit(failed(before), NOW) for before in range(4)]
    assert [(d.state, d.due - NOW) for d in decisions] == [
        (JobState.RETRYING, 2.0),
        (JobState.RETRYING, 10.0),
        (JobState.MOVING, 0.0),
        (JobState.FAILED, 0.0),
    ]
    assert [d.reason for d in decisions[2:]] == [
        JobReason.RETRY_ELSEWHERE,
        JobReason.ATTEMPTS_EXHAUSTED,
    ]
    assert [d.suspect for d in decisions] == [False, False, True, False]
    assert decisions[3].acquit
    assert "exited with 1" in decisions[3].text


@given(st.lists(st.tuples(exits, stops, st.floats(0, FORGET_AFTER - 1)), max_size=60))
def test_the_failures_held_against_a_job_are_bounded(
    history: list[tuple[ExitStatus, Stop | None, float]],
) -> None:
    failures = 0
    charged = 0
    for ended, stop, ran in history:
        decision = after_exit(Ended(ended, failures, ran, stop), NOW)
        charged += decision.charged
        assert decision.charged == (stop is None and ended.code != 0)
        assert decision.failures == charged <= MAX_FAILURES
        assert decision.text
        if decision.state.ended:
            return
        failures = decision.failures
    assert charged < MAX_FAILURES


@given(exits, st.integers(0, 3), st.sampled_from(Stop))
def test_what_the_cluster_did_is_not_held_against_the_job(
    ended: ExitStatus, failures: int, stop: Stop
) -> None:
    decision = after_exit(Ended(ended, failures, 1.0, stop), NOW)
    assert decision.failures == failures
    assert not decision.charged
    assert decision.state is not JobState.COMPLETED


@given(exits.filter(lambda ended: ended.code != 0), st.integers(0, 3))
def test_an_end_with_a_sick_gpu_is_never_held_against_the_job(
    ended: ExitStatus, failures: int
) -> None:
    decision = after_exit(Ended(ended, failures, 1.0, unresponsive=(3,)), NOW)
    assert (decision.state, decision.reason) == (JobState.RETRYING, JobReason.GPU_PROBE_FAILED)
    assert (decision.failures, decision.charged, decision.due) == (failures, False, NOW + 2.0)
    assert "GPU 3" in decision.text


def test_ten_good_minutes_make_old_failures_forgotten() -> None:
    assert after_exit(failed(3, ran=FORGET_AFTER), NOW).failures == 1
    assert after_exit(failed(3, ran=FORGET_AFTER - 1), NOW).state is JobState.FAILED


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (ExitStatus(signal=9), "signal 9"),
        (ExitStatus(), "without an exit code"),
        (ExitStatus(error="its shim failed to start"), "shim"),
    ],
)
def test_the_sentence_says_how_it_ended(ended: ExitStatus, words: str) -> None:
    assert words in after_exit(Ended(ended, 0, 1.0), NOW).text


def test_a_retry_waits_for_its_time_then_starts_when_the_gpus_answer() -> None:
    early = in_place(due=NOW + 1, verdict_until=None, quarantined=False, unresponsive=(), now=NOW)
    assert (early.step, early.due) == (RetryStep.WAIT, NOW + 1)
    ready = in_place(due=NOW, verdict_until=None, quarantined=False, unresponsive=(), now=NOW)
    assert ready.step is RetryStep.START


def test_a_sick_gpu_gets_ten_seconds_for_a_verdict_and_then_a_mark() -> None:
    first = in_place(due=NOW, verdict_until=None, quarantined=False, unresponsive=(3,), now=NOW)
    assert (first.step, first.verdict_until, first.refund) == (
        RetryStep.WAIT,
        NOW + VERDICT_SECONDS,
        True,
    )
    assert first.reason is JobReason.GPU_PROBE_FAILED
    until = first.verdict_until
    later = in_place(
        due=NOW + 1, verdict_until=until, quarantined=False, unresponsive=(3,), now=NOW + 9
    )
    assert (later.step, later.verdict_until) == (RetryStep.WAIT, until)
    last = in_place(
        due=NOW + 10, verdict_until=until, quarantined=False, unresponsive=(3,), now=NOW + 10
    )
    assert (last.step, last.mark, last.reason) == (RetryStep.MOVE, (3,), JobReason.NO_VERDICT)
    assert last.due == NOW + 10


@given(st.floats(0, 30), st.booleans(), st.lists(st.integers(0, 7), min_size=1).map(tuple))
def test_a_gpu_that_does_not_answer_is_never_charged_to_the_job(
    later: float, quarantined: bool, unresponsive: tuple[int, ...]
) -> None:
    """Neither while it waits for a verdict nor when it moves; what costs nothing is no failure."""
    until = NOW + VERDICT_SECONDS
    step = in_place(
        due=NOW,
        verdict_until=until,
        quarantined=quarantined,
        unresponsive=unresponsive,
        now=NOW + later,
    )
    assert step.refund
    assert step.step is not RetryStep.START
    assert bool(step.mark) == (step.reason is JobReason.NO_VERDICT)


def test_a_retry_with_healthy_gpus_gives_nothing_back() -> None:
    for now in (NOW - 1, NOW):
        assert not in_place(
            due=NOW, verdict_until=None, quarantined=False, unresponsive=(), now=now
        ).refund


@given(
    st.floats(0, 2_000),
    st.none() | st.floats(0, 2_000),
    st.lists(st.integers(0, 7)).map(tuple),
    st.floats(0, 2_000),
)
def test_a_quarantine_is_a_verdict_at_any_time(
    due: float, until: float | None, unresponsive: tuple[int, ...], now: float
) -> None:
    step = in_place(
        due=due, verdict_until=until, quarantined=True, unresponsive=unresponsive, now=now
    )
    assert (step.step, step.reason, step.refund) == (
        RetryStep.MOVE,
        JobReason.GPU_QUARANTINED,
        True,
    )


@given(st.floats(0, 1e6))
def test_a_sick_gpu_never_holds_a_job_for_longer_than_the_verdict(begin: float) -> None:
    now, due, until = begin, begin, None
    for _ in range(100):
        step = in_place(due=due, verdict_until=until, quarantined=False, unresponsive=(0,), now=now)
        if step.step is RetryStep.MOVE:
            assert now <= begin + VERDICT_SECONDS + 1e-6
            return
        due, until = step.due, step.verdict_until
        now = due
    raise AssertionError("it waits for ever")


def test_two_different_jobs_make_a_gpu_suspected_and_one_alone_does_not() -> None:
    places = (("node1", 0, "a"), ("node1", 0, "a"), ("node1", 1, "a"))
    twice = [Suspicion(*place, at=NOW) for place in places]
    assert suspected(twice, NOW) == {}
    both = [*twice, Suspicion("node1", 1, "b", NOW)]
    found = suspected(both, NOW)
    assert list(found) == [("node1", 1)]
    assert "a, b" in found["node1", 1]
    assert suspected(both, NOW + 1800) == found
    assert suspected(both, NOW + 1801) == {}, "the mark ends, and the next jobs decide"


@pytest.mark.parametrize(
    ("code", "ran", "fails"),
    [(127, 0.1, True), (126, 4.9, True), (127, 5.0, False), (1, 0.1, False)],
)
def test_a_command_that_cannot_start_fails_at_once(code: int, ran: float, fails: bool) -> None:
    decision = after_exit(Ended(ExitStatus(code=code), 0, ran), NOW)
    assert (decision.state is JobState.FAILED) is fails
    if fails:
        assert decision.reason is JobReason.COMMAND_INVALID
        assert not decision.suspect, "the GPU is not to blame"
