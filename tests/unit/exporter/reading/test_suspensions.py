"""Holds and their retry times."""

from exporter.reading.suspensions import Suspensions


def test_a_hang_of_a_group_leaves_out_the_group_and_of_presence_the_gpu() -> None:
    suspensions = Suspensions()
    suspensions.add(3, "links", 0.0)
    suspensions.add(3, "mig", 0.0)
    assert suspensions.plan() == {3: frozenset(("links", "mig"))}
    suspensions.add(3, "presence", 0.0)
    assert suspensions.targets() == [(3, None)]
    assert suspensions.plan() == {3: None}


def test_the_waits_grow_to_a_limit_that_lets_it_be_found_within_five_seconds() -> None:
    suspensions, now, waits = Suspensions(), 0.0, []
    target = suspensions.add(3, "identify", now)
    for _ in range(5):
        waits.append(suspensions.next_at() - now)
        now = suspensions.next_at()
        assert suspensions.due(now) == [target]
        suspensions.mark_retrying([target])
        assert suspensions.due(now + 1e6) == []
        suspensions.record_no_response([target], now, stuck=False)
    assert waits == [1, 2, 4, 4, 4]


def test_while_a_process_is_stuck_it_is_asked_rarely_and_at_once_when_that_ends() -> None:
    suspensions = Suspensions()
    target = suspensions.add(3, None, 0.0)
    waits = []
    for _ in range(7):
        suspensions.record_no_response([target], 0.0, stuck=True)
        waits.append(suspensions.next_at())
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    suspensions.retry_now(5.0)
    assert suspensions.due(5.0) == [target]


def test_what_answered_is_left_out_no_more() -> None:
    suspensions = Suspensions()
    target = suspensions.add(3, "load", 0.0)
    assert suspensions.remove(target)
    assert not suspensions.remove(target)
    assert not suspensions
    assert suspensions.next_at() == float("inf")
