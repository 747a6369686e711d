"""Ninety days of a large fleet through the unchanged engine, on a virtual clock and the in-memory cluster.

Alerts of applications and hardware faults arrive at random times. A faulty GPU fails its test until the right
repair, the job on it crashes, and its alert ends a minute after the repair. The journal is kept in memory, and metrics of
repaired hardware are healthy. Prometheus, Alertmanager and the reconciler are left out.

Printed: CPU seconds, the number of decisions, and how the incidents ended. The exit code is 1 if a faulty
target was not repaired, or a healthy one was.

Run: python bench/ninety_days.py [--days 90] [--nodes 2048] [--applications 30000] [--hardware 1000]
                                 [--seed 1] [--profile FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import structlog

from fleetmedic.alerting.settings import Notifications
from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.labels import Target
from remediator.actions.registry import actions
from remediator.alert_states import AlertStates
from remediator.clocks import WallClock
from remediator.clusters.memory import MemoryCluster
from remediator.core.events import Event
from remediator.core.guards import Limits
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, IncidentState, Level
from remediator.engine import Engine
from remediator.engine_context import EngineContext
from remediator.executor import Executor
from remediator.health import Health, HealthReport
from remediator.playbook_library import load_library
from remediator.policy import Policy
from remediator.reported_hardware import ReportedHardware
from remediator.senses import FactSources, Senses
from remediator.sensors import Sensors
from remediator.virtual_time import VirtualTimeLoop

START = 1_700_000_000.0
DAY = 86_400.0
WATCHDOG_EVERY = 60.0
# How long (seconds) after its repair the alert of a fault ends, and how long an application's alert fires.
ALERT_ENDS = 60.0
APPLICATION_FIRES = 600.0


class MemoryJournal:
    """A journal in memory: it numbers events and applies them at once."""

    def __init__(self, state: JournalState) -> None:
        self.state = state
        self.events = 0

    async def append(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Number and apply the events."""
        numbered = []
        for event in events:
            self.events += 1
            numbered.append(replace(event, seq=self.events))
            self.state.apply(numbered[-1])
        return tuple(numbered)


class HealthySensors(Sensors):
    """Metrics of a fleet whose exporters respond, and in which only faulty hardware is unhealthy."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(None, cluster="bench", scrape_interval=5.0, now=wall)
        self._fleet = cluster

    async def exporters_up(self, *, fresh: bool = False) -> dict[str, bool] | None:
        """All exporters respond."""
        return {"node1": True, "node2": True}

    async def health(
        self, target: Target, since: float, now: float, *, settles: bool = True
    ) -> HealthReport:
        """Healthy if the target would pass its test."""
        passed = (await self._fleet.probe(target)).passed
        return HealthReport(
            Health.HEALTHY if passed else Health.SICK, f"Recent metrics of {target}."
        )


def wall() -> float:
    """The virtual Unix time."""
    return START + monotonic()


def alert(name: str, target: Target, *, at: float, instrument: str, firing: bool = True) -> Alert:
    """An alert about a GPU or a node, as Alertmanager sends it."""
    labels = {
        "alertname": name, "severity": "critical", "cluster": "bench", "node": target.name,
        "instrument": instrument, "source": "static",
    }  # fmt: skip
    if target.gpu is not None:
        uuid = f"GPU-{target.name.removeprefix('node')}-{target.gpu}"
        labels |= {"gpu": str(target.gpu), "uuid": uuid}
    return Alert(f"{name} {target} {at}", at, str(at), firing, labels)


class Fleet:
    """The engine at work on a simulated fleet."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.draw = random.Random(given.seed)
        self.cluster = MemoryCluster("bench", nodes=given.nodes, gpus=8, clock=wall)
        self.state = JournalState()
        self.journal = MemoryJournal(self.state)
        self.decisions = 0
        self.faulty: list[Target] = []
        policy = Policy(load_library(()), Limits(), Level.REPAIR, 1.0, 30.0, "bench")
        alerts = AlertStates(
            None, Notifications(), settle=180.0, is_watchdog=policy.is_watchdog, now=wall
        )
        self.senses = Senses(
            FactSources(
                self.cluster, HealthySensors(self.cluster), alerts, self.state,
                WallClock(wall, monotonic), ReportedHardware(self.state, policy.route),
            ),
            ceiling=Level.REPAIR, limits=policy.limits,
        )  # fmt: skip
        executor = Executor(actions(), disruptive_at_once=4)
        context = EngineContext(
            self.cluster, self.senses, executor, wall, lambda: None, self._decided
        )
        self.engine = Engine(policy, self.state, self.journal, context)

    async def run(self) -> None:
        """Let all days pass."""
        for number in range(0, self.given.nodes, 4):
            self.cluster.submit(f"job-{number}", gpus=8, on=None)
        self.engine.start()
        watchdog = asyncio.create_task(self._watchdog())
        for at, kind in self._plan():
            await asyncio.sleep(max(0.0, at - monotonic()))
            if kind == "application":
                asyncio.get_running_loop().create_task(self._application())
            else:
                asyncio.get_running_loop().create_task(self._hardware())
        await asyncio.sleep(DAY)
        watchdog.cancel()
        await self.engine.close()

    def _plan(self) -> list[tuple[float, str]]:
        kinds = ["application"] * self.given.applications + ["hardware"] * self.given.hardware
        events = [(self.draw.uniform(60, self.given.days * DAY), kind) for kind in kinds]
        return sorted(events)

    def _decided(self) -> None:
        self.decisions += 1

    async def _watchdog(self) -> None:
        while True:
            self.senses.record_watchdog()
            await asyncio.sleep(WATCHDOG_EVERY)

    def _gpu(self) -> Target:
        return Target.parse(
            f"node{self.draw.randint(1, self.given.nodes)}/{self.draw.randrange(8)}"
        )

    async def _application(self) -> None:
        one = alert("GpuXidApplicationRepeated", self._gpu(), at=wall(), instrument="kernel_log")
        await self.engine.receive([one], "webhook")
        await asyncio.sleep(APPLICATION_FIRES)
        await self.engine.receive([replace(one, firing=False)], "webhook")

    async def _hardware(self) -> None:
        """One fault: it is reported, and its alert ends some time after the repair."""
        gpu = self._gpu()
        name, instrument, target, heals_by = self.draw.choice(
            (
                ("GpuLost", "driver", gpu, "reset"),
                ("GpuHung", "driver", gpu, "reset"),
                ("GpuEccUncorrectable", "driver", gpu, "reset"),
                ("GpuXidFatalHardware", "kernel_log", gpu, "reboot"),
            )
        )
        self.cluster.make_unhealthy(target, heals_by=heals_by)
        self.faulty.append(target)
        for job in await self.cluster.jobs_on(target):
            self.cluster.crash(job.job_id)
        one = alert(name, target, at=wall(), instrument=instrument)
        await self.engine.receive([one], "webhook")
        while not (await self.cluster.probe(target)).passed:
            await asyncio.sleep(60.0)
        await asyncio.sleep(ALERT_ENDS)
        await self.engine.receive([replace(one, firing=False)], "webhook")


def report(fleet: Fleet, began: float, cpu: float) -> int:
    """Print the figures; returns the exit code."""
    spent = cpu_seconds() - cpu
    states = Counter(str(one.state) for one in fleet.state.incidents.values())
    verbs = Counter(effect.verb for effect in fleet.cluster.effects)
    touched = {
        effect.subject for effect in fleet.cluster.effects if effect.verb in ("reset", "reboot")
    }
    faulty = set(map(str, fleet.faulty))
    nodes = {f"node/{target.name}" for target in fleet.faulty}
    wrong = touched - faulty - nodes
    unhealed = [one for one in fleet.faulty if not asyncio.run(fleet.cluster.probe(one)).passed]
    open_ = Counter(f"{one.state}: {one.current_reason[0]}" for one in fleet.state.open_incidents())
    print(f"{fleet.given.days} days: {spent:.1f} CPU s, {time.monotonic() - began:.1f} s")
    print(
        f"{fleet.decisions} decisions, {fleet.journal.events} events, {1000 * spent / max(1, fleet.decisions):.2f} ms a decision"
    )
    print(f"incidents: {dict(states)}")
    print(f"operations: {dict(verbs)}")
    print(f"open: {dict(open_)}")
    print(
        f"faults: {len(fleet.faulty)}, not healed: {len(unhealed)}, healthy hardware repaired: {len(wrong)}"
    )
    escalated = sum(one.state is IncidentState.ESCALATED for one in fleet.state.incidents.values())
    return 1 if wrong or len(unhealed) > escalated else 0


def cpu_seconds() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=float, default=90.0)
    parser.add_argument("--nodes", type=int, default=2048)
    parser.add_argument("--applications", type=int, default=30_000)
    parser.add_argument("--hardware", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", metavar="FILE", help="write a profile of the run to this file")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    profile = cProfile.Profile()
    began, cpu = time.monotonic(), cpu_seconds()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = runner.get_loop()
        asyncio.set_event_loop(loop)
        if given.profile:
            profile.enable()
        fleet = Fleet(given)
        runner.run(fleet.run())
    if given.profile:
        profile.disable()
        profile.dump_stats(given.profile)
    sys.exit(report(fleet, began, cpu))


if __name__ == "__main__":
    main()
