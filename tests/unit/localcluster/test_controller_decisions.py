"""Placing and ending jobs on the real store, with any history of quarantines and losses.

No process is started: what a shim would have written is written here.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.attempts import Attempts
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.inventory import Inventory
from fleetmedic.localcluster.job_starter import JobStarter
from fleetmedic.localcluster.layout import Layout
from fleetmedic.localcluster.model import JobSpec, JobState
from fleetmedic.localcluster.placement import touches
from fleetmedic.localcluster.processes import Launcher
from fleetmedic.localcluster.retry import MAX_FAILURES

NODES, GPUS = 2, 3
nodes = st.integers(1, NODES).map("node{}".format)
indices = st.integers(0, GPUS - 1)


class Cluster(RuleBasedStateMachine):
    """The controller's two halves under any order of events."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        state = Path(self._folder.name)
        self.hardware = Hardware(state / "hardware")
        self.hardware.create(NODES, GPUS)
        self.layout = Layout(state)
        self.client = LocalCluster(state / "cluster", state / "hardware")
        store = self.client.store
        store._db.execute("PRAGMA synchronous = OFF")  # speed: no power cut is tested here
        inventory = Inventory(state / "hardware")
        self.attempts = Attempts(store, self.layout, inventory, Launcher())
        self.starts = JobStarter(store, self.layout, inventory)
        self.now = time.time() + 60  # requests carry the machine's time
        self.op = 0

    def teardown(self) -> None:
        self.client.store.close()
        self._folder.cleanup()

    def _next(self) -> str:
        self.op += 1
        return f"op{self.op}"

    def _live(self) -> list[tuple[str, int, str, tuple[int, ...]]]:
        with self.client.store.read() as db:
            rows = db.execute("SELECT * FROM attempts WHERE state != 'ENDED'").fetchall()
        return [(r["job_id"], r["n"], r["node"], tuple(json.loads(r["gpus"]))) for r in rows]

    @rule(gpus=st.integers(0, GPUS))
    def submit(self, gpus: int) -> None:
        if len(self.client.jobs()) < 6:
            self.client.submit(JobSpec("job", ("true",), gpus=gpus))

    @rule(node=nodes, gpu=indices)
    def quarantine(self, node: str, gpu: int) -> None:
        target = Target.parse(f"{node}/{gpu}")
        self.client.quarantine(target, op_id=self._next(), owner="me", reason="test")

    @rule(node=nodes, gpu=indices)
    def release(self, node: str, gpu: int) -> None:
        self.client.release(Target.parse(f"{node}/{gpu}"), op_id=self._next(), owner="me")

    @rule(node=nodes, gpu=indices, lost=st.booleans())
    def lose_or_heal(self, node: str, gpu: int, lost: bool) -> None:
        self.hardware.change(node, gpu, lost=lost)

    @rule(number=st.integers(0, 5), node=nodes, gpu=indices)
    def restart(self, number: int, node: str, gpu: int) -> None:
        jobs = self.client.jobs()
        if number < len(jobs):
            exclude = (Target.parse(f"{node}/{gpu}"),)
            self.client.restart(jobs[number].id, op_id=self._next(), exclude=exclude)

    @rule(seconds=st.sampled_from([0.2, 1.0, 2.0, 10.0]))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        before = {job_id: n for job_id, n, _, _ in self._live()}
        excluded = self._excluded()
        self.starts.advance(self.now)
        self.starts.recheck_marks()
        held = {
            (node.name, gpu.index): node.quarantined or gpu.quarantined
            for node in self.client.nodes()
            for gpu in node.gpus
        }
        for job_id, n, node, gpus in self._live():
            if before.get(job_id) != n:
                assert not any(held[node, index] for index in gpus)
                assert not any(self.hardware.gpu(node, index).lost for index in gpus)
                assert not touches(node, gpus, excluded[job_id])

    def _excluded(self) -> dict[str, list[Target]]:
        with self.client.store.read() as db:
            rows = db.execute("SELECT id, excluded FROM jobs").fetchall()
        return {row["id"]: [Target.parse(t) for t in json.loads(row["excluded"])] for row in rows}

    @rule(number=st.integers(0, 5), code=st.sampled_from([0, 1, 1]))
    def attempt_ends(self, number: int, code: int) -> None:
        live = self._live()
        if number >= len(live):
            return
        job_id, n, _, _ = live[number]
        folder = self.layout.attempt(job_id, n)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
        started = {"pid": 1, "start": 0, "host_boot": "past", "at": self.now}
        (folder / "started.json").write_text(json.dumps(started))
        (folder / "exit.json").write_text(json.dumps({"code": code, "signal": None}))
        with self.client.store.read() as db:
            row = dict(
                db.execute(
                    "SELECT * FROM attempts WHERE job_id = ? AND n = ?", (job_id, n)
                ).fetchone()
            )
        self.attempts._begin(row, self.now)  # type: ignore[arg-type]
        self.attempts._follow(row, [], self.now)  # type: ignore[arg-type]

    @invariant()
    def no_gpu_has_two_jobs(self) -> None:
        taken = Counter((node, index) for _, _, node, gpus in self._live() for index in gpus)
        assert all(count == 1 for count in taken.values())

    @invariant()
    def no_job_has_two_attempts(self) -> None:
        assert all(count == 1 for count in Counter(job for job, *_ in self._live()).values())

    @invariant()
    def ended_jobs_hold_nothing_and_failures_are_bounded(self) -> None:
        held = {gpu.job_id for node in self.client.nodes() for gpu in node.gpus}
        for job in self.client.jobs():
            assert job.attempts <= MAX_FAILURES
            if job.state.ended:
                assert job.id not in held
            if job.state in (JobState.RUNNING, JobState.RETRYING) and job.gpus:
                assert job.id in held


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def test_a_gpu_on_which_two_jobs_fail_is_marked_until_it_is_released() -> None:
    cluster = Cluster()
    for _ in range(2):
        cluster.submit(gpus=2)
    cluster.client.quarantine(Target.parse("node2"), op_id="q0", owner="me", reason="test")
    for job_id in ("job", "job-2"):
        for _ in range(3):
            cluster.advance(10.0)
            live = [attempt[0] for attempt in cluster._live()]
            cluster.attempt_ends(live.index(job_id), code=1)
        cluster.client.cancel(job_id, op_id=f"c-{job_id}")
    gpus = cluster.client.nodes()[0].gpus
    assert [gpu.marked for gpu in gpus] == [
        "2 different jobs failed on this GPU: job, job-2"
    ] * 2 + [None]
    cluster.quarantine("node1", 0)
    cluster.release("node1", 0)
    assert [gpu.marked is None for gpu in cluster.client.nodes()[0].gpus] == [True, False, True]
    cluster.teardown()


def test_gpus_that_are_lost_or_quarantined_again_and_again_cost_the_job_nothing() -> None:
    cluster = Cluster()
    cluster.submit(gpus=2)
    for turn in range(8):
        cluster.advance(10.0)
        ((_, _, node, gpus),) = cluster._live()
        if turn % 2:
            cluster.lose_or_heal(node, gpus[0], lost=True)
        cluster.attempt_ends(0, code=1)
        assert cluster.client.job("job").state is JobState.RETRYING
        target = Target.parse(f"{node}/{gpus[0]}")
        cluster.quarantine(node, gpus[0])
        if turn % 4 < 2:  # else the quarantine alone moves it
            cluster.client.restart("job", op_id=cluster._next(), exclude=(target,))
        cluster.advance(0.2)
        assert cluster.client.job("job").attempts == 0
        cluster.lose_or_heal(node, gpus[0], lost=False)
        cluster.release(node, gpus[0])
    cluster.teardown()
