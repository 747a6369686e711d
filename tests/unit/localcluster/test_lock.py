"""The remediators' lock of the embedded cluster: who holds it, by which clock, and in what store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.lock import KEY, MAX_TEXT, Instant, Lock, request_lock

TTL = 60.0
WALL = st.floats(-1e10, 1e10)


def at(uptime: float, *, wall: float = 1e9, boot: str = "boot-1") -> Instant:
    return Instant(wall, boot, uptime)


def held(renewed: Instant) -> Lock:
    return Lock("one", "host-1", renewed.wall, renewed)


def asked(lock: Lock, now: Instant) -> Lock:
    return request_lock(lock, "two", "host-2", "", ttl=TTL, now=now)


def put(cluster: LocalCluster, value: str) -> None:
    with cluster.store.write() as db:
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (KEY, value))


@given(age=st.floats(0, 59.9), walls=st.tuples(WALL, WALL))
def test_no_jump_of_the_wall_clock_frees_a_lock(age: float, walls: tuple[float, float]) -> None:
    lock = held(at(1000, wall=walls[0]))
    assert asked(lock, at(1000 + age, wall=walls[1])) == lock


@given(age=st.floats(60, 1e9), walls=st.tuples(WALL, WALL))
def test_no_jump_of_the_wall_clock_keeps_a_lock(age: float, walls: tuple[float, float]) -> None:
    lock = held(at(1000, wall=walls[0]))
    assert asked(lock, at(1000 + age, wall=walls[1])).installation == "two"


@pytest.mark.parametrize(("passed", "holder"), [(59.0, "one"), (60.0, "two")])
@pytest.mark.parametrize("boots", [("boot-1", "boot-2"), ("", "")])
def test_after_a_reboot_the_wall_clock_decides(
    passed: float, holder: str, boots: tuple[str, str]
) -> None:
    lock = held(at(90_000, wall=1e9, boot=boots[0]))
    assert asked(lock, at(5, wall=1e9 + passed, boot=boots[1])).installation == holder


@given(jump=st.floats(1, 1e9))
def test_a_renewal_in_the_future_counts_as_made_now_and_then_expires(jump: float) -> None:
    lock = held(at(7, wall=1e9 + jump, boot="boot-0"))
    seen = asked(lock, at(100))
    assert (seen.installation, seen.renewed) == ("one", at(100))
    assert asked(seen, at(159.9)).installation == "one"
    assert asked(seen, at(160)).installation == "two"


def test_the_store_keeps_the_lock_for_the_next_process(tmp_path: Path) -> None:
    first = LocalCluster(tmp_path).lock("one", ttl=TTL, host="host-1")
    assert LocalCluster(tmp_path).lock("two", ttl=TTL, host="host-2") == first


def test_an_asker_waits_for_the_transaction_of_another(tmp_path: Path) -> None:
    first, second = LocalCluster(tmp_path), LocalCluster(tmp_path)
    begun = threading.Event()

    def other() -> str:
        begun.set()
        return second.lock("two", ttl=TTL, host="host-2").installation

    with ThreadPoolExecutor(1) as pool:
        with first.store.write():
            told = pool.submit(other)
            assert begun.wait(10)
            with pytest.raises(TimeoutError):
                told.result(0.05)
            assert first.lock("one", ttl=TTL, host="host-1").installation == "one"
        assert told.result(10) == "one"


@pytest.mark.parametrize("value", ["", "{", "[]", '{"installation": 7}', "\x00", "[" * 5000])
def test_a_damaged_lock_is_nobodys_until_it_is_taken_over(tmp_path: Path, value: str) -> None:
    cluster = LocalCluster(tmp_path)
    put(cluster, value)
    with pytest.raises(UserError, match=r"damaged\. Start one remediator with --take-over"):
        cluster.lock("one", ttl=TTL, host="host-1")
    assert cluster.lock("one", ttl=TTL, host="h", take_over="repair").installation == "one"
    assert cluster.lock("one", ttl=TTL, host="h").installation == "one"


def test_text_of_any_kind_fits_into_the_store(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    cluster.lock("one", ttl=TTL, host="host-1")
    lock = cluster.lock("two", ttl=TTL, host="\udcff" * 5000, take_over="\udcff\0")
    assert (lock.host, lock.taken_over) == ("?" * MAX_TEXT, "?\0")
    assert cluster.lock("one", ttl=TTL, host="h") == lock


def test_this_host_tells_its_boot_and_its_clocks_go_on() -> None:
    first = Instant.now()
    passed = Instant.now().since(first)
    assert first.boot
    assert passed is not None
    assert 0 <= passed < 10
