"""The assignment of GPUs to processes: from observations of the processes to actions."""

from itertools import pairwise

import pytest

from exporter.reading.heartbeat import Beat
from exporter.reading.protocol import (
    Answered,
    Failed,
    GroupReadings,
    Hello,
    Lost,
    Message,
    Present,
    Round,
    Slots,
)
from exporter.reading.worker_pool import WorkerPool
from exporter.reading.worker_records import (
    Action,
    EndWorker,
    MarkHung,
    MarkResponding,
    PoolWorker,
    SendCommand,
    StartWorker,
    WithholdGroup,
    WorkerRole,
    WorkerState,
)
from exporter.sources.base import Group

EIGHT = tuple(range(8))


class Node:
    """A roster, and fake processes controlled by the test. The test sets the time, in seconds."""

    def __init__(self) -> None:
        self.worker_pool = WorkerPool()
        self.beats: dict[int, Beat] = {}
        self.states: dict[int, str] = {}
        self.ended: set[int] = set()
        self.stuck = 0
        self.log: list[Action] = []

    def step(self, now: float) -> list[Action]:
        observed = {
            number: WorkerState(beat, lambda number=number: self.states.get(number, "S"), number in self.ended)
            for number, beat in self.beats.items()
            if number in self.worker_pool.workers
        }  # fmt: skip
        return self._note(self.worker_pool.step(now, observed, self.stuck), now)

    def say(self, number: int, now: float, *messages: Message) -> list[Action]:
        done: list[Action] = []
        for message in messages:
            done += self._note(self.worker_pool.handle_message(number, message, now), now)
        return done

    def _note(self, actions: list[Action], now: float) -> list[Action]:
        for action in actions:
            if isinstance(action, StartWorker):
                self.beats[action.number] = Beat(0, now, now, None, "open")
        self.log += actions
        return actions

    def does(self, number: int, at: float, slot: int | None, group: Group | None) -> None:
        """The process starts a call, or (without a group) waits."""
        calls = self.beats[number].calls + 1
        self.beats[number] = Beat(calls, at, at, slot, group)

    def calls(self, number: int, at: float) -> None:
        """A call returned, and another call for the same GPU started."""
        beat = self.beats[number]
        self.beats[number] = beat._replace(calls=beat.calls + 1, at=at)

    def common(self) -> PoolWorker:
        worker = self.worker_pool.common()
        assert worker is not None
        return worker

    def well(self, now: float) -> int:
        """A common worker has read everything and waits."""
        number = self.common().number
        self.say(number, now, Hello("x"), Slots(EIGHT), Round(now))
        self.does(number, now, None, None)
        return number


@pytest.fixture
def node() -> Node:
    made = Node()
    made.step(0.0)
    made.well(0.5)
    return made


def kinds(actions: list[Action], kind: type) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def hang(node: Node, at: float, slot: int, group: Group = "presence") -> tuple[int, list[Action]]:
    """The common worker starts a call that does not return. Returns the actions when this is detected."""
    number = node.common().number
    node.does(number, at, slot, group)
    assert kinds(node.step(at + 0.7), MarkHung) == []
    return number, node.step(at + 0.85)


def test_an_overdue_call_flags_its_gpu_and_another_worker_serves_the_others(node: Node) -> None:
    number, done = hang(node, 1.0, 5)
    assert MarkHung(number, 5) in done
    [start] = kinds(done, StartWorker)
    assert (start.role, start.plan, start.count) == (WorkerRole.COMMON, {5: None}, 8)
    assert kinds(done, EndWorker) == []
    assert node.worker_pool.left_out() == [(5, None)]


def test_a_call_that_comes_back_makes_its_gpu_slow_with_a_worker_of_its_own(node: Node) -> None:
    number, _ = hang(node, 1.0, 5, "load")
    node.calls(number, 2.5)
    done = node.step(2.6)
    assert SendCommand(number, "only 5") in done
    assert MarkResponding(number, 5) in done
    assert node.worker_pool.slow() == {5}
    assert node.worker_pool.left_out() == []
    assert node.common().plan == {5: None}


def test_a_slow_gpu_is_alive_as_long_as_calls_come_back_and_goes_back_when_fast(node: Node) -> None:
    number, _ = hang(node, 1.0, 5, "load")
    for second in range(2, 20):
        node.calls(number, second)
        assert MarkResponding(number, 5) in node.step(second + 0.1)
    values = GroupReadings(5, "load", 20.0, (), slowest=1.0, took=18.0)
    node.say(number, 20.0, values, Round(20.0))
    for second in range(20, 26):
        assert not kinds(node.step(second), EndWorker)
        node.say(number, second, Present(5, 0.01), Round(second))
        node.does(number, second, None, None)
    node.say(number, 26.0, GroupReadings(5, "load", 26.0, (), slowest=0.01, took=0.02), Round(26.0))
    done = node.step(26.1)
    assert kinds(done, EndWorker) == [EndWorker(number)]
    assert SendCommand(node.common().number, "skip 5 -") in done
    assert node.worker_pool.slow() == frozenset()


def test_a_slow_gpu_has_five_seconds_for_each_call(node: Node) -> None:
    number, _ = hang(node, 1.0, 5, "load")
    node.calls(number, 2.5)
    node.step(2.6)
    assert not kinds(node.step(7.0), MarkHung)
    done = node.step(7.6)
    assert MarkHung(number, 5) in done
    assert EndWorker(number) in done
    assert node.worker_pool.suspensions.targets() == [(5, "load")]


def test_a_slow_gpu_that_is_lost_is_not_slow_any_more(node: Node) -> None:
    number, _ = hang(node, 1.0, 5)
    node.calls(number, 2.0)
    node.step(2.1)
    for second in range(3, 9):
        node.say(number, second, Lost(5), Round(second))
        node.does(number, second, None, None)
    assert EndWorker(number) in node.step(8.1)


@pytest.mark.parametrize(
    ("group", "target", "order"),
    [
        ("presence", (5, None), None),
        ("identify", (5, None), None),
        ("links", (5, "links"), "skip 5 links"),
    ],
)
def test_after_five_seconds_what_hung_is_left_out(
    node: Node, group: Group, target: tuple[int, Group | None], order: str | None
) -> None:
    number = node.common().number
    node.does(number, 1.0, 5, group)
    node.step(3.1)
    assert not kinds(node.step(5.9), EndWorker)
    done = node.step(6.1)
    assert EndWorker(number) in done
    assert node.worker_pool.suspensions.targets() == node.worker_pool.left_out() == [target]
    assert kinds(done, WithholdGroup) == (
        [] if target[1] is None else [WithholdGroup(number, 5, "links")]
    )
    orders = [action.text for action in kinds(done, SendCommand)]  # type: ignore[attr-defined]
    assert orders == ([order] if order else [])


def test_what_is_left_out_is_asked_again_and_comes_back_when_it_answers(node: Node) -> None:
    hang(node, 1.0, 5)
    node.step(6.1)
    node.well(6.2)
    [start] = kinds(node.step(7.2), StartWorker)
    assert (start.role, start.plan) == (WorkerRole.PROBE, {5: None})
    done = node.say(start.number, 8.0, Hello("x"), Answered(5, None, 0.0)) + node.step(8.0)
    assert SendCommand(node.common().number, "skip 5 -") in done
    assert node.worker_pool.left_out() == []
    node.ended.add(start.number)
    assert kinds(node.step(8.1), EndWorker) == [EndWorker(start.number)]
    assert list(node.worker_pool.workers) == [node.common().number]


def test_a_gpu_that_answers_slowly_when_asked_again_gets_a_worker_of_its_own(node: Node) -> None:
    hang(node, 1.0, 5)
    node.step(6.1)
    [probe] = kinds(node.step(7.2), StartWorker)
    done = node.say(probe.number, 10.0, Hello("x"), Answered(5, None, 1.2))
    [start] = kinds(done, StartWorker)
    assert (start.role, start.slots) == (WorkerRole.SOLO, {5})
    node.step(10.1)
    assert node.common().plan == {5: None}


def test_a_second_hang_right_after_the_first_has_all_the_others_asked_at_once(node: Node) -> None:
    hang(node, 1.0, 0)
    node.well(2.0)
    _, done = hang(node, 2.1, 1)
    [probe] = kinds(done, StartWorker)
    assert probe.role is WorkerRole.PROBE
    assert probe.plan == dict.fromkeys(range(2, 8))
    node.say(probe.number, 3.1, Hello("x"), *(Answered(slot, None, 0.0) for slot in (2, 3)))
    assert node.worker_pool.common() is None
    done = node.step(4.0)
    assert [a.slot for a in kinds(done, MarkHung)] == [4, 5, 6, 7]  # type: ignore[attr-defined]
    assert node.common().plan == dict.fromkeys((0, 1, 4, 5, 6, 7))
    assert len(node.worker_pool.workers) == 4  # two suspects, the probe, the common worker


def test_a_worker_that_waits_for_a_processor_is_not_blamed_at_once(node: Node) -> None:
    number = node.common().number
    node.states[number] = "R"
    node.does(number, 1.0, 5, "presence")
    assert not kinds(node.step(4.0), MarkHung)
    assert kinds(node.step(4.3), MarkHung)


def test_a_worker_that_somebody_stopped_blames_no_gpu(node: Node) -> None:
    number = node.common().number
    node.states[number] = "T"
    node.does(number, 1.0, 5, "presence")
    assert not kinds(node.step(10.9), MarkHung)
    assert EndWorker(number) in node.step(11.1)
    assert not node.worker_pool.suspensions


def test_a_gpu_that_takes_the_others_time_is_read_alone_without_being_flagged(node: Node) -> None:
    number = node.common().number
    node.does(number, 1.0, 5, "load")
    for tenth in range(14, 25, 3):
        node.calls(number, tenth / 10)
    done = node.step(2.55)
    assert not kinds(done, MarkHung)
    assert SendCommand(number, "only 5") in done
    assert [a.role for a in kinds(done, StartWorker)] == [WorkerRole.COMMON]  # type: ignore[attr-defined]


def test_a_ninth_slow_gpu_shares_a_worker(node: Node) -> None:
    for slot in range(9):
        node.worker_pool._assign_solo(None, slot, "presence", 1.0)
    assert len(node.worker_pool.workers) == 9  # and the common worker
    assert node.worker_pool.slow() == set(range(9))


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_said_to_fail(node: Node) -> None:
    number = node.common().number
    node.ended.add(number)
    node.step(1.0)
    assert kinds(node.step(1.2), StartWorker) == []
    assert len(kinds(node.step(1.3), StartWorker)) == 1
    node.well(1.5)
    node.step(5.0)
    assert (node.worker_pool.failure, node.worker_pool.restarts) == ("", 1)


def test_a_source_that_fails_is_tried_again_with_waits_that_grow_to_three_and_a_half_seconds(
    node: Node,
) -> None:
    starts, now = [], 1.0
    while now < 40.0:
        worker = node.worker_pool.common()
        if worker is not None:
            node.say(worker.number, now, Failed("no driver"))
            node.ended.add(worker.number)
        starts += [now for action in node.step(now) if isinstance(action, StartWorker)]
        now += 0.05
    gaps = [round(later - earlier, 1) for earlier, later in pairwise(starts)]
    assert node.worker_pool.failure == "no driver"
    assert gaps[:4] == pytest.approx([0.6, 1.1, 2.1, 3.6], abs=0.11)
    assert max(gaps) <= 3.7
    assert len([a for a in node.log if getattr(a, "event", "") == "reader_lost"]) == 1


def test_what_changed_outside_ends_the_wait(node: Node) -> None:
    for now in (1.0, 2.0, 2.5, 4.0, 4.1):
        node.ended.update(node.worker_pool.workers)
        node.step(now)
    assert node.worker_pool.common() is None
    assert not kinds(node.step(4.2), StartWorker)
    node.worker_pool.retry_now(4.3)
    assert kinds(node.step(4.3), StartWorker)


def test_a_driver_that_does_not_connect_costs_no_gpu(node: Node) -> None:
    node.ended.add(node.common().number)
    node.step(1.0)
    node.step(1.3)
    number = node.common().number
    assert EndWorker(number) in node.step(16.5)
    assert "did not respond within 15 s" in str(node.log)
    assert not node.worker_pool.suspensions


def test_with_three_processes_stuck_in_the_kernel_no_more_are_started(node: Node) -> None:
    node.stuck = 3
    node.ended.add(node.common().number)
    node.step(1.0)
    assert kinds(node.step(5.0), StartWorker) == []
    assert "stuck in the kernel" in node.worker_pool.failure
    node.stuck = 0
    node.worker_pool.retry_now(6.0)
    assert kinds(node.step(6.0), StartWorker)


def test_when_the_driver_numbers_anew_nothing_is_left_out_by_its_old_number(node: Node) -> None:
    hang(node, 1.0, 5)
    node.step(6.1)
    number = node.common().number
    node.say(number, 7.0, Slots(tuple(range(7))))
    assert node.worker_pool.left_out() == []
    assert node.common().plan == {}


def test_another_driver_means_another_worker_with_nothing_left_out(node: Node) -> None:
    hang(node, 1.0, 5)
    node.step(6.1)
    ended = node.worker_pool.restart(7.0, "reloaded")
    assert len(kinds(ended, EndWorker)) == 1
    [start] = kinds(node.step(7.0), StartWorker)
    assert (start.role, start.plan) == (WorkerRole.COMMON, {})


def test_all_that_is_done_while_nothing_is_wrong_is_one_look_a_second(node: Node) -> None:
    number = node.common().number
    node.does(number, 10.0, None, None)
    observed = {number: WorkerState(node.beats[number], lambda: "S")}
    assert node.worker_pool.wake_at(10.0, observed) == pytest.approx(11.0)
    node.does(number, 10.5, 3, "load")
    observed = {number: WorkerState(node.beats[number], lambda: "S")}
    assert node.worker_pool.wake_at(10.6, observed) == pytest.approx(11.3)
