"""Random moves: attacks, faults of the site, and orders of people at bad times."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import yaml

from attacks.site import GPUS, NODES, Gpu, Site, rfc, train
from attacks.watch import Truth, Watcher
from fleetmedic.hardware.faults import inject
from fleetmedic.localcluster.model import JobSpec

OPEN = ("HELD", "QUARANTINED", "CHECKPOINTING", "DRAINING", "JOBS_MOVED", "REPAIRING", "VERIFYING", "PROBATION",
        "ESCALATED", "NEW", "TRIAGED")  # fmt: skip
FATAL = (48, 62, 74, 79, 95, 119)
GPU_ALERTS = (
    "GpuLost", "GpuXidFatalHardware", "GpuHung", "GpuEccUncorrectable", "GpuRowRemapPending", "GpuRowRemapFailure",
    "GpuRetiredPagesPending", "GpuSramEccThresholdExceeded", "GpuPeerOutlier", "GpuThermalSlowdownHardware",
)  # fmt: skip
SERVERS = ("prometheus", "alertmanager", "remediator", "localcluster", "rules")


class Liar(ThreadingHTTPServer):
    """A page with false metrics that Prometheus scrapes like any service."""

    text = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(Liar.text)

    def log_message(self, *args: object) -> None:
        """No access log, because each move is printed."""


class Adversary:
    """Selects and plays moves. `due` holds the changes to revert later."""

    def __init__(self, site: Site, truth: Truth, watcher: Watcher, draw: random.Random) -> None:
        self.site, self.truth, self.watcher, self.draw = site, truth, watcher, draw
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.number = 0
        self.stopped: set[int] = set()
        self.liar = Liar()
        self.config = site.state / "prometheus" / "prometheus.yml"
        self.clean = self.config.read_text()
        self.loader: subprocess.Popen[bytes] | None = None
        self.moves: dict[str, tuple[int, Callable[[], None]]] = {
            "fault": (9, self.fault), "heal": (2, self.heal), "forge": (8, self.forge), "foreign": (2, self.foreign),
            "job-alert": (2, self.job_alert), "scale": (2, self.scale), "hook": (4, self.hook), "junk": (1, self.junk),
            "ghosts": (1, self.ghosts), "page": (3, self.page), "sibling": (2, self.sibling), "labels": (2, self.labels), "kill": (4, self.kill),
            "stop": (5, self.stop), "job": (3, self.job), "crash": (1, self.crash), "order": (5, self.order),
            "silence": (2, self.silence), "second": (1, self.second), "load": (2, self.load),
        }  # fmt: skip

    def gpu(self) -> Gpu:
        """A random GPU, usually one that a job uses."""
        used = [
            (j.node, i)
            for j in self.site.cluster.jobs()
            if j.state == "RUNNING" and j.node
            for i in j.gpus
        ]
        if used and self.draw.random() < 0.75:
            return self.draw.choice(sorted(used))
        return f"node{self.draw.randint(1, NODES)}", self.draw.randrange(GPUS)

    def disturb(self, seconds: float) -> None:
        """Record that monitoring is impaired for some time, and for a while afterwards."""
        self.watcher.disturbed_until = max(self.watcher.disturbed_until, time.time() + seconds + 30)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self.due.append((time.time() + seconds, what))

    def settle_due(self, *, everything: bool = False) -> None:
        for one in [one for one in self.due if everything or one[0] <= time.time()]:
            self.due.remove(one)
            try:
                one[1]()
            except sqlite3.OperationalError:  # a stopped process keeps the cluster's store locked
                self.later(5, one[1])

    def fault(self) -> None:
        gpu = self.gpu()
        kind = self.draw.choice(("lost", "lost", "hang", "ecc", "slow", "hot", "xid", "xid"))
        more: dict[str, Any] = {"heals_by": self.draw.choice(("reset", "reset", "reboot"))}
        if kind == "xid":
            more = {"xid": self.draw.choice((*FATAL, 13, 31, 43)), "count": self.draw.randint(1, 8)}
        if kind == "slow":
            more["speed"] = self.draw.choice((0.5, 0.7, 0.8))
        if kind != "xid" or more["xid"] in FATAL:
            self.truth.begin(gpu, time.time())
        inject(self.site.hardware, *gpu, kind, **more)
        words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in more.items())
        self.site.say(f"fleetmedic inject {gpu[0]}/{gpu[1]} {kind} {words}")

    def heal(self) -> None:
        sick = sorted(gpu for gpu in self.truth.sick if self.truth.now(gpu) is not None)
        if sick:
            gpu = self.draw.choice(sick)
            inject(self.site.hardware, *gpu, "heal")
            self.truth.end(gpu, time.time())
            self.site.say(f"fleetmedic inject {gpu[0]}/{gpu[1]} heal")

    def forge(self) -> None:
        node, index = self.gpu()
        labels = self.site.labels(self.draw.choice(GPU_ALERTS), node, index)
        change = self.draw.choice(
            ("", "", "", "", "no uuid", "wrong uuid", "wrong cluster", "node")
        )
        if change == "no uuid":
            del labels["uuid"]
        elif change == "wrong uuid":
            labels["uuid"] = self.site.hardware.gpu(f"node{self.draw.randint(1, NODES)}", 7).uuid
        elif change == "wrong cluster":
            labels["cluster"] = "other"
        elif change == "node":
            labels = self.site.labels("NodeDown", node)
        self.site.alert(labels, self.draw.uniform(15, 70))

    def foreign(self) -> None:
        """Alerts of another team. They never reach the remediator, but can inhibit other alerts."""
        name = self.draw.choice(
            (
                "NodeDown",
                "NodeMassOutage",
                "GpuLost",
                "RemediatorStorm",
                "GpuThermalSlowdownHardware",
            )
        )
        node, index = self.gpu()
        labels = self.site.labels(name, node, index) | {"severity": "info", "team": "other"}
        del labels["category"], labels["source"]
        self.site.alert(labels, self.draw.uniform(60, 150))

    def job_alert(self) -> None:
        name = self.draw.choice([job.id for job in self.site.cluster.jobs()] or ["nobody"])
        labels = {"alertname": "TrainingStalled", "cluster": "local", "job_id": name, "category": "job",
                  "severity": "critical", "source": "static", "instrument": "job"}  # fmt: skip
        self.site.alert(labels, self.draw.uniform(15, 60))

    def scale(self) -> None:
        name = self.draw.choice(
            ("InferenceOverProvisioned", "InferenceOverProvisioned", "InferenceQueueGrowing")
        )
        self.number += 1
        labels = {"alertname": name, "cluster": "local", "service": "serve", "category": "service",
                  "severity": "warning", "source": "static", "instrument": "service",
                  "n": str(self.number)}  # fmt: skip
        self.site.alert(labels, self.draw.uniform(20, 60))

    def hook(self) -> None:
        """A webhook that Alertmanager did not send, with a new or an existing fingerprint."""
        node, index = self.gpu()
        listed = self.site.look("alertmanager", "/api/v2/alerts", [])
        known = sorted(one["fingerprint"] for one in listed if isinstance(one, dict))
        self.number += 1
        print_ = f"{self.number:08x}{self.draw.getrandbits(32):08x}"
        if known and self.draw.random() < 0.5:
            print_ = self.draw.choice(known)
        labels = self.site.labels(self.draw.choice(GPU_ALERTS), node, index)
        times = self.draw.choice((1, 1, 20))
        for _ in range(times):
            self.site.webhook(labels, print_, self.draw.choice(("firing", "firing", "resolved")))
        self.site.say(f"POST remediator/api/v1/alerts {times} times {print_} {json.dumps(labels)}")

    def junk(self) -> None:
        body = self.draw.choice(
            (b"{", b"[]", b'{"alerts": 3}', b"\xff" * 100, b"[" * 90_000, b'{"alerts": []}')
        )
        code, text = self.site.ask(f"{self.site.urls['remediator']}/api/v1/alerts", body)
        self.site.say(
            f"POST remediator/api/v1/alerts {body[:20]!r}... -> {code} {text.strip()[:60]}"
        )

    def ghosts(self) -> None:
        count, now = self.draw.choice((50, 200, 400)), time.time()
        many = [{"labels": self.site.labels("GpuLost", "node1", 0) | {"node": f"ghost{i}"}, "startsAt": rfc(now),
                 "endsAt": rfc(now + 40)} for i in range(count)]  # fmt: skip
        code, _ = self.site.ask(f"{self.site.urls['alertmanager']}/api/v2/alerts", many)
        self.site.say(
            f"POST alertmanager/api/v2/alerts: GpuLost of {count} nodes that do not exist -> {code}"
        )

    def page(self) -> None:
        """False metrics about a GPU, from a service or from a second exporter of the node."""
        node, index = self.gpu()
        stray = self.draw.random() < 0.5
        about = f'gpu="{index}",uuid="{self.site.hardware.gpu(node, index).uuid}"'
        about += "" if stray else f',node="{node}"'
        Liar.text = self.draw.choice(
            (
                f"gpu_lost{{{about}}} 1\ngpu_up{{{about}}} 0\ngpu_responding{{{about}}} 0\n"
                f'gpu_xid_last_timestamp_seconds{{{about},xid="79"}} {time.time():.0f}\n',
                f"gpu_row_remap_failure{{{about}}} 1\n",
                f"gpu_sram_ecc_threshold_exceeded{{{about}}} 1\n",
            )
        ).encode()
        place = int(node[4:]) - 1 if stray else 0
        self._scrape(
            f"false metrics of a {'second exporter' if stray else 'service'} about {node}/{index}: {Liar.text[:60]!r}",
            self.draw.uniform(15, 60),
            lambda jobs: jobs["node" if stray else "service"]["static_configs"][place][
                "targets"
            ].append(f"127.0.0.1:{self.liar.server_port}"),
        )

    def sibling(self) -> None:
        """A GPU that is really lost, and a forged alert about a healthy GPU of the same node."""
        node, index = self.gpu()
        self.truth.begin((node, index), time.time())
        inject(self.site.hardware, node, index, "lost")
        self.site.say(f"fleetmedic inject {node}/{index} lost")
        other = self.draw.choice([one for one in range(GPUS) if one != index])
        labels, seconds = self.site.labels("GpuLost", node, other), self.draw.uniform(20, 60)
        self.later(self.draw.uniform(2, 7), lambda: self.site.alert(labels, seconds))

    def labels(self) -> None:
        """A scrape configuration with an error."""
        one, other = self.draw.sample(range(NODES), 2)
        kind = self.draw.choice(("swapped", "twice", "cluster"))

        def change(jobs: dict[str, Any]) -> None:
            targets = jobs["node"]["static_configs"]
            if kind == "swapped":
                first, second = targets[one]["labels"], targets[other]["labels"]
                targets[one]["labels"], targets[other]["labels"] = second, first
            elif kind == "twice":
                targets[one]["targets"] += targets[other]["targets"]
            else:
                targets[one]["labels"] = targets[one]["labels"] | {"cluster": "elsewhere"}

        self._scrape(
            f"labels of node{one + 1} {kind} (with node{other + 1})",
            self.draw.uniform(15, 50),
            change,
        )

    def _scrape(self, what: str, seconds: float, change: Callable[[dict[str, Any]], None]) -> None:
        config = yaml.safe_load(self.clean)
        change({job["job_name"]: job for job in config["scrape_configs"]})
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))
        code, _ = self.site.ask(f"{self.site.urls['prometheus']}/-/reload", b"")
        self.site.say(f"prometheus.yml for {seconds:.0f} s: {what} -> {code}")
        self.disturb(seconds)
        self.later(seconds, self._unscrape)

    def _unscrape(self) -> None:
        self.config.write_text(self.clean)
        code, _ = self.site.ask(f"{self.site.urls['prometheus']}/-/reload", b"")
        self.site.say(f"prometheus.yml as it was -> {code}")

    def _victim(self) -> tuple[str, int | None]:
        """A process of the stack, a GPU reader process of an exporter, or a job."""
        kind = self.draw.choice(("server", "server", "exporter", "reader", "job"))
        if kind == "server":
            name = self.draw.choice(SERVERS)
            return name, self.site.pid(name)
        if kind == "job":
            running = [
                job for job in self.site.cluster.jobs() if job.state == "RUNNING" and job.pid
            ]
            job = self.draw.choice(running) if running else None
            return (f"job {job.id}", job.pid) if job else ("no job", None)
        name = f"exporter-node{self.draw.randint(1, NODES)}"
        pid = self.site.pid(name)
        if kind == "exporter" or pid is None:
            return name, pid
        with suppress(psutil.Error):
            below = psutil.Process(pid).children(recursive=True)
            return f"a reader of {name}", below[-1].pid if below else None
        return name, None

    def _dark(self, name: str, seconds: float) -> None:
        if "exporter-" in name:
            self.truth.dark[name.rpartition("-")[2]] = time.time() + seconds

    def kill(self) -> None:
        name, pid = self._victim()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.site.say(f"kill -KILL {pid}  # {name}")
            self._dark(name, 0.0)
            self.disturb(10)

    def stop(self) -> None:
        name, pid = self._victim()
        if pid is None:
            return
        seconds = self.draw.choice((2.0, 4.0, 8.0, 20.0, 45.0))
        if name.startswith("job "):
            self.truth.stalled[name[4:]] = time.time() + seconds
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self.stopped.add(pid)
        self._dark(name, seconds)
        self.site.say(f"kill -STOP {pid}; sleep {seconds:.0f}; kill -CONT {pid}  # {name}")
        self.disturb(seconds)
        self.later(seconds, lambda: self._continue(pid))

    def _continue(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self.stopped.discard(pid)

    def job(self) -> None:
        live = [job.id for job in self.site.cluster.jobs() if not job.state.ended]
        if len(live) > 6:
            name = self.draw.choice(live)
            self.site.cluster.cancel(name, op_id=f"adversary-{self.number}-{time.time()}")
            self.site.say(f"fleetmedic jobs --cancel {name}")
            return
        train(
            self.site,
            self.draw.choice(("a.b", "node1", "Watchdog", "x" * 40, "0", "job")),
            self.draw.choice((1, 2, 4, 8)),
        )

    def crash(self) -> None:
        """A job that fails three times and is then cancelled by its user."""
        script = 'if [ "$FLEETMEDIC_ATTEMPT" -le 3 ]; then exit 1; fi; sleep 3600'
        name = self.site.cluster.submit(
            JobSpec("crash", ("/bin/sh", "-c", script), gpus=2, user="mallory")
        )
        self.site.say(
            f"fleetmedic run --gpus 2 --name {name} -- sh -c '{script}'; cancelled in 25 s"
        )
        self.later(25, lambda: void(self.site.cluster.cancel(name, op_id=f"cancel-{name}")))

    def order(self) -> None:
        """A person's order at an unexpected time."""
        why = {"by": "adversary", "reason": "odd moment"}
        kind = self.draw.choice(("pause", "release", "release", "close", "retry"))
        if kind == "pause":
            self.site.order("pause", why)
            seconds = self.draw.uniform(3, 30)
            self.disturb(seconds)
            self.later(seconds, lambda: void(self.site.order("resume", {"by": "adversary"})))
            return
        known = self.site.look("remediator", "/api/v1/incidents", {})
        known = [one for one in known.get("incidents", ()) if one["state"] in OPEN]
        if not known:
            return
        one = self.draw.choice(known)
        if kind == "release":
            self.truth.released.add(one["target"])
            if self.site.order("targets/release", why | {"target": one["target"]}) != 200:
                self.truth.released.discard(one["target"])
        elif self.site.order(f"incidents/{one['id']}/{kind}", why) == 200 and kind == "close":
            self.truth.released.add(one["target"])

    def silence(self) -> None:
        node, _ = self.gpu()
        seconds, now = self.draw.uniform(10, 40), time.time()
        matcher = {"name": "node", "value": node, "isRegex": False, "isEqual": True}
        body = {"matchers": [matcher], "startsAt": rfc(now), "endsAt": rfc(now + seconds), "createdBy": "adversary",
                "comment": "odd\nmoment"}  # fmt: skip
        code, _ = self.site.ask(f"{self.site.urls['alertmanager']}/api/v2/silences", body)
        self.site.say(
            f"POST alertmanager/api/v2/silences node={node} for {seconds:.0f} s -> {code}"
        )
        self.disturb(seconds)

    def second(self) -> None:
        """A second remediator on the same cluster, with its own data directory."""
        folder = self.site.state / "second"
        command = [sys.executable, "-P", "-m", "fleetmedic.cli", "remediator", "serve", "--web.listen-address=127.0.0.1:0",
                   f"--config={self.site.state}/remediator/remediator.yml", f"--data-dir={folder}"]  # fmt: skip
        other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.site.say(f"{' '.join(command[3:])} &  # for 15 s")
        self.later(15, other.kill)

    def load(self) -> None:
        rate = self.draw.choice((0, 15, 35, 55))
        if self.loader is not None:
            self.loader.kill()
            self.loader.wait()
            self.loader = None
        if rate:
            command = [sys.executable, "-P", "-m", "fleetmedic.localcluster.pool.load", "--url", self.site.urls["pool"],
                       "--rate", str(rate), "--seconds", "3600"]  # fmt: skip
            self.loader = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        self.site.say(f"load of {rate} requests a second on serve")

    def make_peace(self) -> None:
        """Revert all changes and repair all hardware."""
        self.settle_due(everything=True)
        for pid in list(self.stopped):
            self._continue(pid)
        if self.loader is not None:
            self.loader.kill()
        listed = self.site.look("alertmanager", "/api/v2/silences", [])
        for one in listed:
            self.site.ask(
                f"{self.site.urls['alertmanager']}/api/v2/silence/{one['id']}", method="DELETE"
            )
        self.site.order("resume", {"by": "adversary"})
        for node in self.site.hardware.nodes():
            for index in self.site.hardware.gpus(node):
                if self.truth.now((node, index)) is not None:
                    inject(self.site.hardware, node, index, "heal")
                    self.truth.end((node, index), time.time())
        self.site.say("all hardware is repaired, forged alerts expire, no more attacks")


def void(_: object) -> None:
    """Discard a value."""
