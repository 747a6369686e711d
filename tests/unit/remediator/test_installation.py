"""One installation acts on a cluster; the others say which one, and do nothing."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fleetmedic.kernel.errors import UserError
from remediator import installation
from remediator.clusters.base import Capability, Cluster, ClusterError, InstanceLock
from remediator.clusters.memory import MemoryCluster
from remediator.installation import HANDOVER, RENEW, TTL, VALID, ClusterLock, read_identity

ONE, TWO = "1" * 32, "2" * 32


class World:
    """One clock for all, and a cluster whose store can be out of reach, or lose its answers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.cluster = _Flaky(self.clock)

    def clock(self) -> float:
        return self.now

    def remediator(self, name: str, take_over: str = "", **given: float) -> ClusterLock:
        return ClusterLock(
            self.cluster, name, f"host-{name[0]}", take_over, clock=self.clock, **given
        )


class _Flaky(MemoryCluster):
    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.before: Exception | None = None
        self.after: Exception | None = None
        self.asked: list[tuple[str, float, str]] = []

    async def lock(
        self, installation: str, *, ttl: float, host: str, take_over: str = ""
    ) -> InstanceLock:
        self.asked.append((installation, ttl, take_over))
        if self.before is not None:
            raise self.before
        held = await super().lock(installation, ttl=ttl, host=host, take_over=take_over)
        if self.after is not None:
            raise self.after
        return held


@pytest.fixture
def world() -> World:
    return World()


def claim(lock: ClusterLock) -> str | None:
    asyncio.run(lock.claim())
    return lock.refusal()


# ---- the id


def test_an_id_is_made_once_and_is_private(tmp_path: Path) -> None:
    made = read_identity(tmp_path / "new")
    path = tmp_path / "new" / "installation-id"
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_identity(tmp_path / "new") == made
    assert read_identity(tmp_path / "other") != made


def test_an_id_written_by_hand_is_read_without_its_case_and_white_space(tmp_path: Path) -> None:
    (tmp_path / "installation-id").write_text(f" {'AB' * 16}\r\n")
    assert read_identity(tmp_path) == "ab" * 16


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 32, b"1" * 31, b"1" * 33, b"g" * 32, b"\xff" * 99]
)
def test_a_damaged_id_is_an_error_with_a_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "installation-id").write_bytes(content)
    with pytest.raises(UserError, match=r"installation-id: expected 32 hex digits; .*delete it"):
        read_identity(tmp_path)
    assert (tmp_path / "installation-id").read_bytes() == content


def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/installation-id: cannot be"):
        read_identity(tmp_path / "file")
    (tmp_path / "installation-id").mkdir()
    with pytest.raises(UserError, match=r"installation-id: cannot be read \(Is a directory"):
        read_identity(tmp_path)


# ---- who may act


def test_nothing_may_be_done_before_the_lock_is_taken(world: World) -> None:
    lock = world.remediator(ONE)
    assert lock.refusal() == (
        "The lock of cluster 'memory' was not acquired; no action starts until it is."
    )
    assert claim(lock) is None
    assert world.cluster.asked == [(ONE, 60.0, "")]


def test_a_second_remediator_names_the_first_and_may_do_nothing(world: World) -> None:
    first, second = world.remediator(ONE), world.remediator(TWO)
    claim(first)
    assert claim(second) == (
        "Another remediator (installation 11111111, on host host-1) acts on cluster 'memory'; "
        "this one takes no action. Stop one of them, or start this one with --take-over REASON."
    )
    assert first.refusal() is None
    assert second.holder is not None
    assert second.holder.installation == ONE


def test_a_second_remediator_gets_the_lock_of_one_that_stopped(world: World) -> None:
    claim(world.remediator(ONE))
    second = world.remediator(TWO)
    world.now += 59
    assert claim(second) is not None
    world.now += 1
    assert claim(second) is None


def test_a_restart_of_the_same_installation_may_act_at_once(world: World) -> None:
    claim(world.remediator(ONE))
    assert claim(world.remediator(ONE)) is None


@pytest.mark.parametrize(
    "error", [ClusterError("disk full.", transient=True), OSError("disk full")]
)
def test_a_holder_that_cannot_renew_stops_after_forty_seconds(
    world: World, error: Exception
) -> None:
    lock = world.remediator(ONE)
    claim(lock)
    world.cluster.before = error
    world.now += 39.9
    assert claim(lock) is None
    world.now += 0.1
    assert claim(lock) == (
        "The lock of cluster 'memory' could not be renewed for 40 s (disk full); "
        "no action starts until it is."
    )
    world.cluster.before = None
    assert claim(lock) is None


def test_a_cluster_that_cannot_be_asked_is_nobodys(world: World) -> None:
    world.cluster.before = ClusterError("no route to host.")
    assert claim(world.remediator(ONE)) == (
        "The lock of cluster 'memory' was not acquired (no route to host); "
        "no action starts until it is."
    )


def test_a_renewal_counts_from_when_it_was_sent(world: World) -> None:
    class Slow(_Flaky):
        async def lock(
            self, installation: str, *, ttl: float, host: str, take_over: str = ""
        ) -> InstanceLock:
            held = await super().lock(installation, ttl=ttl, host=host, take_over=take_over)
            world.now += 15
            return held

    world.cluster = Slow(world.clock)
    lock = world.remediator(ONE)
    claim(lock)
    world.now += 25
    assert lock.refusal() is not None


def test_an_answer_that_never_comes_is_waited_for_no_longer_than_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hung(_Flaky):
        async def lock(self, *_: object, **__: object) -> InstanceLock:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(installation, "ANSWER", 0.01)
    world.cluster = Hung(world.clock)
    assert "(no answer within " in str(claim(world.remediator(ONE)))


def test_a_cluster_without_a_lock_is_acted_on_and_this_is_logged_once() -> None:
    class Bare(Cluster):
        name = "bare"
        capabilities: frozenset[Capability] = frozenset()

    lock = ClusterLock(Bare(), ONE, "here")
    with capture_logs() as logs:
        assert claim(lock) is None
        assert claim(lock) is None
    assert [(one["event"], one["log_level"]) for one in logs] == [("lock_unsupported", "warning")]


def test_what_another_wrote_into_the_store_is_shown_in_one_line(world: World) -> None:
    asyncio.run(world.cluster.lock("\n" * 99, ttl=TTL, host="a\x1b[2J\nb" + "c" * 999))
    text = str(claim(world.remediator(ONE)))
    assert "on host a?[2J?bccc" in text
    assert text.isprintable()
    assert len(text) < 500


# ---- taking over


def test_a_reason_takes_the_lock_after_the_other_had_time_to_notice(world: World) -> None:
    first = world.remediator(ONE)
    claim(first)
    second = world.remediator(TWO, "gpu-ops-1 is being retired.")
    assert claim(second) == (
        "The lock of cluster 'memory' was taken over; no action starts for another 15 s, so that "
        "the previous holder notices it."
    )
    world.now += RENEW
    assert "Reason of the takeover: gpu-ops-1 is being retired. Stop one" in str(claim(first))
    assert claim(second) is not None
    world.now += HANDOVER - RENEW
    assert claim(second) is None


def test_a_reason_waits_for_nobody_where_the_lock_was_free_or_its_own(world: World) -> None:
    assert claim(world.remediator(ONE, "to be sure")) is None
    assert claim(world.remediator(ONE, "to be sure")) is None
    world.now += TTL
    assert claim(world.remediator(TWO, "to be sure")) is None


def test_a_restart_during_a_take_over_waits_for_the_rest(world: World) -> None:
    claim(world.remediator(ONE))
    claim(world.remediator(TWO, "why not"))
    world.now += 10
    again = world.remediator(TWO)
    assert "for another 5 s" in str(claim(again))
    world.now += 5
    assert again.refusal() is None
    assert claim(world.remediator(TWO)) is None


def test_a_wall_clock_that_is_set_back_lengthens_no_take_over(world: World) -> None:
    claim(world.remediator(ONE))
    second = ClusterLock(world.cluster, TWO, "host-2", "mine", clock=lambda: uptime)
    uptime = 0.0
    claim(second)
    world.now, uptime = world.now - 3600, HANDOVER
    assert claim(second) is None


def test_two_with_a_reason_do_not_fight(world: World) -> None:
    first, second = world.remediator(ONE, "mine"), world.remediator(TWO, "no, mine")
    for _ in range(5):
        claim(first)
        claim(second)
        world.now += RENEW
    assert second.refusal() is None
    assert first.refusal() is not None
    assert [reason for _, _, reason in world.cluster.asked] == ["mine", "no, mine"] + [""] * 8


def test_a_reason_is_kept_until_it_was_answered(world: World) -> None:
    claim(world.remediator(ONE))
    second = world.remediator(TWO, "mine", handover=0.0)
    world.cluster.before = OSError("not yet")
    claim(second)
    world.cluster.before = None
    assert claim(second) is None


# ---- two remediators, whatever happens


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two", "nobody"]),
            st.sampled_from(["answered", "answered", "unreachable", "answer lost"]),
            st.floats(0, 30),
        ),
        max_size=40,
    )
)
def test_two_never_may_act_at_one_time(story: list[tuple[str, str, float]]) -> None:
    world = World()
    locks = {"one": world.remediator(ONE), "two": world.remediator(TWO)}
    for who, outcome, passed in story:
        world.cluster.before = OSError("down") if outcome == "unreachable" else None
        world.cluster.after = OSError("lost") if outcome == "answer lost" else None
        if who in locks:
            claim(locks[who])
        assert any(lock.refusal() is not None for lock in locks.values())
        world.now += passed
        assert any(lock.refusal() is not None for lock in locks.values())


@given(st.floats(0, RENEW))
def test_two_never_may_act_at_one_time_during_a_take_over(offset: float) -> None:
    world = World()
    first, second = world.remediator(ONE), world.remediator(TWO, "mine")
    claim(first)
    world.now += offset
    for lock in [second, first] * 5:  # each of them once in RENEW
        claim(lock)
        assert first.refusal() is not None or second.refusal() is not None
        world.now += RENEW - offset if lock is second else offset
        assert first.refusal() is not None or second.refusal() is not None
    assert second.refusal() is None


# ---- running


def test_the_times_are_those_that_are_documented() -> None:
    assert (RENEW, TTL, VALID) == (10.0, 60.0, 40.0)


def test_running_renews_until_cancelled_and_survives_every_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    enough = asyncio.Event()

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        world.cluster.before = [OSError("a"), ClusterError("b."), None][len(waits) % 3]
        if len(waits) == 7:
            enough.set()
            await asyncio.Event().wait()

    async def story() -> str | None:
        lock = world.remediator(ONE)
        monkeypatch.setattr(installation, "_sleep", wait)
        task = asyncio.create_task(lock.run())
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return lock.refusal()

    assert asyncio.run(story()) is None
    assert waits == [RENEW] * 7
    assert len(world.cluster.asked) == 7


def test_changes_are_logged_once(world: World) -> None:
    first, second = world.remediator(ONE), world.remediator(TWO)
    with capture_logs() as logs:
        for _ in range(3):
            claim(first)
            claim(second)
        world.now += TTL
        claim(second)
        claim(second)
        claim(first)
    assert [(one["event"], one["installation"][0]) for one in logs] == [
        ("lock_taken", "1"), ("lock_held_by_another", "2"), ("lock_taken", "2"),
        ("lock_lost", "1"), ("lock_held_by_another", "1"),
    ]  # fmt: skip


def test_a_lock_that_cannot_be_renewed_is_logged_once_as_lost(world: World) -> None:
    lock = world.remediator(ONE)
    with capture_logs() as logs:
        world.cluster.before = OSError("down")
        claim(lock)
        claim(lock)
        world.cluster.before = None
        claim(lock)
        world.cluster.before = OSError("down")
        for _ in range(5):
            world.now += RENEW
            claim(lock)
        world.cluster.before = None
        claim(lock)
    assert [one["event"] for one in logs] == [
        "lock_not_taken", "lock_taken", "lock_lost", "lock_taken"
    ]  # fmt: skip
    assert logs[2]["error"] == "down"
