"""Measures memory and CPU time of the remediator at startup, with a long history in its journal.

    python bench/journal_memory.py
    python bench/journal_memory.py --times 10
    python bench/journal_memory.py --times 10 --days 14     # what the default retention keeps in memory

The history covers 90 days: 100,000 alerts that fired and ended, most of which lead to no action, and 10,000
incidents that quarantined, repaired, tested and released a GPU of a fleet of 2,048 nodes. All events pass the
journal, the state and the journal's keeper, as in a running remediator. Then `fleetmedic remediator serve` starts
three times: with the snapshot, without it, and with it again, on the file that the second start left.
Target: at most 150 MB and 3 CPU seconds until ready with the snapshot; with `--times 10` within 20 % of that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.actions.registry import catalogue
from remediator.core import events, plan
from remediator.core.action import Effect
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState, Retention
from remediator.core.lifecycle import evolve, new_incident
from remediator.core.model import Alert, Incident, IncidentState, Level, Step
from remediator.core.reasons import Reason
from remediator.journal import Journal
from remediator.journal_keeper import EVENTS, JournalKeeper

ACTIONS = catalogue()
DAYS = 90
NODES = 2_048
BATCH = 500
CONFIG = """
cluster: {{adapter: memory}}
webhook_token_file: {folder}/token
without_alertmanager: true
timing: {{reconcile_every: 1h}}
"""
TICKS = os.sysconf("SC_CLK_TCK")


def alert(number: int, name: str, at: float, target: Target, draw: random.Random) -> Alert:
    """Return a firing alert with the labels of a real one."""
    labels = {
        "alertname": name, "severity": "warning", "category": "hardware", "source": "static", "cluster": "local",
        "node": target.name, "instance": f"{target.name}:9400", "job": "fleetmedic", "instrument": "driver",
        "gpu": str(target.gpu or 0), "uuid": f"GPU-{target.name}-{target.gpu or 0}",
    }  # fmt: skip
    return Alert(f"{number:08x}{draw.getrandbits(32):08x}", at, f"{at:.3f}", True, labels)


def ignored(number: int, at: float, draw: random.Random) -> Iterator[Event]:
    """Yield the events of an alert without a playbook, from its start to its end."""
    target = Target(TargetKind.NODE, f"node{draw.randrange(NODES)}")
    one = alert(number, f"DiskSlow{number % 40}", at, target, draw)
    why = (Reason.NO_PLAYBOOK, f"No playbook matches {one.name}.")
    yield events.alert_received(one, target, at, "webhook", why)
    yield events.alert_received(replace(one, firing=False), target, at + 300, "webhook")


class Story:
    """The events of one incident in order."""

    def __init__(self, opened: Event) -> None:
        self.incident: Incident = new_incident(opened)
        self.events = [opened]
        self.at = opened.at

    def add(self, event: Event, seconds: float = 2.0) -> None:
        """Add an event, and apply it to the incident."""
        self.events.append(event)
        self.incident = evolve(self.incident, event)
        self.at += seconds

    def move(self, state: IncidentState, reason: Reason = Reason.ROUTED) -> None:
        """Change the state."""
        self.add(events.moved(self.incident, state, self.at, reason))

    def step(self, step: Step) -> None:
        """Announce a step, and finish it."""
        reasons = {Kind.STEP_PREPARED: Reason.STEP_ALLOWED, Kind.STEP_DONE: Reason.EFFECT_SEEN}
        for kind, reason in reasons.items():
            self.add(events.step_event(kind, self.incident, step, self.at, reason), 20.0)


def repaired(number: int, at: float, draw: random.Random) -> Iterator[Event]:
    """Yield the events of an incident that repaired a GPU."""
    target = Target(TargetKind.GPU, f"node{draw.randrange(NODES)}", draw.randrange(8))
    one = alert(number, "GpuHung", at, target, draw)
    yield events.alert_received(one, target, at, "webhook")
    text = f"Playbook gpu-hung matches {one.name} on {target}."
    story = Story(
        events.opened(f"inc-{number:010x}", target, "gpu-hung", Level.REPAIR, at, 0, text)
    )
    episode = events.episode_of(one, at)
    story.add(events.absorbed(story.incident.id, target, episode, at))
    story.move(IncidentState.TRIAGED)
    story.step(plan.quarantine(ACTIONS, story.incident, jobs=(f"train-{number % 500}",)))
    story.move(IncidentState.QUARANTINED)
    story.step(plan.notify(ACTIONS, story.incident, "opened"))
    story.move(IncidentState.DRAINING)
    moves = plan.new_step(
        story.incident, ACTIONS.of(Effect.MOVES_JOBS), 60.0, jobs=(f"train-{number % 500}",)
    )
    story.step(moves)
    story.move(IncidentState.JOBS_MOVED)
    story.move(IncidentState.REPAIRING)
    story.step(plan.new_step(story.incident, ACTIONS.named("reset_gpu"), 120.0))
    story.move(IncidentState.VERIFYING)
    for _ in range(2):
        story.step(plan.new_step(story.incident, ACTIONS.of(Effect.VERIFIES), 120.0))
    story.move(IncidentState.PROBATION)
    story.step(plan.new_step(story.incident, ACTIONS.of(Effect.RELEASES), 30.0, also=(target,)))
    story.step(plan.notify(ACTIONS, story.incident, "closed"))
    story.move(IncidentState.CLOSED, Reason.READMITTED)
    yield from story.events
    yield events.alert_received(replace(one, firing=False), target, story.at, "reconciler")


def history(alerts: int, incidents: int, days: int, seed: int) -> Iterator[Event]:
    """Yield the events of all alerts of the last days, roughly in the order of their times."""
    draw = random.Random(seed)
    end = time.time() - 3_600
    every = max(1, alerts // incidents)
    for number in range(alerts):
        at = end - days * 86_400 * (1 - number / alerts)
        yield from repaired(number, at, draw) if number % every == 0 else ignored(number, at, draw)


async def build(folder: Path, alerts: int, incidents: int, days: int, seed: int) -> int:
    """Write the history as the remediator does. Returns the number of events."""
    state = JournalState(Retention())
    keepers: list[JournalKeeper] = []

    def durable(event: Event) -> None:
        state.apply(event)
        for one in keepers:
            one.count_event()

    journal = Journal(folder, durable)
    keeper = JournalKeeper(state, journal, lambda: True, 0)
    keepers.append(keeper)
    batch: list[Event] = []
    count = since = 0
    for event in history(alerts, incidents, days, seed):
        batch.append(event)
        if len(batch) >= BATCH:
            await journal.append(batch)
            count, since, batch = count + len(batch), since + len(batch), []
        if since >= EVENTS:
            await keeper.save()
            await keeper.prune()
            since = 0
    await journal.append(batch)
    await keeper.finish()
    journal.close()
    return count + len(batch)


def measure(folder: Path, data: Path) -> tuple[float, float, float]:
    """Start the remediator. Returns MB of memory, CPU seconds and seconds until it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fleetmedic.cli", "remediator", "serve", "--config", str(folder / "r.yml"),
               "--web.listen-address", f"127.0.0.1:{port}", "--data-dir", str(data),
               "--log.level", "warning"]  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            try:
                # The port accepts connections before the journal is replayed, and answers afterwards.
                url = f"http://127.0.0.1:{port}/-/ready"
                with urllib.request.urlopen(url, timeout=600) as answer:
                    answer.read()
                break
            except OSError:
                time.sleep(0.05)
        took = time.monotonic() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
        times = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return memory, (int(times[11]) + int(times[12])) / TICKS, took
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def without_snapshot(data: Path) -> None:
    """Delete the snapshot, so that the next start replays all events."""
    with closing(sqlite3.connect(data / "journal.db")) as connection, connection:
        connection.execute("DELETE FROM snapshot")


def main() -> None:
    """Build the history, measure, and print one row for each start. Exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--incidents", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=1, help="multiplies alerts and incidents")
    parser.add_argument(
        "--days", type=int, default=DAYS, help="length of the history, with as many alerts a day"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-dir", type=Path, help="directory for the journal, kept afterwards")
    options = parser.parse_args()
    factor = options.times * options.days / DAYS
    alerts, incidents = int(options.alerts * factor), int(options.incidents * factor)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = options.data_dir or folder / "data"
        (folder / "token").write_text("0123456789abcdef0123")
        (folder / "token").chmod(0o600)
        (folder / "r.yml").write_text(CONFIG.format(folder=folder))
        if not (data / "journal.db").exists():
            began = time.process_time()
            count = asyncio.run(build(data, alerts, incidents, options.days, options.seed))
            spent = time.process_time() - began
            print(
                f"{alerts:,} alerts, {incidents:,} closed incidents: {count:,} events in {spent:.0f} CPU s"
            )
        print(f"journal.db: {(data / 'journal.db').stat().st_size / 1e6:.0f} MB")
        missed = False
        for name in ("with the snapshot", "without it", "with it again"):
            if name == "without it":
                without_snapshot(data)
            memory, cpu, took = measure(folder, data)
            print(
                f"{name:18}: {memory:4.0f} MB, {cpu:5.2f} CPU s, ready after {took:.2f} s",
                flush=True,
            )
            missed |= name != "without it" and (memory > 150 or cpu > 3)
    raise SystemExit(missed)


if __name__ == "__main__":
    main()
