"""Tests whether attacks make the remediator disturb healthy hardware, or miss failed hardware.

Starts a separate stack with simulated GPUs and real jobs, and plays random moves: real faults and
repairs, forged alerts, webhooks, alerts of another team, silences, orders of people, processes that are
killed or stopped, false metrics pages, wrong scrape labels, jobs that crash. The benchmark itself records
the true state of each GPU. At the end it repairs everything, waits, and checks the cluster's store, the
hardware directory and the journal:

- each reset, reboot, move of a running job and scale-in had a valid cause;
- no quarantine or mark of healthy hardware, and no unplaced job, outlasts its cause;
- no failed GPU stayed in service with a job for long without a notification;
- each alert that got a 202 response is in the journal, the API shows the journal's states, and the
  remediator logged no traceback.

On a violation it prints the journal's lines about the target and the seed, and exits with code 1.

Examples:
  python bench/adversary.py --seed 1 --minutes 10
  python bench/adversary.py --seed 7 --minutes 3 --without forge,page    without two of the moves
  python bench/adversary.py --only fault,heal,kill,stop                  faults only, no forged data
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attacks.moves import Adversary
from attacks.site import GPUS, NODES, Site, quarantines, rfc, train
from attacks.watch import LATE, Truth, Watcher

from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.job_starter import EXCLUDED_FOR
from fleetmedic.stack.lifecycle import Stack, StackOptions

OVER = ("CLOSED", "SUPPRESSED", "OVERRIDDEN", "FAILED", "ESCALATED")
# Time limit in seconds until all incidents must have ended. A doubled scrape target is doubted for five minutes,
# and others wait meanwhile, for example for the budget.
QUIET = 900.0
WORKER = 20.0  # requests a second that one worker serves


def judge(site: Site, truth: Truth, watcher: Watcher) -> list[tuple[str, str]]:
    """Every violation, each with its target."""
    found = [(text, f"gpu/{gpu[0]}/{gpu[1]}") for gpu, text in watcher.overlooked.items()]
    found += [
        (f"{target} was reset at {rfc(at)} although it was healthy", target)
        for at, target in watcher.resets
        if not truth.excuses(target, at)
    ]
    found += [
        (
            f"{target} was rebooted at {rfc(at)} although at most one of its GPUs had failed",
            target,
        )
        for at, target in watcher.reboots
        if not truth.excuses_node(Target.parse(target).name, at, watcher.resets)
    ]
    with site.journal() as db:
        rows = db.execute("SELECT at, target, event, data FROM events ORDER BY seq").fetchall()
    steps = {}
    for at, target, event, raw in rows:
        data = json.loads(raw)
        if event == "StepPrepared":
            steps[data["op_id"]] = (at, target, data)
        if event == "AlertReceived":
            site.acknowledged.pop(data["fingerprint"], None)
    found += [
        (f"an alert with a 202 response is not in the journal: {one}", "")
        for one in site.acknowledged
    ]
    with site.cluster.store.read() as db:
        moved = db.execute(
            "SELECT op_id, about, at FROM ops WHERE verb = 'restart' AND answer = '1'"
        ).fetchall()
    for op, about, at in moved:
        _, target, data = steps.get(op[:20], (0, "", {}))
        job = about.split(" ")[0]
        place = watcher.place(job, at - 0.3)
        stalled = target.startswith("job/") and truth.stalled.get(job, 0.0) >= at - LATE
        if target and place and place[0] == "RUNNING" and not stalled:
            on = f"gpu/{place[1]}/{{}}"
            own = any(truth.excuses(on.format(index), at) for index in place[2])
            whole = truth.excuses_node(str(place[1]), at, watcher.resets)
            excused = own or (whole and data["on"].startswith("node/"))
            if not excused:
                found.append(
                    (
                        f"{job} ran on {place[1]} {place[2]} and was moved at {rfc(at)} because of {target}, which was healthy",
                        target,
                    )
                )
    return found + _shrunk(watcher) + _lasting(site, truth) + _said(site)


def _shrunk(watcher: Watcher) -> list[tuple[str, str]]:
    """Each scale-in below the size that the requests of the ten seconds before required."""
    found = []
    for at, before, after in watcher.sizes:
        # in both halves: a loader on a busy machine may begin seconds after its order
        rate = min(watcher.rate(at - 12, at - 5), watcher.rate(at - 6, at))
        if after < before and after < math.ceil(rate / WORKER):
            text = f"serve was scaled from {before} to {after} replicas at {rfc(at)} at a load of {rate:g} requests a second"
            found.append((text, "workload/serve"))
    return found


def _lasting(site: Site, truth: Truth) -> list[tuple[str, str]]:
    """Hardware still out of service, and jobs still unplaced, long after everything was repaired."""
    answer = site.look("remediator", "/api/v1/incidents", {})
    state = {one["target"]: one["state"] for one in answer.get("incidents", ())}
    found = []
    for target in map(str, quarantines(site)):
        node = f"node/{Target.parse(target).name}"
        # the incident of a node holds the GPUs of its absorbed incidents
        about = node if state.get(target) in (None, "CLOSED", "SUPPRESSED", "FAILED") else target
        now = state.get(about) or "without an incident"
        ended = now in ("CLOSED", "SUPPRESSED", "FAILED")
        if now == "PROBATION" or (
            now in ("ESCALATED", "OVERRIDDEN") and (truth.ever(about) or target in truth.released)
        ):
            continue
        found.append(
            (f"{target} is healthy and still quarantined ({'ended' if ended else now})", target)
        )
    still = "although all hardware is healthy"
    found += [
        (f"{one['id']} on {one['target']} is still {one['state']} ({one['reason']}) {still}", one["target"])
        for one in answer.get("incidents", ())
        if one["state"] not in (*OVER, "PROBATION")
        # a demand that has just changed
        and time.time() - one["opened"] > 60
        # an operator's release, which is respected for longer than this test waits
        and not (one["state"] == "HELD" and one["reason"] == "pinned")
    ]  # fmt: skip
    for node in site.cluster.nodes():
        for gpu in node.gpus:
            target = f"gpu/{node.name}/{gpu.index}"
            # two jobs that crash on a GPU mark it for half an hour, whoever's fault it was
            crashed = "different jobs failed" in (gpu.marked or "")
            if gpu.marked and not crashed and site.hardware.gpu(node.name, gpu.index).healthy:
                found.append((f"{target} is healthy and still marked: {gpu.marked}", target))
    with site.cluster.store.read() as db:
        rows = db.execute("SELECT id, spec, excluded, due FROM jobs").fetchall()
    wanted = {job: json.loads(spec)["gpus"] for job, spec, _, _ in rows}
    # by design a moved job keeps clear of hardware that was accused when it was moved, for ten minutes
    waiting = {
        job for job, _, gpus, due in rows if gpus != "[]" and time.time() - due < EXCLUDED_FOR
    }
    for job in site.cluster.jobs():
        need = wanted[job.id]
        room = max(
            (
                sum(not (g.quarantined or g.marked or g.job_id) for g in n.gpus)
                for n in site.cluster.nodes()
                if not n.quarantined
            ),
            default=0,
        )
        if job.id in waiting:
            continue
        if not job.state.ended and job.state != "RUNNING" and room >= need:
            found.append(
                (
                    f"job/{job.id} is {job.state} while a node has {room} GPUs free: {job.text}",
                    f"job/{job.id}",
                )
            )
    return found


def _said(site: Site) -> list[tuple[str, str]]:
    """Errors in the log and in the API."""
    found = []
    for path in sorted((site.state / "logs").glob("remediator.log*")):
        text = path.read_text(errors="replace")
        if "Traceback (most recent call last)" in text or '"exception"' in text:
            found.append((f"{path.name} contains a traceback", ""))
    for _ in range(3):  # an incident may change between the two answers
        differing = _differing(site)
        if not differing:
            return found
        time.sleep(3)
    return found + differing


def _differing(site: Site) -> list[tuple[str, str]]:
    """Incidents whose state in the API is not that in the journal."""
    with site.journal() as db:
        last = dict(
            db.execute(
                "SELECT incident, data FROM events WHERE event = 'StateChanged' ORDER BY seq"
            ).fetchall()
        )
    answer = site.look("remediator", "/api/v1/incidents", {})
    found = []
    for one in answer.get("incidents", ()):
        written = json.loads(last[one["id"]])["state"] if one["id"] in last else one["state"]
        if written != one["state"]:
            text = f"{one['id']} is {one['state']} in the API and {written} in the journal"
            found.append((text, one["target"]))
    return found


def rest(site: Site, truth: Truth) -> None:
    """Wait until all incidents have ended and all healthy hardware is back, at most QUIET seconds."""
    deadline = time.time() + QUIET
    time.sleep(75)  # forged alerts expire
    while time.time() < deadline:
        answer = site.look("remediator", "/api/v1/incidents", {"incidents": [{"state": "?"}]})
        over = all(one["state"] in OVER for one in answer["incidents"])
        if over and not _lasting(site, truth):
            break
        time.sleep(2)
    time.sleep(10)


def excerpt(site: Site, target: str) -> None:
    """Print the last lines of the journal about a target."""
    with site.journal() as db:
        rows = db.execute(
            "SELECT seq, at, event, reason, text FROM events WHERE target = ? ORDER BY seq DESC LIMIT 40",
            (target,),
        ).fetchall()
    for seq, at, event, reason, text in reversed(rows):
        print(f"      {seq:6d} {rfc(at)[11:23]} {event:14s} {reason or '-':18s} {text[:150]}")


def play(
    site: Site, draw: random.Random, minutes: float, chosen: Callable[[str], bool]
) -> list[tuple[str, str]]:
    """One run: start jobs, play moves, repair everything, check."""
    truth = Truth()
    for name, gpus in (("train-a", 4), ("train-b", 4), ("train-c", 2), ("train-d", 8)):
        train(site, name, gpus)
    time.sleep(8)
    watcher = Watcher(site, truth)
    watcher.start()
    adversary = Adversary(site, truth, watcher, draw)
    names = [name for name in adversary.moves if chosen(name)]
    weights = [adversary.moves[name][0] for name in names]
    try:
        until = time.time() + minutes * 60
        while time.time() < until:
            name = draw.choices(names, weights)[0]
            try:
                adversary.moves[name][1]()
            except Exception as error:
                site.say(f"{name}: {type(error).__name__}: {error}")
            wait = time.time() + draw.choice((0.0, 0.5, 2.0, 5.0, 9.0))
            while time.time() < wait:
                time.sleep(0.1)
                adversary.settle_due()
            adversary.settle_due()
    finally:
        adversary.make_peace()
    rest(site, truth)
    watcher.halt.set()
    watcher.join(5)
    site.say(f"{len(watcher.resets)} resets, {len(watcher.reboots)} reboots")
    return judge(site, truth, watcher)


def main() -> None:
    """Run the benchmark; exit code 1 on a violation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--factor", type=float, default=30.0)
    parser.add_argument("--port-base", type=int, default=21490)
    parser.add_argument(
        "--only", default="", metavar="MOVES", help="only these moves, comma-separated"
    )
    parser.add_argument(
        "--without", default="", metavar="MOVES", help="without these moves, comma-separated"
    )
    parser.add_argument("--keep", metavar="DIR", help="new directory for the state, which is kept")
    options = parser.parse_args()
    only, without = (set(filter(None, text.split(","))) for text in (options.only, options.without))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(options.keep or folder)
        stack = Stack(StackOptions(state_dir=state, port_base=options.port_base, factor=options.factor, level="repair",
                                   simulate=True, reset=True, nodes=NODES, gpus=GPUS))  # fmt: skip
        try:
            stack.prepare(print)
            stack.start()
            stack.wait_ready(90.0)
            site = Site(stack, state)
            found = play(site, random.Random(options.seed), options.minutes,
                         lambda name: (not only or name in only) and name not in without)  # fmt: skip
            for text, target in found:
                print(f"VIOLATION: {text}")
                if target:
                    excerpt(site, target)
        finally:
            stack.stop()
    print(f"seed {options.seed}: {len(found)} violations")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
