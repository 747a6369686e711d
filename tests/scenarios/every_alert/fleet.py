"""The fleet: simulated machines with one real exporter each, and the monitoring.

Eight clusters, distinguished by the label `cluster`:
  hall    hall-1 with eight GPUs and hall-2 with four; jobs, pipelines and services report on hall-1
  rack    node1 with four GPUs in the embedded cluster, its worker pool, the remediator (level
          `observe`), the detectors, Alertmanager, and every Prometheus
  yard    yard-1 to yard-3, machines without GPUs whose kernel files change
  annex   annex-1 and annex-2, which go down together
  shed    shed-1, which goes down alone
  barn    barn-1, whose exporter goes down while its kubelet is ready
  mill    three nodes of two GPUs, and a remediator that repairs (mill.py)
  forge   forge-1 with five GPUs, of which one job uses four (forge.py)
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from every_alert import forge, mill
from every_alert.judge import Judge
from every_alert.machine import Machine, build_stand_in
from every_alert.outside import Outside, Wire, served, status
from every_alert.processes import Processes, Programs, free_port
from every_alert.scrapes import Node, node_job, outside_jobs, own_jobs
from every_alert.work import Data, Loads, Server, Training
from fleetmedic.alerting.render import RenderContext as AlertmanagerPlace
from fleetmedic.alerting.render import render as render_alertmanager
from fleetmedic.alerting.settings import read as read_notifications
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.share import share
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec, JobState
from fleetmedic.localcluster.shutdown import shutdown
from fleetmedic.stack import binaries
from rules.render import Links, RenderParameters, render

SCRAPE = 2.0
USER, PASSWORD, TOKEN = "prometheus", "known-to-prometheus", "a-token-of-the-remediator"
LIGHT = {"annex-1": "annex", "annex-2": "annex", "shed-1": "shed", "barn-1": "barn"}
YARD = ("yard-1", "yard-2", "yard-3")
# Jobs that hold GPUs of the rack from the start; its fourth GPU is free.
HOLDERS = ("night-run", "notebook", "meagre")
JOBS = ("train-a", "train-b", "train-c", "train-d", "train-e", "train-f")


class Fleet:
    """Created by `running`; stories use its public attributes and methods."""

    def __init__(
        self,
        folder: Path,
        outside: Outside,
        factors: Mapping[int, frozenset[str]],
        programs: Programs,
    ) -> None:
        self._programs = programs
        self.folder = folder
        self.outside = outside
        self.loads = Loads()
        self.hall = Hardware(folder / "hall/hardware")
        self.rack = Hardware(folder / "rack/hardware")
        self.nodes: dict[str, Node] = {}
        self.machines = {name: Machine(folder / name) for name in ("hall", "node1", *YARD)}
        self.judges = {
            factor: Judge(factor, folder / f"judge-{factor}", free_port()) for factor in factors
        }
        self._categories = factors
        names = ("remediator", "alertmanager", "rules", "pool", "mill")
        self.ports = {name: free_port() for name in names}
        self.wire = Wire(self.main.port)
        self.training = {job: Training(job, self.progress) for job in JOBS}
        self.data = {name: Data(name, self.progress) for name in ("tokenise",)}
        self.data["nightly"] = Data("nightly", self.progress, expected_interval=6.0)
        self.servers = {
            name: Server(name, "a", self.progress) for name in ("chat", "draft", "search")
        }
        self.processes = Processes(folder)
        self._beats: list[Callable[[], object]] = []
        self._ended = threading.Event()
        self.broken: list[BaseException] = []

    @property
    def main(self) -> Judge:
        """The Prometheus that scrapes everything."""
        return self.judges[60]

    @property
    def spare(self) -> Judge:
        """A second Prometheus of the site, which stories break."""
        return next(judge for factor, judge in self.judges.items() if factor < 60)

    @property
    def progress(self) -> Path:
        """The folder of the progress reports of the jobs of hall-1."""
        folder = self.folder / "progress"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def pool(self) -> str:
        """The URL of the worker pool."""
        return f"http://127.0.0.1:{self.ports['pool']}"

    @property
    def webconfig(self) -> Path:
        """The web configuration of the exporter of hall-2."""
        return self.folder / "web.yml"

    @property
    def cluster_store(self) -> Path:
        """The allocation store that the exporter of hall-1 reads."""
        return self.folder / "hall/cluster/cluster.db"

    # ---- workload

    def each_beat(self, what: Callable[[], object]) -> None:
        """Call `what` twice a second from now on."""
        self._beats.append(what)

    def _beat(self) -> None:
        while not self._ended.wait(0.5):
            for what in list(self._beats):
                try:
                    what()
                except Exception as error:  # noqa: BLE001 - reported at the end; the run continues
                    self.broken.append(error)
                    self._beats.remove(what)

    # ---- starting

    def _exporter(self, name: str, cluster: str, *arguments: str, **environment: str) -> None:
        node = self.nodes[name] = Node(name, cluster, free_port())
        common = (
            f"--web.listen-address=127.0.0.1:{node.port}",
            f"--state.dir={self.folder}/state/{name}",
        )
        self.processes.ours(name, "exporter", *common, *arguments, **environment)

    def begin(self) -> None:
        """Start everything; returns after every target was scraped once."""
        self._write_settings()
        self._start_machines()
        self._start_rack()
        mill.start(self)
        forge.start(self)
        self._start_watchers()
        self._work()
        threading.Thread(target=self._beat, name="work", daemon=True).start()
        self._wait_ready()

    def end(self) -> None:
        """Stop everything."""
        self._ended.set()
        self.wire.close()
        self.processes.stop_all()
        for cluster in ("rack", "forge"):
            shutdown(self.folder / cluster, 1.0)

    def _write_settings(self) -> None:
        self.hall.create(1, 8)
        self.hall.create(2, 4)
        self.rack.create(1, 4)
        self.cluster_store.parent.mkdir(parents=True)
        LocalCluster(self.cluster_store.parent).store.close()
        # a GPU older than Ampere, which retires pages
        self.hall.change("node1", 0, retired_pages=0)
        users = {USER: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
        self.webconfig.write_text(yaml.safe_dump({"basic_auth_users": users}))
        for name in ("token", "alertmanager.token"):
            (self.folder / name).write_text(TOKEN)
            (self.folder / name).chmod(0o600)
        (self.folder / "chat.url").write_text(f"http://{self.outside.address}/chat")
        channels = {
            "chat": {"kind": "http", "url_file": str(self.folder / "chat.url"), "template": "sms"}
        }
        teams = [{"name": "all", "critical": ["chat"], "warning": ["chat"], "info": []}]
        (self.folder / "notifications.yml").write_text(
            yaml.safe_dump({"channels": channels, "teams": teams})
        )

    def _start_machines(self) -> None:
        library = build_stand_in(self.folder)
        hall, rack = self.machines["hall"].root, self.machines["node1"].root
        gpus = (
            "--source=simulated", "--gpu.interval=1s", "--gpu.health-interval=2s",
            "--collector.disable-host",
        )  # fmt: skip
        at_hall = (
            *gpus,
            f"--hardware.dir={self.hall.root}",
            f"--path.procfs={hall}/proc",
            f"--path.sysfs={hall}/sys",
        )
        self._exporter(
            "hall-1", "hall", *at_hall, "--hardware.node=node1", f"--progress.dir={self.progress}",
            f"--cluster.dir={self.cluster_store.parent}",
        )  # fmt: skip
        self._exporter(
            "hall-2", "hall", *at_hall, "--hardware.node=node2", "--no-collector.gpu_gpm",
            f"--web.config.file={self.webconfig}",
        )  # fmt: skip
        self._exporter(
            "node1", "rack", *gpus, f"--hardware.dir={self.rack.root}", "--hardware.node=node1",
            f"--path.procfs={rack}/proc", f"--path.sysfs={rack}/sys",
            f"--cluster.dir={self.folder}/rack/cluster", f"--progress.dir={self.folder}/rack/progress/node1",
        )  # fmt: skip
        for name in YARD:
            machine = self.machines[name]
            machine.mount("nas:/home", "/home", "nfs4")
            machine.mount(f"nas-{name}:/scratch", "/scratch", "nfs4")
            root = machine.root
            self._exporter(
                name, "yard", f"--path.procfs={root}/proc", f"--path.sysfs={root}/sys",
                f"--path.kmsg={root}/kmsg", LD_PRELOAD=str(library), **machine.environment,
            )  # fmt: skip
        for name, cluster in LIGHT.items():
            self._exporter(name, cluster, "--collector.disable-defaults", "--collector.time")
            self.outside.ready[name] = False
        self.outside.ready = {"barn-1": True}

    def _start_rack(self) -> None:
        listen = f"--pool.listen-address=127.0.0.1:{self.ports['pool']}"
        state = self.folder / "rack"
        self.processes.ours("localcluster", "localcluster", "serve", f"--state-dir={state}", listen)
        for name in HOLDERS:
            self.hold(name)
        self.demand(24.0)  # nearly always one running request, and short waits

    def hold(self, job: str) -> None:
        """Start a job of the embedded cluster that holds a GPU of the rack."""
        cluster = LocalCluster(self.folder / "rack/cluster", self.rack.root)
        until = time.monotonic() + 60
        job_id = cluster.submit(JobSpec(job, ("sleep", "3600"), env={"PATH": os.defpath}))
        while cluster.job(job_id).state is not JobState.RUNNING:
            assert time.monotonic() < until, f"{job}: {cluster.job(job_id).text}"
            time.sleep(0.2)
        cluster.store.close()

    def gpu_of(self, job: str) -> int:
        """The GPU that a job of the rack holds."""
        return LocalCluster(self.folder / "rack/cluster").job(job).gpus[0]

    def demand(self, rate: float) -> None:
        """Set the rate of requests to the pool, per second; 0 for none."""
        if self.processes.runs("demand"):
            self.processes.kill("demand")
        if rate:
            module = "fleetmedic.localcluster.pool.load"
            asked = ["--url", self.pool, "--rate", f"{rate:g}", "--seconds", "600"]
            self.processes.start("demand", [sys.executable, "-P", "-m", module, *asked])

    def _start_watchers(self) -> None:
        url = f"http://127.0.0.1:{self.ports['remediator']}"
        settings = {
            "cluster": {
                "name": "rack", "adapter": "local",
                "local": {"cluster_dir": f"{self.folder}/rack/cluster", "hardware_dir": str(self.rack.root)},
            },
            "level": "observe", "prometheus_url": f"http://{self.main.address}",
            "alertmanager_url": f"http://127.0.0.1:{self.ports['alertmanager']}",
            "webhook_token_file": f"{self.folder}/token", "timing": {"factor": 60.0},
            "notify": {
                "webhooks": [f"http://{self.outside.address}/chat"],
                "file": f"{self.folder}/notifications.yml",
            },
            "discovery": {"hosts": f"{self.folder}/hosts.yml"},
        }  # fmt: skip
        (self.folder / "hosts.yml").write_text("hosts: [node1]\n")
        self._settings("remediator.yml", settings)
        self.processes.ours(
            "remediator", "remediator", "serve", f"--config={self.folder}/remediator.yml",
            f"--web.listen-address=127.0.0.1:{self.ports['remediator']}", f"--data-dir={self.folder}/journal",
        )  # fmt: skip
        promtool = binaries.find("promtool")
        detectors = {
            "prometheus_url": f"http://127.0.0.1:{self.wire.port}", "rules_dir": str(self.generated),
            "work_dir": f"{self.folder}/detectors", "interval": "5s", "refit": "5s", "window": "10m",
            "step": "5s", "factor": 60.0, "promtool": str(promtool), "scrape_interval": f"{SCRAPE:g}s",
        }  # fmt: skip
        self._settings("rules.yml", detectors)
        self.processes.ours(
            "rules", "rules", "serve", f"--config={self.folder}/rules.yml",
            f"--web.listen-address=127.0.0.1:{self.ports['rules']}",
        )  # fmt: skip
        place = AlertmanagerPlace(
            url, f"{self.folder}/alertmanager.token", str(share("alertmanager") / "templates")
        )
        told = read_notifications(self.folder / "notifications.yml")
        (self.folder / "alertmanager.yml").write_text(render_alertmanager(place, told))
        self.processes.start("alertmanager", [
            *self._programs.alertmanager, f"--config.file={self.folder}/alertmanager.yml",
            f"--storage.path={self.folder}/alertmanager",
            f"--web.listen-address=127.0.0.1:{self.ports['alertmanager']}", "--cluster.listen-address=",
        ])  # fmt: skip
        for judge in self.judges.values():
            self._start_judge(judge)

    @property
    def generated(self) -> Path:
        """The folder of the rules of the detectors."""
        folder = self.folder / "generated"
        folder.mkdir(exist_ok=True)
        return folder

    def _settings(self, name: str, settings: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(dict(settings), sort_keys=False))

    def _start_judge(self, judge: Judge) -> None:
        main = judge is self.main
        remediator = f"http://127.0.0.1:{self.ports['remediator']}"
        links = Links(f"{remediator}/runbooks", remediator)
        categories = frozenset() if main else self._categories[judge.factor]
        place = RenderParameters(judge.factor, links, SCRAPE, categories=categories)
        render(judge.folder / "rules", place)
        scrapes = [node_job(self.nodes.values(), USER, PASSWORD)]
        if main:
            watched = [self.main.address, self.spare.address]
            scrapes += [*own_jobs(self.ports, watched), *outside_jobs(self.outside.address)]
        judge.configure(scrapes, SCRAPE, f"http://{self.outside.address}/read", self.generated)
        judge.know_alertmanagers(
            [f"127.0.0.1:{self.ports['alertmanager']}"] if main or judge is self.spare else []
        )
        self.processes.start(
            f"judge-{judge.factor}", [*self._programs.prometheus, *judge.arguments()]
        )

    def _work(self) -> None:
        self.loads.set(self.hall, "node2", range(4), 1.0)
        for job in HOLDERS:
            self.loads.set(self.rack, "node1", (self.gpu_of(job),), 0.9)
        self.outside.objectives = {"search": 1.0}
        working = [*self.training.values(), *self.data.values(), *self.servers.values()]
        for each in (self.loads, *working):
            self.each_beat(each.beat)
        self.each_beat(lambda: self.outside.waits.append(30.0))

    def _wait_ready(self) -> None:
        until = time.monotonic() + 120
        while missing := self._missing():
            self.processes.all_run()
            assert time.monotonic() < until, f"not ready after two minutes: {missing}"
            time.sleep(0.5)

    def _missing(self) -> list[str]:
        try:
            up = [judge.series("up") for judge in self.judges.values()]
        except OSError as error:
            return [str(error)]
        wanted = {judge: len(self.nodes) for judge in self.judges}
        wanted[60] += 10
        counts = dict(zip(self.judges, ([value for _, value in each] for each in up), strict=True))
        short = [
            f"judge-{j} sees {len(counts[j])} of {n}"
            for j, n in wanted.items()
            if len(counts[j]) < n
        ]
        down = [str(labels) for each in up for labels, value in each if not value]
        return short + down

    # ---- requests of stories

    def post(self, url: str, **headers: str) -> int:
        """The status of a POST request with an empty payload."""
        return status(urllib.request.Request(url, b"{}", headers, method="POST"))

    def get(self, node: str, **headers: str) -> int:
        """The status of a request to the exporter of a node."""
        return status(
            urllib.request.Request(
                f"http://127.0.0.1:{self.nodes[node].port}/metrics", headers=headers
            )
        )


@contextlib.contextmanager
def running(
    folder: Path, factors: Mapping[int, frozenset[str]], programs: Programs | None = None
) -> Iterator[Fleet]:
    """A healthy fleet. `factors`: the categories of alerts that each Prometheus evaluates."""
    with served() as outside:
        fleet = Fleet(folder, outside, factors, programs or Programs.found())
        try:
            fleet.begin()
            yield fleet
        finally:
            fleet.end()
