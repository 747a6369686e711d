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
from fleetmedic.stack.directory_lock import holder
from fleetmedic.stack.health import health_problem, ready_url
from fleetmedic.stack.identity import alive
from fleetmedic.terminal.output import clean
from fleetmedic.terminal.stack_option import suggested
from remediator.console.remote import RemediatorClient
from remediator.console.responses import IncidentsResponse
from remediator.console.show import stop_lines

if TYPE_CHECKING:
    from rich.table import Table

DOWN = "down"
WIDE = 90  # columns that the whole status table needs


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The status of one process. `trouble` is the reason why the process is not ready; None if it is ready.

    `uptime` is in seconds. `pid` and `uptime` are None if the process is down.
    """

    name: str
    trouble: str | None
    pid: int | None
    uptime: float | None
    memory: int | None
    url: str | None

    @property
    def state(self) -> str:
        """Return the state of a process: `healthy`, `not ready` or `down`."""
        if self.trouble is None:
            return "healthy"
        return DOWN if self.trouble == DOWN else "not ready"

    @property
    def reason(self) -> str:
        """Return the reason why the process is not ready, or the command that shows it; empty if healthy."""
        if self.trouble == DOWN:
            return f"see {suggested(f'up logs {self.name}')}"
        return clean(self.trouble or "")


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
    wrong = health_problem(ready_url(name, url)) if url else None
    if who is not None and not running:
        wrong = DOWN
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
        f"{_size(row.memory):>7}  {row.url or ''}  {row.reason}".rstrip()
        for row in rows
    ]


def table(rows: Iterable[ProcessStatus], title: str, width: int = WIDE) -> Table:
    """Return the status of the stack as a rich table. A narrow terminal gets only the first two columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, box=box.SIMPLE, title_justify="left")
    for heading, justify in (
        ("process", "left"),
        ("state", "left"),
        ("pid", "right"),
        ("up", "right"),
        ("memory", "right"),
        ("URL", "left"),
    ):
        if width >= WIDE or heading in ("process", "state"):
            drawn.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        colour = "green" if row.trouble is None else "red"
        state = Text(": ".join(filter(None, (row.state, row.reason))), style=colour)
        usage = (str(row.pid or "-"), _age(row.uptime), _size(row.memory), row.url or "")
        drawn.add_row(row.name, state, *(usage if width >= WIDE else ()))
    return drawn


def title(stack: StackFile, state: Path) -> str:
    """Return the title of the status table."""
    kind = "SIMULATED GPUs" if stack.simulated else "real GPUs"
    return f"fleetmedic, cluster {stack.cluster}, {kind}, state directory {state}"


def starting(state: Path) -> str | None:
    """Return the message for a stack that is starting and not described yet; None otherwise."""
    who = holder(state)
    if who is None:
        return None
    try:
        if StackFile.read(state).supervisor == who:
            return None
    except UserError:
        pass  # the first start in this directory
    return f"A stack is starting in {state} (process {who[0]}). {suggested('up down', state)} stops it."


def stopped(stack: StackFile, state: Path) -> str | None:
    """Return the message for a stack that is not running; None if the stack is running."""
    if alive(stack.supervisor):
        return None
    start = f"Start it with {suggested('up', state, stack.port_base)}."
    text = f"No stack is running in {state}. {start}"
    left = [name for name, who in stack.pids.items() if alive(who)]
    if left:
        end = f"{suggested('up down', state)} ends them."
        text += f"\nProcesses of an earlier stack still run: {', '.join(left)}. {end}"
    return text


def dashboards_line(stack: StackFile) -> str:
    """Return the line with the URL of the dashboards."""
    if "remediator" not in stack.urls:
        return "Dashboards: none, because this stack has no remediator."
    return f"Dashboards: {stack.urls['remediator']}/dashboards"


def stops(stack: StackFile) -> list[str]:
    """Return a line for each cause for which the remediator takes no action, such as a pause."""
    if "remediator" not in stack.urls:
        return []
    try:
        found = RemediatorClient(stack.urls["remediator"], timeout=2.0).get(
            "/api/v1/incidents", IncidentsResponse
        )
    except (UserError, LookupError):
        return []
    return stop_lines(found)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(float(int(seconds)))


def _size(number: int | None) -> str:
    return "-" if number is None else f"{number / 1e6:.0f} MB"
