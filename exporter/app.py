"""The composition root of the exporter: creates all parts from the settings and runs them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exporter import state_dir
from exporter.boot import BootReader, ProcBoot, SimulatedBoot
from exporter.catalogue import catalogue
from exporter.gpu_states import INTERVALS, GpuStates, WorkerPoolState
from exporter.log import logger, write_event
from exporter.pages.page_builder import PageBuilder
from exporter.reading.supervisor import WorkerSupervisor
from exporter.registry import COLLECTORS, CollectorContext
from exporter.reports import inbox
from exporter.sources.base import Group
from exporter.web.access_control import AccessControl
from exporter.web.backend import WebBackend
from exporter.web.counters import WebCounters
from exporter.web.listen import WebSettings, listen
from exporter.web.routes import Routes
from exporter.web.server import WebServer
from fleetmedic import __version__
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError

NVML_LIBRARY = "libnvidia-ml.so.1"
ONCE_SECONDS = 5.0
SOCKET = "progress.socket"
_M_ARENA_MAX = -8
SWITCH_SECONDS = 0.0005  # so that a scrape does not wait the default 5 ms for a rendering thread


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """The settings from the command line. A path is None if its flag is not set."""

    web: WebSettings
    procfs: Path
    sysfs: Path
    kmsg: Path | None
    state_dir: Path
    source: str
    hardware_dir: Path | None
    node: str | None
    cluster_dir: Path | None
    progress_dir: Path | None
    expected: int | None
    interval: float
    health_interval: float
    without: frozenset[str]
    flags: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exporter:
    """The parts of a running exporter. `supervisor` is None if the exporter reads no GPUs."""

    gpu_states: GpuStates
    page_builder: PageBuilder
    supervisor: WorkerSupervisor | None
    backend: WebBackend
    counters: WebCounters


def library_loads() -> bool:
    """Return whether the NVML library can be loaded. The test runs in a separate process."""
    code = f"import ctypes; ctypes.CDLL({NVML_LIBRARY!r})"
    tried = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=False)
    return tried.returncode == 0


def choose_source(settings: ExporterSettings, log: Callable[..., None]) -> str:
    """Return the source of GPU values: `nvml`, `simulated` or `none`.

    Raises UserError if the requested source is unavailable.
    """
    if settings.source != "auto":
        if settings.source == "simulated" and settings.hardware_dir is None:
            raise UserError(
                "--source=simulated requires --hardware.dir, the directory of the simulated nodes."
            )
        return settings.source
    if library_loads():
        return "nvml"
    if settings.hardware_dir is not None:
        return "simulated"
    log("no_gpus", why=f"cannot load {NVML_LIBRARY}: only host metrics are served")
    return "none"


def choose_node(settings: ExporterSettings, source: str) -> str:
    """Return the name of this exporter's node in the cluster.

    Raises UserError if the hardware directory does not contain the node.
    """
    if source != "simulated" or settings.hardware_dir is None:
        return settings.node or socket.gethostname()
    nodes = Hardware(settings.hardware_dir).nodes()
    if settings.node is None and len(nodes) == 1:
        return nodes[0]
    if settings.node not in nodes:
        known = ", ".join(nodes[:20]) or "none"
        raise UserError(
            f"--hardware.node: expected one of the nodes in {settings.hardware_dir}: {known}."
        )
    return settings.node or ""


def build(settings: ExporterSettings, log: Callable[..., None]) -> Exporter:
    """Create all parts of the exporter without starting them."""
    source = choose_source(settings, log)
    node = choose_node(settings, source)
    on = {entry.name for entry in COLLECTORS} - settings.without
    intervals = {group: every for group, every in INTERVALS.items() if f"gpu_{group}" in on}
    given = {
        "load": settings.interval,
        "gpm": settings.interval,
        "health": settings.health_interval,
    }
    intervals |= {group: given[group] for group in intervals if group in given}
    inventory = settings.state_dir / "inventory.json"
    gpu_states = GpuStates(inventory, expected=settings.expected, intervals=intervals)
    boot: BootReader = ProcBoot(settings.procfs)
    kmsg = settings.kmsg or Path("/dev/kmsg")
    arguments = ["nvml", str(settings.procfs), str(settings.sysfs)]
    if source == "simulated" and settings.hardware_dir is not None:
        boot = SimulatedBoot(settings.hardware_dir, node)
        kmsg = settings.kmsg or Hardware(settings.hardware_dir).kmsg_path(node)
        arguments = ["simulated", str(settings.hardware_dir), node]
    counters = WebCounters()
    parts = CollectorContext(
        gpu_states=gpu_states,
        intervals=intervals,
        boot=boot,
        procfs=settings.procfs,
        sysfs=settings.sysfs,
        kmsg=kmsg,
        state_dir=settings.state_dir,
        node=node,
        cluster_dir=settings.cluster_dir,
        progress_dir=settings.progress_dir,
        has_gpus=source != "none",
        log=log,
        flags=settings.flags,
        simulated=source == "simulated",
        shared={"web": counters},
    )
    made = [entry.make(parts) for entry in COLLECTORS if entry.name not in settings.without]
    collectors = [collector for collector in made if collector is not None]
    page_builder = PageBuilder(collectors, gpu_states, catalogue(), __version__, log)
    supervisor = None
    if source == "none":
        gpu_states.set_worker_pool_state(WorkerPoolState(failure=""))
    else:
        supervisor = _supervisor(settings, gpu_states, arguments, intervals, log)
    backend = WebBackend(
        page_builder,
        gpu_states,
        node,
        __version__,
        supervisor,
        parts.shared.get("kernel_log"),
        {entry.name: entry.summary for entry in COLLECTORS},
        settings.web.metrics_path,
        settings.web.dcgm,
    )
    return Exporter(gpu_states, page_builder, supervisor, backend, counters)


def _supervisor(
    settings: ExporterSettings,
    gpu_states: GpuStates,
    arguments: list[str],
    intervals: Mapping[Group, float],
    log: Callable[..., None],
) -> WorkerSupervisor:
    """Create the supervisor of the worker processes.

    The simulated source has no driver events, so its XIDs come only from the kernel log.
    """
    events = "exporter.sources.nvml" if arguments[0] == "nvml" else ""
    return WorkerSupervisor(
        gpu_states,
        arguments,
        intervals,
        log,
        procfs=settings.procfs,
        sysfs=settings.sysfs,
        events=events,
    )


def once(settings: ExporterSettings) -> bytes:
    """Collect all metrics once and return the metrics page.

    It uses a copy of the state, so a running exporter with the same state directory is not
    affected. A state directory that cannot be created is a warning only.
    """
    with tempfile.TemporaryDirectory(prefix="fleetmedic-exporter-") as folder:
        try:
            if not settings.state_dir.exists():
                _warn_of_state_dir(settings.state_dir)
            for name in ("inventory.json", "xid.json"):
                if (settings.state_dir / name).is_file():
                    shutil.copy(settings.state_dir / name, folder)
        except OSError as error:
            raise UserError(
                f"--state.dir: cannot read {settings.state_dir} ({error.strerror}); run the command "
                "as the user of the exporter, or specify another directory."
            ) from None
        exporter = build(_with_temporary_state(settings, Path(folder)), logger())
        if exporter.supervisor is not None:
            exporter.supervisor.start()
        until = time.monotonic() + ONCE_SECONDS
        while exporter.gpu_states.snapshot(time.time()).failure and time.monotonic() < until:
            time.sleep(0.02)
        page = exporter.page_builder.once(time.time())
        if exporter.supervisor is not None:
            exporter.supervisor.stop()
        return page.text


def _warn_of_state_dir(path: Path) -> None:
    try:
        state_dir.check(path)
    except UserError as error:
        logger()("state_dir_unusable", why=str(error))


def check(settings: ExporterSettings) -> None:
    """Check whether the exporter could start with these settings, without changing anything. Raises
    UserError."""
    settings.web.read(logger())
    if path := settings.flags.get(SOCKET):
        inbox.check(path)
    state_dir.check(settings.state_dir)
    with tempfile.TemporaryDirectory(prefix="fleetmedic-exporter-") as folder:
        build(_with_temporary_state(settings, Path(folder)), logger())


def _with_temporary_state(settings: ExporterSettings, folder: Path) -> ExporterSettings:
    """Return the settings with a temporary state directory and without the progress socket.

    The socket belongs to the running exporter.
    """
    return replace(settings, state_dir=folder, flags={**settings.flags, SOCKET: None})


def serve(settings: ExporterSettings) -> None:
    """Run the exporter until SIGTERM or SIGINT. Raises UserError if it cannot start."""
    sys.setswitchinterval(SWITCH_SECONDS)
    # One heap for all threads saves memory, because the threads of collectors mostly wait.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    log, web = logger(), settings.web
    file, token = web.read(log)
    lock = state_dir.claim(settings.state_dir)
    listeners = [listen(host, port) for host, port in web.addresses]
    exporter = build(settings, log)
    access_control = AccessControl(file, token, exporter.counters, log)
    routes = Routes(exporter.backend)
    server = WebServer(routes, access_control, file, exporter.counters, log, web.max_requests)
    try:
        asyncio.run(_serve(exporter, server, listeners))
    finally:
        exporter.page_builder.stop()
        if exporter.supervisor is not None:
            exporter.supervisor.stop()
        os.close(lock)


async def _serve(exporter: Exporter, server: WebServer, listeners: list[socket.socket]) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(_log_unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    listening = [await server.listen(listener) for listener in listeners]
    if exporter.supervisor is not None:
        exporter.supervisor.start()
    exporter.page_builder.start()
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        write_event("listening", level="info", address=f"{host}:{port}")
    await stopped.wait()
    for each in listening:
        each.close()
    await server.close()


def _log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an unhandled exception of a task as one line, without a traceback."""
    error = context.get("exception")
    why = f"{type(error).__name__}: {error}" if error else ""
    logger()("stray_error", what=str(context.get("message", ""))[:200], why=why[:500])
