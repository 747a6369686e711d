from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import GpuFacts, JobFacts, NodeFacts, Quarantine
from remediator.clusters.memory import MemoryCluster
from remediator.core import events, plan
from remediator.core.book import Attempt, Book
from remediator.core.events import Kind
from remediator.core.lifecycle import birth
from remediator.core.model import Level
from remediator.core.reasons import Reason
from remediator.http import Sample
from remediator.library import load_library
from remediator.senses import WHERE_KNOWN, Health, Senses, judge_health, pool_view, still_ours

NOW = 1_700_000_000.0
GPU = Target.parse("node1/3")
NODE = Target.parse("node1")


def _samples(lost: float = 0, up: float = 1, at: float = NOW - 1) -> dict[str, list[Sample]]:
    return {"gpu_lost": [Sample({}, lost, at)], "gpu_up": [Sample({}, up, at)]}


@pytest.mark.parametrize(
    ("samples", "since", "expected"),
    [
        (_samples(), NOW - 5, Health.HEALTHY),
        (_samples(), NOW, Health.UNKNOWN),                      # sampled before the repair
        (_samples(at=NOW - 16), NOW - 60, Health.UNKNOWN),      # older than three scrapes
        (_samples(lost=1), NOW - 5, Health.UNKNOWN),            # may have been on its way
        (_samples(lost=1), NOW - 60, Health.SICK),
        (_samples(up=0), NOW - 60, Health.SICK),
        ({"gpu_lost": [], "gpu_up": []}, NOW - 60, Health.UNKNOWN),
        (_samples() | {"gpu_up": []}, NOW - 60, Health.UNKNOWN),
        (_samples(lost=float("nan")), NOW - 60, Health.SICK),
    ],
)  # fmt: skip
def test_health_is_fresh_and_newer_than_the_repair_or_it_is_unknown(
    samples, since, expected
) -> None:
    assert expected is judge_health(samples, GPU, since, NOW, oldest=15.0).state


@pytest.mark.parametrize(
    ("remap", "expected"),
    [({}, Health.HEALTHY), ({"gpu_row_remap_pending": 0.0}, Health.HEALTHY),
     ({"gpu_row_remap_pending": 1.0}, Health.SICK), ({"gpu_row_remap_failure": 1.0}, Health.SICK),
     ({"gpu_retired_pages_pending": 1.0}, Health.SICK),
     ({"gpu_sram_ecc_threshold_exceeded": 1.0}, Health.SICK)],
)  # fmt: skip
def test_memory_that_waits_for_a_reset_is_sick_and_one_that_cannot_say_is_not_asked(
    remap: dict[str, float], expected: Health
) -> None:
    one = _samples()["gpu_up"][0]
    said = {name: [replace(one, value=value)] for name, value in remap.items()}
    absent = {name: [] for name in WHERE_KNOWN}
    assert (
        judge_health(_samples() | absent | said, GPU, NOW - 60, NOW, oldest=15.0).state is expected
    )


def test_without_a_repair_a_fresh_sick_sample_is_believed_at_once() -> None:
    report = judge_health(_samples(lost=1), GPU, NOW - 5, NOW, oldest=15.0, settle=0.0)
    assert report.state is Health.SICK


def _node(name: str, *out: int, whole: str = "", owner: str = "fleetmedic") -> NodeFacts:
    held = Quarantine(owner, "x", "op", NOW)
    gpus = tuple(GpuFacts(n, f"{name}-{n}", held if n in out else None) for n in range(8))
    return NodeFacts(name, True, gpus, Quarantine(whole, "x", "op", NOW) if whole else None)


def test_the_pool_counts_what_is_out_by_us_and_not_the_target_itself() -> None:
    nodes = (
        _node("node1", 3, 4),
        _node("node2", 0),
        _node("node3", 1, owner="alice"),
        _node("node4"),
    )
    pool = pool_view(nodes, "default", GPU, Book())
    assert (pool.gpus, pool.nodes, pool.gpus_out, pool.nodes_out) == (32, 4, 2, 0)


def test_a_node_that_is_out_counts_once_and_not_by_its_gpus() -> None:
    nodes = (_node("node1"), _node("node2", 0, 1, whole="fleetmedic"))
    pool = pool_view(nodes, "default", GPU, Book())
    assert (pool.gpus_out, pool.nodes_out) == (0, 1)


def test_a_nodes_own_gpus_do_not_use_up_the_budget_of_its_quarantine() -> None:
    book = Book()
    book.quarantines = [
        Attempt("quarantine_gpu", Target.parse(name), NOW)
        for name in ("node1/3", "node1/4", "node2/1")
    ]
    pool = pool_view((_node("node1", 3, 4), _node("node2", 1)), "default", NODE, book)
    assert pool.recent == (NOW,)
    pool = pool_view((_node("node1", 3, 4), _node("node2", 1)), "default", GPU, book)
    assert pool.recent == (NOW, NOW)


def test_a_quarantine_counts_though_the_clusters_answer_is_older_than_it() -> None:
    book = Book()
    opened = events.opened("inc-1", Target.parse("node2/0"), "gpu-lost", Level.REPAIR, NOW, 0, "x")
    one = birth(opened)
    book.apply(opened)
    step = plan.quarantine(one)
    book.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.QUARANTINED))
    book.apply(events.step_event(Kind.STEP_DONE, one, step, NOW, Reason.EFFECT_SEEN))
    assert pool_view((_node("node1"), _node("node2")), "default", GPU, book).gpus_out == 1


@pytest.mark.parametrize(("finished", "expected"), [(("a",), set()), (("a", "b"), {"died"})])
def test_one_dead_job_beside_a_running_one_says_nothing_about_its_node(finished, expected) -> None:
    async def story() -> frozenset[str]:
        cluster = Dying()
        cluster.dead = frozenset(finished)
        for name, on in (("a", "node1/0"), ("b", "node1/1")):
            cluster.submit(name, gpus=1, on=Target.parse(on))
        book = Book()
        senses = Senses(
            cluster, None, book, ceiling=Level.REPAIR, scrape_interval=5.0, hold=3.0,
            now=lambda: NOW,
        )  # fmt: skip
        one = birth(events.opened("inc-1", NODE, "node-down", Level.REPAIR, NOW, 0, "x"))
        playbook = next(one for one in load_library(()) if one.name == "node-down")
        return (await senses.view(one, playbook)).witnesses

    found = asyncio.run(story())
    assert {name.split()[2] for name in found} == expected


def test_what_is_still_ours_beside_the_target_is_known() -> None:
    opened = events.opened("inc-1", GPU, "gpu-lost", Level.REPAIR, NOW, 0, "x")
    one = replace(birth(opened), quarantined=(GPU, NODE, Target.parse("node2/1")))
    nodes = (_node("node1", whole="fleetmedic"), _node("node2", 1, owner="alice"))
    assert still_ours(one, nodes) == (NODE,)


class Dying(MemoryCluster):
    """A cluster in which some jobs hold their GPUs and do not run."""

    dead: frozenset[str] = frozenset()

    async def jobs_on(self, target: Target) -> tuple[JobFacts, ...]:
        found = await super().jobs_on(target)
        return tuple(replace(one, running=one.job_id not in self.dead) for one in found)


def test_an_announced_quarantine_counts_before_the_cluster_shows_it() -> None:
    book = Book()
    other = Target.parse("node2/0")
    opened = events.opened("inc-1", other, "gpu-lost", Level.REPAIR, NOW, 0, "x")
    one = birth(opened)
    book.apply(opened)
    step = plan.quarantine(one)
    book.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.QUARANTINED))
    pool = pool_view((_node("node1"), _node("node2")), "default", GPU, book)
    assert (pool.gpus_out, pool.recent) == (1, (NOW,))
