"""Holds and their retry times."""

from exporter.reading.suspensions import Holds


def test_a_hang_of_a_group_leaves_out_the_group_and_of_presence_the_gpu() -> None:
    holds = Holds()
    holds.add(3, "links", 0.0)
    holds.add(3, "mig", 0.0)
    assert holds.plan() == {3: frozenset(("links", "mig"))}
    holds.add(3, "presence", 0.0)
    assert holds.targets() == [(3, None)]
    assert holds.plan() == {3: None}


def test_the_waits_grow_to_a_limit_that_lets_it_be_found_within_five_seconds() -> None:
    holds, now, waits = Holds(), 0.0, []
    target = holds.add(3, "identify", now)
    for _ in range(5):
        waits.append(holds.next_at() - now)
        now = holds.next_at()
        assert holds.due(now) == [target]
        holds.asked([target])
        assert holds.due(now + 1e6) == []
        holds.silent([target], now, stuck=False)
    assert waits == [1, 2, 4, 4, 4]


def test_while_a_process_is_stuck_it_is_asked_rarely_and_at_once_when_that_ends() -> None:
    holds = Holds()
    target = holds.add(3, None, 0.0)
    waits = []
    for _ in range(7):
        holds.silent([target], 0.0, stuck=True)
        waits.append(holds.next_at())
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    holds.hurry(5.0)
    assert holds.due(5.0) == [target]


def test_what_answered_is_left_out_no_more() -> None:
    holds = Holds()
    target = holds.add(3, "load", 0.0)
    assert holds.answered(target)
    assert not holds.answered(target)
    assert not holds
    assert holds.next_at() == float("inf")
