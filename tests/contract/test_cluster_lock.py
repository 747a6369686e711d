"""Every cluster lets one remediator act, and tells the others which one."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from remediator.clusters.base import Cluster, InstanceLock

TTL = 60.0
EXPIRED = 0.0  # every renewal is as old as that


def lock(
    cluster: Cluster, installation: str, *, ttl: float = TTL, take_over: str = ""
) -> InstanceLock:
    host = f"host-of-{installation}"
    return asyncio.run(cluster.lock(installation, ttl=ttl, host=host, take_over=take_over))


def test_a_free_lock_goes_to_the_first_that_asks(cluster_bench: Any) -> None:
    before = time.time()
    held = lock(cluster_bench.cluster, "one")
    assert (held.installation, held.host, held.taken_over) == ("one", "host-of-one", "")
    assert before <= held.since == held.renewed <= time.time()


def test_a_second_installation_is_told_who_holds_the_lock(cluster_bench: Any) -> None:
    first = lock(cluster_bench.cluster, "one")
    other = cluster_bench.another()
    assert lock(other, "two") == first
    assert lock(other, "two") == first, "asking does not renew it for the holder"
    asyncio.run(other.close())


def test_a_restart_of_the_same_installation_gets_the_lock_at_once(cluster_bench: Any) -> None:
    first = lock(cluster_bench.cluster, "one")
    other = cluster_bench.another()
    again = lock(other, "one")
    asyncio.run(other.close())
    assert (again.installation, again.since) == ("one", first.since)
    assert again.renewed > first.renewed


def test_a_lock_that_was_not_renewed_is_free(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    lock(cluster, "one")
    held = lock(cluster, "two", ttl=EXPIRED)
    assert (held.installation, held.host, held.taken_over) == ("two", "host-of-two", "")
    assert lock(cluster, "one").installation == "two"


def test_a_renewal_keeps_the_lock(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    lock(cluster, "one")
    time.sleep(0.05)
    lock(cluster, "one")
    assert lock(cluster, "two", ttl=0.05).installation == "one"


def test_a_reason_takes_the_lock_from_another(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    lock(cluster, "one")
    held = lock(cluster, "two", take_over="host one burnt down")
    assert (held.installation, held.taken_over) == ("two", "host one burnt down")
    assert lock(cluster, "one").installation == "two"
    assert lock(cluster, "two").taken_over == "host one burnt down"


def test_a_reason_changes_nothing_for_the_holder(cluster_bench: Any) -> None:
    cluster = cluster_bench.cluster
    first = lock(cluster, "one")
    again = lock(cluster, "one", take_over="to be sure")
    assert (again.since, again.taken_over) == (first.since, "")


def test_of_many_that_ask_at_once_exactly_one_gets_the_lock(cluster_bench: Any) -> None:
    names = [f"installation-{number}" for number in range(6)]
    clusters = [cluster_bench.another() for _ in names]
    for cluster in clusters:
        asyncio.run(cluster.list_nodes())  # opens what it needs
    together = threading.Barrier(len(names))

    def race(cluster: Cluster, name: str) -> str:
        together.wait()
        return lock(cluster, name).installation

    with ThreadPoolExecutor(len(names)) as pool:
        told = list(pool.map(race, clusters, names))
    for cluster in clusters:
        asyncio.run(cluster.close())
    assert len(set(told)) == 1
    assert told[0] in names
