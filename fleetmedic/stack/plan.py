"""Determine a stack's paths, ports and settings from the options, once at startup."""

from __future__ import annotations

import ctypes
import socket
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.alerting.settings import read as read_notifications
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import DEFAULT_PORT_BASE
from fleetmedic.kernel.labels import valid_name
from fleetmedic.stack.ports import HOST, layout

CLUSTER = "local"
LEVELS = ("observe", "quarantine", "drain", "repair")
SCRAPE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """The options of a stack.

    `factor` divides the durations of rules, detectors and remediation. If `simulate` is None, GPUs
    are simulated if this machine has no GPU. If `level` is None, the level is repair for simulated
    GPUs and observe for real GPUs. `scrape` is Prometheus' scrape interval in seconds. `reset`
    deletes the state of earlier runs. `history` preloads 24 h of healthy metrics into a simulated
    stack. `notifications` is the path of notifications.yml.
    """

    state_dir: Path
    port_base: int = DEFAULT_PORT_BASE
    factor: float = 1.0
    level: str | None = None
    nodes: int = 4
    gpus: int = 8
    simulate: bool | None = None
    scrape: float = SCRAPE_SECONDS
    reset: bool = False
    history: bool = True
    notifications: str | None = None


@dataclass(frozen=True, slots=True)
class StackPlan:
    """The paths, ports and settings of a stack. Paths are absolute."""

    state: Path
    port_base: int
    ports: dict[str, int]
    nodes: tuple[str, ...]
    gpus: int
    simulated: bool
    factor: float
    level: str
    scrape: float
    notifications: Path | None = None

    @property
    def hardware(self) -> Path:
        """Return the hardware directory, which exists only if GPUs are simulated."""
        return self.state / "hardware"

    @property
    def token_file(self) -> Path:
        """Return the file with the bearer token that Alertmanager sends to the remediator."""
        return self.state / "secrets" / "webhook.token"

    def url(self, name: str) -> str:
        """Return the URL of a process, such as http://127.0.0.1:9090."""
        return f"http://{HOST}:{self.ports[name]}"

    def urls(self) -> dict[str, str]:
        """Return the URL of every process that listens on a port, by name."""
        return {name: self.url(name) for name in self.ports}


def decide(options: StackOptions, *, gpus_found: bool | None = None) -> StackPlan:
    """Return the plan for these options on this machine. Raises UserError for invalid options."""
    if not 1 <= options.factor <= 1000:
        raise UserError(f"--time-factor: expected 1 to 1000, got {options.factor:g}.")
    if not 1 <= options.scrape <= 300:
        raise UserError(f"--scrape-interval: expected 1 to 300 seconds, got {options.scrape:g}.")
    if options.level is not None and options.level not in LEVELS:
        raise UserError(f"--level: expected one of {', '.join(LEVELS)}, got {options.level!r}.")
    if not (1 <= options.nodes <= 64 and 1 <= options.gpus <= 16):
        raise UserError(
            "expected 1 to 64 simulated nodes (--nodes) of 1 to 16 GPUs (--gpus), got "
            f"{options.nodes} of {options.gpus}."
        )
    notifications = Path(options.notifications).absolute() if options.notifications else None
    if notifications is not None:
        read_notifications(notifications)
    found = has_gpus() if gpus_found is None else gpus_found
    simulated = not found if options.simulate is None else options.simulate
    nodes = (
        tuple(f"node{number}" for number in range(1, options.nodes + 1))
        if simulated
        else (host_name(),)
    )
    return StackPlan(
        state=options.state_dir.absolute(),
        port_base=options.port_base,
        ports=layout(options.port_base, list(nodes), pool=simulated),
        nodes=nodes,
        gpus=options.gpus,
        simulated=simulated,
        factor=options.factor,
        level=options.level or ("repair" if simulated else "observe"),
        scrape=options.scrape,
        notifications=notifications,
    )


def has_gpus() -> bool:
    """Return whether the NVIDIA driver is installed: its procfs entry or its management library exists."""
    if Path("/proc/driver/nvidia/version").exists():
        return True
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def host_name() -> str:
    """Return this machine's node name. The embedded cluster uses the same name."""
    name = socket.gethostname()
    return name if valid_name(name) else "localhost"
