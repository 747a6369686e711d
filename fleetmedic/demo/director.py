"""Run a demo on a stack: start the jobs, inject the faults, and observe until all expected steps
have happened.

This module only injects faults and reads; the stack itself remediates.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleetmedic.demo.observer import StackObserver
from fleetmedic.demo.scenario import Scenario
from fleetmedic.demo.stories import (
    Expectation,
    FaultTarget,
    Story,
    load_story,
    lost_story,
    slow_story,
    xid_story,
)
from fleetmedic.demo.timeline import Check, Timeline, TimelineRow
from fleetmedic.demo.weights import training_checks
from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec
from fleetmedic.terminal.stack_option import suggested

JOBS = ("train-a", "train-b")
STEPS, STEP_SECONDS, CHECKPOINT_EVERY = 1000, 0.1, 25
LOOK_EVERY = 0.5


@dataclass(slots=True)
class Director:
    """Runs one demo on one stack. `report` is called with each line of output."""

    state: Path
    urls: dict[str, str]
    scenario: Scenario
    report: Callable[[str], None]
    rows: list[TimelineRow] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    pending: list[tuple[Story, Expectation]] = field(default_factory=list)
    _load: subprocess.Popen[bytes] | None = None

    def run(self, started: float, ready: float, timeout: float) -> Timeline:
        """Run the scenario and return its timeline.

        `started` and `ready` are the times of the stack's start and readiness (Unix seconds). An
        expectation that is not met within `timeout` seconds has failed.
        """
        cluster = LocalCluster(self.state / "cluster", self.state / "hardware")
        observer = StackObserver(self.state, self.urls, cluster)
        try:
            self._start_jobs(cluster)
            self._await_learned()
            self._play(observer, time.time() + timeout)
        finally:
            if self._load is not None and self._load.poll() is None:
                self._load.terminate()
                self._load.wait()
        checks = [
            Check(f"{story.name}: {item.what}", kept=False, text=self._failure_text(item))
            for story, item in self.pending
        ]
        checks += [
            Check(story.name, kept=True, text="every step was observed")
            for story in self.stories
            if all(missing is not story for missing, _ in self.pending)
        ]
        checks += training_checks(
            self.state, cluster, JOBS, self.scenario.training_seed, STEPS, CHECKPOINT_EVERY
        )
        return Timeline(
            self.scenario.seed,
            started,
            tuple(self.rows),
            tuple(checks),
            self._totals(started, ready),
        )

    def _start_jobs(self, cluster: LocalCluster) -> None:
        program = [
            sys.executable,
            "-m",
            "fleetmedic.demo.training",
            "--steps",
            str(STEPS),
            "--seed",
            str(self.scenario.training_seed),
            "--step-seconds",
            str(STEP_SECONDS),
            "--checkpoint-every",
            str(CHECKPOINT_EVERY),
        ]
        for name in JOBS:
            cluster.submit(JobSpec(name, tuple(program), gpus=4, env=dict(os.environ), user="demo"))
        self.report("Starting two training jobs of 4 GPUs: " + ", ".join(JOBS))
        deadline = time.time() + 60
        waiting = set(JOBS)
        while waiting:
            waiting = {name for name in JOBS if not self._has_checkpoint(cluster, name)}
            if time.time() > deadline:
                raise UserError(
                    f"no checkpoint from {', '.join(sorted(waiting))} within 60 s. "
                    f"See {suggested('jobs', self.state)} and {self.state}/logs/localcluster.log."
                )
            time.sleep(0.2)
        for name in JOBS:
            job = cluster.job(name)
            self.report(f"  {name} runs on {job.node}, GPUs {', '.join(map(str, job.gpus))}")

    def _has_checkpoint(self, cluster: LocalCluster, name: str) -> bool:
        job = cluster.job(name)
        if job.node is None:
            return False
        said = StackObserver(self.state, self.urls, cluster).progress(job.node, name)
        return int(said.get("checkpoint_step") or 0) > 0

    def _await_learned(self) -> None:
        folder = self.state / "prometheus" / "rules" / "generated"
        deadline = time.time() + 60
        while len(list(folder.glob("*.yml"))) < 2:
            if time.time() > deadline:
                raise UserError(
                    f"the detectors wrote no rules within 60 s. See {self.state}/logs/rules.log."
                )
            time.sleep(0.2)
        self.report(
            "The detectors have learned their rules from 24 h of simulated healthy metrics."
        )

    def _play(self, observer: StackObserver, deadline: float) -> None:
        plan = self.scenario
        zero = time.time()
        due: list[tuple[float, Callable[[StackObserver], Story]]] = [
            (zero + plan.lost_at, self._inject_lost),
            (zero + plan.slow_at, self._inject_slow),
            (zero + plan.xid_at, self._inject_xid),
            (zero + plan.load_at, self._raise_load),
        ]
        while time.time() < deadline:
            for item in [item for item in due if item[0] <= time.time()]:
                due.remove(item)
                self._start_story(item[1](observer))
            observer.refresh()
            self._poll_expectations(observer)
            ended = all(observer.cluster.job(name).state == "COMPLETED" for name in JOBS)
            if not due and not self.pending and ended:
                return
            time.sleep(LOOK_EVERY)

    def _start_story(self, story: Story) -> None:
        self.stories.append(story)
        self.pending += [(story, expectation) for expectation in story.expectations]
        self._record(story, story.opening)

    def _poll_expectations(self, observer: StackObserver) -> None:
        left = []
        for story, expectation in self.pending:
            found = expectation.find(observer, time.time())
            if found is None:
                left.append((story, expectation))
            else:
                self._record(
                    story, TimelineRow(found[0], story.name, expectation.what, found[1], found[2])
                )
        self.pending = left

    def _record(self, story: Story, row: TimelineRow) -> None:
        self.rows.append(row)
        self.report(f"  {story.name:<32} {row.at - story.began:7.2f} s  {row.what:<22} {row.text}")

    def _fault_target(self, observer: StackObserver, job_id: str, rank: int) -> FaultTarget:
        job = observer.cluster.job(job_id)
        if job.node is None or not job.gpus:
            raise UserError(f"job {job_id} is not running. See {self.state}/logs/localcluster.log.")
        gpu = job.gpus[rank % len(job.gpus)]
        return FaultTarget(
            job.node, gpu, Hardware(self.state / "hardware").gpu(job.node, gpu).uuid, job_id
        )

    def _inject_lost(self, observer: StackObserver) -> Story:
        fault_target = self._fault_target(observer, JOBS[0], self.scenario.lost_rank)
        at = inject(Hardware(self.state / "hardware"), fault_target.node, fault_target.gpu, "lost")
        return lost_story(fault_target, at)

    def _inject_slow(self, observer: StackObserver) -> Story:
        fault_target = self._fault_target(observer, JOBS[1], self.scenario.slow_rank)
        now = time.time()
        usual = observer.first_sample(
            fault_target.selector("gpu_clock_hertz", domain="sm"), now - 8, now, lambda _: True
        )
        at = inject(
            Hardware(self.state / "hardware"),
            fault_target.node,
            fault_target.gpu,
            "slow",
            speed=self.scenario.speed,
        )
        return slow_story(fault_target, at, self.scenario.speed, usual[1] if usual else 1.9e9)

    def _inject_xid(self, observer: StackObserver) -> Story:
        busy = {job.node for job in observer.cluster.jobs() if job.node}
        hardware = Hardware(self.state / "hardware")
        node = [name for name in hardware.nodes() if name not in busy][-1]
        fault_target = FaultTarget(
            node, self.scenario.xid_gpu, hardware.gpu(node, self.scenario.xid_gpu).uuid
        )
        at = inject(
            hardware,
            node,
            fault_target.gpu,
            "xid",
            xid=self.scenario.xid,
            count=self.scenario.xid_count,
        )
        return xid_story(fault_target, at, self.scenario.xid, self.scenario.xid_count)

    def _raise_load(self, observer: StackObserver) -> Story:
        replicas = observer.cluster.workload("serve").wanted
        command = [
            sys.executable,
            "-m",
            "fleetmedic.localcluster.pool.load",
            "--url",
            self.urls["pool"],
            "--rate",
            str(self.scenario.load_rate),
            "--seconds",
            str(self.scenario.load_seconds),
        ]
        with (self.state / "logs" / "load.log").open("wb") as log:
            self._load = subprocess.Popen(command, stdout=log, stderr=log)
        return load_story(time.time(), replicas)

    def _failure_text(self, item: Expectation) -> str:
        return f"not observed; likely cause: {item.cause}; log: {self.state}/logs/{item.log}.log"

    def _totals(self, started: float, ready: float) -> dict[str, float]:
        def when(story: str, what: str) -> float | None:
            hits = [row.at for row in self.rows if row.story == story and row.what == what]
            return hits[0] if hits else None

        totals = {"stack_ready_seconds": ready - started, "total_seconds": time.time() - started}
        for key, story in (
            ("lost", "GPU falls off the bus"),
            ("slow", "GPU slower than its peers"),
        ):
            begun = when(story, "fault")
            for name, what in (
                ("webhook", "webhook"),
                ("job_elsewhere", "job resumed"),
                ("readmitted", "GPU back in service"),
            ):
                end = when(story, what)
                if begun is not None and end is not None:
                    totals[f"{key}_{name}_seconds"] = end - begun
        closed = [row.at for row in self.rows if row.what == "incident closed"]
        if closed:
            totals["first_incident_closed_seconds"] = min(closed) - started
        return {key: round(value, 3) for key, value in totals.items()}
