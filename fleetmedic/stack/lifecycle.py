"""Start and stop one stack. `fleetmedic up` and the demo use this library."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.stack import binaries
from fleetmedic.stack.directory_lock import MARK, DirectoryLock
from fleetmedic.stack.disk_space import too_small
from fleetmedic.stack.fetch import fetch
from fleetmedic.stack.health import health_problem
from fleetmedic.stack.identity import Mark, alive
from fleetmedic.stack.logs import quoted_lines, rotate
from fleetmedic.stack.plan import CLUSTER, StackOptions, StackPlan, decide
from fleetmedic.stack.ports import require_free
from fleetmedic.stack.reaper import clean
from fleetmedic.stack.render import render
from fleetmedic.stack.service_supervisor import Report, ServiceProcess, ServiceSupervisor
from fleetmedic.stack.services import health_urls, log_of, services
from fleetmedic.terminal.disk_errors import unusable
from fleetmedic.terminal.stack_option import suggested
from fleetmedic.wording.counts import counted

__all__ = ["Stack", "StackOptions"]

# What --reset deletes, with everything in the directories; docs/stack.md lists them. Other files are kept.
STATE_NAMES = (
    "hardware",
    "cluster",
    "progress",
    "exporter",
    "prometheus",
    "alertmanager",
    "remediator",
    "rules",
    "secrets",
    "stack.json",
)
LOOK_SECONDS = 0.1
EXPORTERS_SECONDS = 20.0
PROMETHEUS = "prometheus"


class Stack:
    """The processes of one stack, whose state is in one directory.

    Call prepare, start, wait_ready, and finally stop. A method that fails for an external reason
    raises UserError with the fix.
    """

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        self.plan = decide(options)
        self._lock: DirectoryLock | None = None
        self._supervisor: ServiceSupervisor | None = None
        self._health: dict[str, str] = {}
        self._report: Report = lambda _: None
        self._stopped = threading.Event()

    def prepare(self, report: Report) -> None:
        """Lock the state directory, find the programs, check the ports, write the settings.

        `report` is called with the progress messages of this method and with all later messages.
        """
        self._report = report
        plan = self.plan
        self._lock_directory(plan.state)
        if self.options.reset:
            reset(plan.state)
        require_same_fleet(plan)
        if any(binaries.find(name) is None for name in ("prometheus", "promtool", "alertmanager")):
            fetch(report)
        require_space(plan.state)
        table = services(plan, binaries.command)
        require_free(plan.ports)
        for kind in ("prometheus", "alertmanager"):
            report(f"{binaries.version(_found(kind))} ({_found(kind)})")
        if plan.simulated:
            report(
                f"SIMULATED: {simulated_hardware(len(plan.nodes), plan.gpus)}; every other process is real "
                "(metric: gpu_exporter_simulated 1)"
            )
            Hardware(plan.hardware).create(len(plan.nodes), plan.gpus)
        else:
            report(_about_acting(plan.level))
        render(plan, binaries.find("promtool"))
        self._backfill(report)
        for log in (plan.state / "logs").glob("*.log"):
            if log.name != "up.log":
                rotate(log)
        self._supervisor = ServiceSupervisor(plan.state, table, self._forward_message)
        self._supervisor.on_change = self._save
        self._health = health_urls(plan, table)
        self._save()

    def start(self) -> None:
        """Start every process of the stack, without waiting until it is ready.

        With a time factor, Prometheus starts when the exporters respond. Otherwise the shortened alerts
        for unreachable nodes fire before the exporters have started.
        """
        supervisor = self._running()
        if self.options.factor == 1:
            supervisor.start()
            return
        supervisor.hold(PROMETHEUS)
        supervisor.start()
        exporters = [url for name, url in self._health.items() if name.startswith("exporter-")]
        deadline = time.monotonic() + EXPORTERS_SECONDS
        while any(map(health_problem, exporters)) and time.monotonic() < deadline:
            if self._stopped.wait(LOOK_SECONDS):
                return
        supervisor.start_one(PROMETHEUS)

    def wait_ready(self, timeout: float, report: Report | None = None) -> None:
        """Wait until every process passes its health check.

        After `timeout` seconds, raises UserError with a process that is not ready, the reason, and
        the end of its log.
        """
        deadline = time.monotonic() + timeout
        waiting = dict(self._health)
        why: dict[str, str] = {}
        while waiting:
            for name, url in list(waiting.items()):
                if found := health_problem(url):
                    why[name] = found
                else:
                    del waiting[name]
                    if report is not None:
                        report(f"{name} is ready at {self.plan.url(name)}")
            if waiting and time.monotonic() > deadline:
                raise UserError(self._not_ready_text(next(iter(waiting)), why, timeout))
            if waiting:
                time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """Stop all processes and jobs of the stack, and unlock its directory. Can be called at any time."""
        self._stopped.set()
        if self._supervisor is not None:
            self._supervisor.stop()
            self._save(ended=True)
            self._supervisor = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def stop_one(self, name: str) -> None:
        """Stop one process of the stack, and do not restart it. Raises UserError for an unknown name."""
        supervisor = self._running()
        if name not in supervisor.children:
            raise UserError(
                f"unknown process {name!r}. Expected one of: {', '.join(supervisor.children)}."
            )
        supervisor.stop_one(name)

    def start_one(self, name: str) -> None:
        """Start a process of the stack that `stop_one` stopped."""
        self._running().start_one(name)

    def watch(self) -> None:
        """Wait until `stop` is called or this process is interrupted."""
        while not self._stopped.wait(1.0):
            pass

    def send_messages_to(self, report: Report) -> None:
        """Send later messages about processes to `report`."""
        self._report = report

    def urls(self) -> dict[str, str]:
        """Return the URL of each process by name, as in stack.json."""
        return self.plan.urls()

    def children(self) -> dict[str, ServiceProcess]:
        """Return the state of each process of the stack, by name."""
        return self._running().children

    def _running(self) -> ServiceSupervisor:
        if self._supervisor is None:
            raise UserError("the stack is not running: it was not prepared, or it was stopped.")
        return self._supervisor

    def _forward_message(self, text: str) -> None:
        self._report(text)

    def _lock_directory(self, state: Path) -> None:
        require_ours(state)
        try:
            state.mkdir(parents=True, exist_ok=True)
            self._lock = DirectoryLock(state)
        except BlockingIOError:
            raise UserError(_already_runs(state)) from None
        except OSError as error:
            raise unusable(state, error) from None
        end_leftovers(state)

    def _backfill(self, report: Report) -> None:
        if not (self.plan.simulated and self.options.history):
            return
        data = self.plan.state / "prometheus" / "data"
        done = data / "backfilled"
        if done.exists():
            return
        from fleetmedic.stack.history import backfill

        exporters = {node: self.plan.ports[f"exporter-{node}"] for node in self.plan.nodes}
        written = backfill(
            _found("promtool"),
            Hardware(self.plan.hardware),
            data,
            exporters,
            time.time(),
            cluster=CLUSTER,
        )
        report(
            "SIMULATED: preloaded 24 h of healthy metrics into Prometheus, to train the detectors "
            f"({written.series} series, {written.samples} samples, {written.seconds:.1f} s)"
        )
        done.touch()

    def _save(self, *, ended: bool = False) -> None:
        supervisor = self._supervisor
        if supervisor is None:
            return
        pids = {name: child.who for name, child in supervisor.children.items() if child.who}
        StackFile(
            cluster=CLUSTER,
            port_base=self.plan.port_base,
            simulated=self.plan.simulated,
            urls=self.plan.urls(),
            token_file=str(self.plan.token_file),
            supervisor=None if ended else supervisor.mark.supervisor,
            pids=pids,
        ).save(self.plan.state)

    def _not_ready_text(self, name: str, why: dict[str, str], timeout: float) -> str:
        log = log_of(self.plan.state, name)
        return (
            f"{name} was not ready after {timeout:g} s ({why[name]}). Its log {log} ends with:\n"
            + quoted_lines(log, 3)
        )


def require_space(state: Path) -> None:
    """Raise UserError if there is too little free disk space for a stack."""
    if problem := too_small(state):
        raise UserError(
            f"{problem}. Free disk space, or choose another directory with --state-dir."
        )


def require_ours(state: Path) -> None:
    """Reject a non-empty directory that was never a state directory, because --reset would delete files in it.

    Raises UserError with the name of one of its files.
    """
    try:
        names = {path.name for path in state.iterdir()} if state.exists() else set()
    except OSError as error:
        raise unusable(state, error) from None
    foreign = names - {"logs"}
    if foreign and MARK not in names:
        raise UserError(
            f"{state} is not a state directory of fleetmedic: it contains {min(foreign)!r}. "
            "Choose a new or empty directory with --state-dir."
        )


def _already_runs(state: Path) -> str:
    return (
        f"a stack already runs or starts in {state}. {suggested('up status', state)} shows it, and "
        f"{suggested('up down', state)} stops it. A second stack needs another --state-dir and another "
        "--port-base."
    )


def reset(state: Path) -> None:
    """Delete a stack's state from its directory: STATE_NAMES with all contents, and the logs. Other files are kept."""
    for path in [*(state / name for name in STATE_NAMES), *(state / "logs").glob("*.log*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "up.log":  # in use: --detach writes to it now
            path.unlink(missing_ok=True)


def simulated_hardware(nodes: int, gpus: int) -> str:
    """Return the description of a simulated fleet with `gpus` GPUs in each node."""
    each = "" if nodes == 1 else " each"
    return f"the hardware of {counted(nodes, 'node')} with {counted(gpus, 'GPU')}{each}"


def require_same_fleet(plan: StackPlan) -> None:
    """Raise UserError if the directory contains nodes that this stack does not run.

    Jobs on such nodes would not be monitored.
    """
    held = Hardware(plan.hardware).nodes() if plan.hardware.is_dir() else []
    if not set(held) <= (set(plan.nodes) if plan.simulated else set()):
        wanted = f"{counted(len(plan.nodes), 'simulated node')}" if plan.simulated else "real GPUs"
        raise UserError(
            f"{plan.state} contains {counted(len(held), 'simulated node')}, but this start expects {wanted}. "
            "Delete the old state with --reset, or choose another --state-dir."
        )


def end_leftovers(state: Path) -> int:
    """End the processes that an earlier supervisor of this directory left running; returns their
    number."""
    try:
        before = StackFile.read(state)
    except UserError:
        return 0
    if before.supervisor is None or alive(before.supervisor):
        return 0
    ended = clean(state, Mark.of(before.supervisor, state))
    replace(before, supervisor=None, pids={}).save(state)
    return ended


def _found(name: str) -> Path:
    path = binaries.find(name)
    if path is None:
        raise UserError(f"{name} is missing. Run `fleetmedic doctor --fetch`.")
    return path


def _about_acting(level: str) -> str:
    if level == "observe":
        return (
            "REAL GPUs, level observe: the remediator takes no action; it records each decision. "
            f"To enable actions: start jobs with {suggested('run')}, review the decisions in "
            f"{suggested('incidents list')}, then start with --level quarantine, drain or repair "
            "(a GPU reset requires root and an idle GPU)"
        )
    return f"REAL GPUs, level {level}: the remediator ACTS on this machine's GPUs and jobs"
