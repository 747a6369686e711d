"""Show the status of a stack, one row per process, as a table for terminals or as plain lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleetmedic.kernel.durations import format_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.stack.health import health_problem
from fleetmedic.stack.identity import alive
from remediator.console.remote import RemediatorClient
from remediator.console.responses import IncidentsResponse
from remediator.console.show import pause_line

if TYPE_CHECKING:
    from rich.table import Table

# The path of the health check; every other process answers at /-/healthy.
_HEALTH = {"prometheus": "/-/ready", "alertmanager": "/-/ready", "pool": "/healthz"}


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The status of one process. `trouble` is None if healthy. `uptime` is in seconds, None if down."""

    name: str
    trouble: str | None
    pid: int | None
    uptime: float | None
    memory: int | None
    url: str | None

    @property
    def state(self) -> str:
        """Return the state of a process: `healthy`, or a short description of the failure."""
        return "healthy" if self.trouble is None else self.trouble


def health_url(name: str, url: str) -> str:
    """Return the URL that returns 200 if that process is healthy."""
    return url + _HEALTH.get(name, "/-/healthy")


def check_processes(stack: StackFile) -> list[ProcessStatus]:
    """Check every process of the stack concurrently, so that it takes at most 2 s."""
    names = list(dict.fromkeys([*stack.pids, *stack.urls]))
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(lambda name: _row(stack, name), names))


def all_healthy(stack: StackFile, rows: Iterable[ProcessStatus]) -> bool:
    """Return whether the supervisor runs and every process is healthy."""
    return alive(stack.supervisor) and all(row.trouble is None for row in rows)


def _row(stack: StackFile, name: str) -> ProcessStatus:
    who, url = stack.pids.get(name), stack.urls.get(name)
    running = alive(who)
    wrong = health_problem(health_url(name, url)) if url else None
    if who is not None and not running:
        wrong = "down"
    uptime, memory = _usage(who[0]) if who is not None and running else (None, None)
    return ProcessStatus(name, wrong, who[0] if who and running else None, uptime, memory, url)


def _usage(pid: int) -> tuple[float | None, int | None]:
    """Return the uptime in seconds, and the resident memory of the process and its children in
    bytes."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return time.time() - process.create_time(), sum(one.memory_info().rss for one in family)
    except psutil.Error:
        return None, None


def use_plain_output() -> bool:
    """Return whether to print plain lines. This is the case if stdout is not a terminal, NO_COLOR
    is set, or TERM is dumb."""
    return (
        not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM", "") == "dumb"
    )


def lines(rows: Iterable[ProcessStatus]) -> list[str]:
    """Return the status of the stack as one line for each process."""
    return [
        f"{row.name:<16} {row.state:<10} pid {row.pid or '-':<8} up {_age(row.uptime):<8} "
        f"{_size(row.memory):>7}  {row.url or ''}".rstrip()
        for row in rows
    ]


def table(rows: Iterable[ProcessStatus], title: str) -> Table:
    """Return the status of the stack as a rich table."""
    from rich import box
    from rich.table import Table

    drawn = Table(title=title, box=box.SIMPLE, title_justify="left")
    for heading, justify in (
        ("process", "left"),
        ("state", "left"),
        ("pid", "right"),
        ("up", "right"),
        ("memory", "right"),
        ("URL", "left"),
    ):
        drawn.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        colour = "green" if row.trouble is None else "red"
        drawn.add_row(
            row.name,
            f"[{colour}]{row.state}[/]",
            str(row.pid or "-"),
            _age(row.uptime),
            _size(row.memory),
            row.url or "",
        )
    return drawn


def title(stack: StackFile, state: Path) -> str:
    """Return the title of the status table."""
    kind = "SIMULATED GPUs" if stack.simulated else "real GPUs"
    return f"fleetmedic, cluster {stack.cluster}, {kind}, state directory {state}"


def dashboards_line(stack: StackFile) -> str:
    """Return the line with the URL of the dashboards."""
    if "remediator" not in stack.urls:
        return "Dashboards: none, because this stack has no remediator."
    return f"Dashboards: {stack.urls['remediator']}/dashboards"


def pause(stack: StackFile) -> str | None:
    """Return the line that says that the remediator is paused; None if it is not paused."""
    if "remediator" not in stack.urls:
        return None
    try:
        found = RemediatorClient(stack.urls["remediator"], timeout=2.0).get(
            "/api/v1/incidents", IncidentsResponse
        )
    except (UserError, LookupError):
        return None
    return pause_line(found.pause)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(float(int(seconds)))


def _size(number: int | None) -> str:
    return "-" if number is None else f"{number / 1e6:.0f} MB"
