"""A step is looked at, asked about once more, done, and looked at until it is seen or overdue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

import pytest

from fleetmedic.kernel.labels import Target
from fleetmedic.kernel.registry import Registry
from remediator.actions.base import Action, Observation, Tools
from remediator.clusters.base import ClusterError
from remediator.clusters.memory import MemoryCluster
from remediator.core.action import ActionSpec
from remediator.core.events import Kind
from remediator.core.guards import ALLOWED, Ruling, Verdict
from remediator.core.model import Incident, Level, Playbook, Step, StepRun, StepState
from remediator.core.reasons import Reason
from remediator.executor import Executor, StepOutcome
from remediator.senses import Senses
from tests.unit.remediator.catalogue import ACTIONS

GPU = Target.parse("node1/3")
HOLD = Verdict(Ruling.HOLD, Reason.ALERT_GONE, "The alert is over.")
NOT_YET = Observation(False, "not yet")
DONE = Observation(True, "done")
PERMANENT = ClusterError("it is gone for good.")
TRANSIENT = ClusterError("it is busy.", transient=True)


class Time:
    """Seconds that pass only in the pauses of the executor, and where an action takes some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 1000.0
        sleep = asyncio.sleep

        async def pass_by(seconds: float) -> None:
            self.at += max(seconds, 0.001)
            await sleep(0)

        monkeypatch.setattr("remediator.executor.asyncio.sleep", pass_by)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@dataclass
class Scripted(Action):
    """An action whose looks and acts are given in advance; the last look is repeated."""

    name: str = "reset_gpu"
    disruptive: bool = True
    before: list[Observation | ClusterError] = field(default_factory=lambda: [NOT_YET])
    after: list[Observation | ClusterError] = field(default_factory=lambda: [DONE])
    acts: list[ClusterError | None] = field(default_factory=lambda: [None])
    gate: Callable[[], Awaitable[None]] | None = None
    acted: int = 0
    inside: int = 0
    most: int = 0

    @property
    def spec(self) -> ActionSpec:
        return replace(ACTIONS.named(self.name), disruptive=self.disruptive)

    async def observe(self, step: Step, tools: Tools) -> Observation:
        looks = self.after if self.acted else self.before
        look = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(look, ClusterError):
            raise look
        return look

    async def act(self, step: Step, tools: Tools) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if self.gate is not None:
                await self.gate()
            refused = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
            if refused is not None:
                raise refused
            self.acted += 1
        finally:
            self.inside -= 1


@dataclass
class Frame:
    """An executor of some actions, and what a step is asked about."""

    actions: tuple[Scripted, ...]
    at_once: int = 2
    now: Callable[[], float] = lambda: 0.0
    verdicts: list[Verdict] = field(default_factory=lambda: [ALLOWED])
    asked: int = 0
    alone: bool = False

    def __post_init__(self) -> None:
        registry = Registry("action", cast("tuple[Action, ...]", self.actions))
        self.executor = Executor(registry, disruptive_at_once=self.at_once, now=self.now)

    async def _confirm(self, step: Step) -> Verdict:
        self.asked += 1
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]

    async def run(
        self, action: str = "", *, resumed: bool = False, deadline: float = 60.0, name: str = ""
    ) -> StepOutcome:
        action = action or self.actions[0].name
        incident = Incident("inc-1", GPU, "gpu-lost", Level.REPAIR, opened=1.0)
        step = Step(name or action, action, ACTIONS.named(action).effect, GPU, 1, "op", deadline)
        tools = Tools(
            MemoryCluster(), cast(Senses, None), incident, cast(Playbook, None), self._confirm,
            one_at_a_time=lambda: self.alone,
        )  # fmt: skip
        run = StepRun(step, StepState.PREPARED, 1.0)
        return await self.executor.run(run, tools, resumed=resumed)


def said(outcome: StepOutcome) -> tuple[Kind, Reason]:
    return outcome.kind, outcome.reason


def one(action: Scripted, time: Time, **more: object) -> tuple[StepOutcome, Frame]:
    """The outcome of one step, with more of the frame (`verdicts`) or of the run."""
    runs = {name: more.pop(name) for name in ("resumed", "deadline", "name") if name in more}
    frame = Frame((action,), now=lambda: time.at, **more)  # type: ignore[arg-type]
    return asyncio.run(frame.run(**runs)), frame  # type: ignore[arg-type]


def test_what_is_there_already_is_not_done_again(time: Time) -> None:
    action = Scripted(before=[DONE])
    outcome, frame = one(action, time)
    assert said(outcome) == (Kind.STEP_DONE, Reason.EFFECT_SEEN)
    assert (action.acted, frame.asked) == (0, 0)


def test_a_step_is_asked_about_right_before_it_is_done_and_done_once(time: Time) -> None:
    action = Scripted(after=[NOT_YET, NOT_YET, DONE])
    outcome, frame = one(action, time)
    assert said(outcome) == (Kind.STEP_DONE, Reason.EFFECT_SEEN)
    assert (action.acted, frame.asked) == (1, 1)


def test_a_step_that_may_not_be_done_any_more_is_withdrawn_untouched(time: Time) -> None:
    action = Scripted()
    outcome, _ = one(action, time, verdicts=[HOLD])
    assert outcome == StepOutcome(Kind.STEP_WITHDRAWN, Reason.ALERT_GONE, "The alert is over.")
    assert action.acted == 0


def test_a_message_is_asked_about_by_nobody(time: Time) -> None:
    action = Scripted(name="notify", disruptive=False)
    outcome, frame = one(action, time, verdicts=[HOLD])
    assert (outcome.kind, frame.asked, action.acted) == (Kind.STEP_DONE, 0, 1)


def test_a_test_that_fails_says_so_and_one_that_could_not_tell_too(time: Time) -> None:
    sick, _ = one(Scripted(before=[Observation(True, "sick", ok=False, passed=False)]), time)
    assert (said(sick), sick.passed) == ((Kind.STEP_FAILED, Reason.NOT_HEALED), False)
    broken, _ = one(Scripted(before=[Observation(True, "broken off", ok=False)]), time)
    assert (said(broken), broken.passed) == ((Kind.STEP_FAILED, Reason.STEP_REFUSED), None)
    well, _ = one(Scripted(before=[Observation(True, "well", passed=True)]), time)
    assert well.passed is True


# What cannot be seen.


@pytest.mark.parametrize("error", [PERMANENT, TRANSIENT])
def test_a_disruptive_step_that_was_done_and_cannot_be_seen_is_unknown(
    time: Time, error: ClusterError
) -> None:
    action = Scripted(after=[error])
    outcome, _ = one(action, time, deadline=5.0)
    assert said(outcome) == (Kind.STEP_FAILED, Reason.EFFECT_UNKNOWN)
    assert (action.acted, outcome.text) == (1, str(error))
    assert (time.at > 1000.0 + 4.9) is error.transient


@pytest.mark.parametrize("error", [PERMANENT, TRANSIENT])
def test_one_that_was_not_begun_and_cannot_be_seen_is_refused(
    time: Time, error: ClusterError
) -> None:
    action = Scripted(before=[error])
    outcome, frame = one(action, time, deadline=5.0)
    assert said(outcome) == (Kind.STEP_FAILED, Reason.STEP_REFUSED)
    assert (action.acted, frame.asked) == (0, 0)
    assert (time.at > 1000.0 + 4.9) is error.transient


@pytest.mark.parametrize("error", [PERMANENT, TRANSIENT])
def test_after_a_restart_what_cannot_be_seen_may_have_begun(
    time: Time, error: ClusterError
) -> None:
    outcome, _ = one(Scripted(before=[error]), time, deadline=5.0, resumed=True)
    assert said(outcome) == (Kind.STEP_FAILED, Reason.EFFECT_UNKNOWN)


@pytest.mark.parametrize("resumed", [True, False])
def test_a_harmless_step_that_cannot_be_seen_is_refused(time: Time, resumed: bool) -> None:
    action = Scripted(name="quarantine_gpu", disruptive=False, after=[PERMANENT])
    outcome, _ = one(action, time, resumed=resumed)
    assert said(outcome) == (Kind.STEP_FAILED, Reason.STEP_REFUSED)


def test_a_look_that_fails_for_the_moment_is_repeated(time: Time) -> None:
    action = Scripted(before=[TRANSIENT, NOT_YET], after=[TRANSIENT, TRANSIENT, DONE])
    outcome, _ = one(action, time)
    assert said(outcome) == (Kind.STEP_DONE, Reason.EFFECT_SEEN)
    assert action.acted == 1


# What the cluster refuses.


def test_a_refused_step_that_had_its_effect_all_the_same_is_done(time: Time) -> None:
    action = Scripted(before=[NOT_YET, DONE], acts=[PERMANENT])
    outcome, _ = one(action, time)
    assert said(outcome) == (Kind.STEP_DONE, Reason.EFFECT_SEEN)


@pytest.mark.parametrize("look", [NOT_YET, PERMANENT])
def test_a_refused_step_is_not_repeated(time: Time, look: Observation | ClusterError) -> None:
    action = Scripted(before=[NOT_YET, look], acts=[PERMANENT])
    outcome, frame = one(action, time)
    assert outcome == StepOutcome(Kind.STEP_FAILED, Reason.STEP_REFUSED, str(PERMANENT))
    assert frame.asked == 1


def test_one_refused_for_the_moment_is_tried_until_the_deadline_and_asked_about_each_time(
    time: Time,
) -> None:
    action = Scripted(acts=[TRANSIENT, TRANSIENT, None])
    outcome, frame = one(action, time)
    assert (said(outcome), frame.asked) == ((Kind.STEP_DONE, Reason.EFFECT_SEEN), 3)
    action = Scripted(acts=[TRANSIENT])
    outcome, _ = one(action, time, deadline=5.0)
    assert outcome == StepOutcome(Kind.STEP_FAILED, Reason.EFFECT_MISSING, "not yet")


def test_one_refused_for_the_moment_whose_alert_goes_is_withdrawn(time: Time) -> None:
    action = Scripted(acts=[TRANSIENT])
    outcome, _ = one(action, time, verdicts=[ALLOWED, ALLOWED, HOLD])
    assert (outcome.kind, action.acted) == (Kind.STEP_WITHDRAWN, 0)


# Deadlines.


def test_an_effect_that_does_not_show_by_the_deadline_is_missing(time: Time) -> None:
    action = Scripted(after=[Observation(False, "still away", passed=False)])
    outcome, _ = one(action, time, deadline=7.0)
    assert outcome == StepOutcome(Kind.STEP_FAILED, Reason.EFFECT_MISSING, "still away", False)
    assert 7.0 <= time.at - 1000.0 < 7.1


def test_a_step_that_another_process_may_have_begun_has_ten_seconds_at_least(time: Time) -> None:
    outcome, _ = one(Scripted(after=[NOT_YET]), time, deadline=2.0, resumed=True)
    assert outcome.reason is Reason.EFFECT_MISSING
    assert 10.0 <= time.at - 1000.0 < 10.1
    time.at = 1000.0
    one(Scripted(after=[NOT_YET]), time, deadline=30.0, resumed=True)
    assert 30.0 <= time.at - 1000.0 < 30.1


def test_it_is_looked_at_twice_a_second_at_least(time: Time) -> None:
    looks: list[float] = []

    class Looking(Scripted):
        async def observe(self, step: Step, tools: Tools) -> Observation:
            looks.append(tools.waited())
            return await super().observe(step, tools)

    one(Looking(after=[NOT_YET]), time, deadline=5.0)
    gaps = [later - earlier for earlier, later in pairwise(looks[1:])]
    assert max(gaps) <= 0.51
    assert gaps[0] < 0.05
    assert looks[0] == 0.0


def test_waiting_for_a_slot_costs_a_step_no_time(time: Time) -> None:
    async def story() -> list[StepOutcome]:
        hung = asyncio.Event()
        action = Scripted(gate=hung.wait)
        frame = Frame((action,), at_once=1, now=lambda: time.at)
        runs = [asyncio.create_task(frame.run(deadline=5.0)) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        time.at += 100.0
        action.acted = 0
        hung.set()
        return await asyncio.gather(*runs)

    assert [said(outcome) for outcome in asyncio.run(story())] == [
        (Kind.STEP_DONE, Reason.EFFECT_SEEN)
    ] * 2


# How many at once.


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _crowd(*actions: Scripted, resets: int, others: tuple[str, ...] = (), alone: bool = False) -> list[str]:  # fmt: skip
    """Start resets that hang, and others; which of the others end meanwhile."""

    async def story() -> list[str]:
        ended: list[str] = []
        frame = Frame(actions, at_once=2, alone=alone)

        async def go(name: str) -> None:
            await frame.run(name)
            ended.append(name)

        tasks = [asyncio.create_task(go("reset_gpu")) for _ in range(resets)]
        await _settle()
        tasks += [asyncio.create_task(go(name)) for name in others]
        await _settle()
        meanwhile = list(ended)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return meanwhile

    return asyncio.run(story())


async def _hangs() -> None:
    await asyncio.Event().wait()


def test_only_so_many_disruptive_steps_are_done_at_once() -> None:
    reset = Scripted(gate=_hangs)
    assert _crowd(reset, resets=5) == []
    assert reset.most == 2


def test_what_disturbs_nothing_and_what_is_of_another_kind_do_not_wait_for_them() -> None:
    reset = Scripted(gate=_hangs)
    notify = Scripted(name="notify", disruptive=False)
    restart = Scripted(name="restart_jobs")
    others = ("notify", "notify", "notify", "restart_jobs")
    assert sorted(_crowd(reset, notify, restart, resets=5, others=others)) == sorted(others)


def test_what_disturbs_nothing_has_no_limit() -> None:
    notify = Scripted(name="notify", disruptive=False, gate=_hangs)
    _crowd(Scripted(gate=_hangs), notify, resets=0, others=("notify",) * 5)
    assert notify.most == 5


def test_after_a_storm_disruptive_steps_go_one_at_a_time_whatever_their_kind() -> None:
    reset, restart = Scripted(gate=_hangs), Scripted(name="restart_jobs")
    notify = Scripted(name="notify", disruptive=False)
    actions = (reset, restart, notify)
    ended = _crowd(*actions, resets=3, others=("restart_jobs", "notify"), alone=True)
    assert (ended, reset.most) == (["notify"], 1)


def test_a_slot_is_free_again_after_a_step_that_fails() -> None:
    async def story() -> int:
        action = Scripted(acts=[PERMANENT])
        frame = Frame((action,), at_once=1)
        for _ in range(3):
            await frame.run()
        return frame.asked

    assert asyncio.run(asyncio.wait_for(story(), 5.0)) == 3


# Pauses and restarts.


@pytest.mark.parametrize("name", ["reset_gpu", "reboot_node"])
def test_a_repair_that_another_process_may_have_begun_is_waited_for_and_never_repeated(
    time: Time, name: str
) -> None:
    action = Scripted(name=name)
    outcome, _ = one(action, time, verdicts=[HOLD], resumed=True, deadline=20.0)
    assert (outcome.kind, action.acted) == (Kind.STEP_WITHDRAWN, 0)
    assert 20.0 <= time.at - 1000.0 < 21.0


def test_a_repair_begun_by_another_process_is_seen_when_it_shows(time: Time) -> None:
    action = Scripted(before=[NOT_YET] * 5 + [DONE])
    outcome, _ = one(action, time, verdicts=[HOLD], resumed=True)
    assert (said(outcome), action.acted) == ((Kind.STEP_DONE, Reason.EFFECT_SEEN), 0)


def test_another_step_after_a_restart_is_taken_back_after_ten_seconds(time: Time) -> None:
    action = Scripted(name="restart_jobs")
    outcome, _ = one(action, time, verdicts=[HOLD], resumed=True, deadline=60.0)
    assert (outcome.kind, action.acted) == (Kind.STEP_WITHDRAWN, 0)
    assert 10.0 <= time.at - 1000.0 < 11.0


def test_after_a_restart_what_may_still_be_done_is_done(time: Time) -> None:
    action = Scripted(name="restart_jobs")
    outcome, _ = one(action, time, verdicts=[HOLD, HOLD, ALLOWED], resumed=True)
    assert (outcome.kind, action.acted) == (Kind.STEP_DONE, 1)


def test_what_a_later_process_did_and_cannot_see_is_unknown(time: Time) -> None:
    action = Scripted(after=[PERMANENT])
    outcome, _ = one(action, time, resumed=True)
    assert said(outcome) == (Kind.STEP_FAILED, Reason.EFFECT_UNKNOWN)
