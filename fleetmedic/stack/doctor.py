"""Define `fleetmedic doctor`, which checks whether this machine can run the stack."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.stack import binaries, ports
from fleetmedic.stack.disk_space import existing_parent, free_bytes, too_small
from fleetmedic.stack.fetch import fetch, manual_fix, missing_packages, parts_dir
from fleetmedic.stack.identity import alive
from fleetmedic.stack.plan import StackOptions, decide, has_gpus
from fleetmedic.terminal.disk_errors import access_cure
from fleetmedic.terminal.stack_option import StackLocation, stack_option

_LIBRARIES = {
    "psutil": "exporter",
    "numpy": "rules",
    "sklearn": "rules",
    "requests": "rules",
    "promql_parser": "rules",
    "starlette": "remediator",
    "uvicorn": "remediator",
    "httpx2": "remediator",
    "prometheus_client": "remediator",
    "jinja2": "remediator",
    "rich": "stack",
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check of this machine. Only `missing` makes the exit code 1. `cure` is the fix."""

    name: str
    verdict: Literal["ok", "missing", "note"]
    text: str
    cure: str = ""


@click.command()
@click.option(
    "--fetch", "get", is_flag=True, help="Download Prometheus and Alertmanager if they are missing."
)
@click.option("--json", "as_json", is_flag=True, help="JSON output.")
@stack_option
@click.pass_context
def doctor(ctx: click.Context, get: bool, as_json: bool, stack: StackLocation) -> None:
    """Check whether this machine can run the stack. The exit code is 1 if a requirement is missing.

    The command checks Python, libraries, Prometheus, Alertmanager, mount namespaces, ports, GPUs and
    disk space. It prints one line for each check: `ok`, `note` (a warning) or `missing` (a missing
    requirement).

    \b
    Examples:
      fleetmedic doctor
      fleetmedic doctor --fetch        download missing programs without installing packages
      fleetmedic doctor --json
    """
    if get and (missing_packages() or not _complete()):
        fetch(lambda text: click.echo(text, err=as_json))
    found = examine(stack)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in found]}, indent=1))
    else:
        click.echo("\n".join(_lines(found)))
    ctx.exit(1 if any(one.verdict == "missing" for one in found) else 0)


def _lines(found: list[CheckResult]) -> Iterator[str]:
    """Yield a line for each result, and each fix once: after the last result that needs it."""
    last = {one.cure: one for one in found}
    for one in found:
        yield f"{one.verdict:<7} {one.name:<13} {one.text}"
        if one.cure and last[one.cure] is one:
            yield f"{'':<21} -> {one.cure}"


def examine(stack: StackLocation) -> list[CheckResult]:
    """Check whether a stack with these options can start on this machine. Changes nothing."""
    looks: tuple[Callable[[], CheckResult], ...] = (
        _python,
        _libraries,
        lambda: _program("prometheus"),
        lambda: _program("promtool"),
        lambda: _program("alertmanager"),
        lambda: _program("amtool"),
        _namespaces,
        lambda: _ports(stack),
        _gpus,
        lambda: _disk(stack.state),
    )
    return [look() for look in looks]


def _complete() -> bool:
    needed = (name for name in binaries.NAMES if name not in binaries.COMPARED)
    return all(binaries.find(name) for name in needed)


def _python() -> CheckResult:
    version = ".".join(str(part) for part in sys.version_info[:3])
    inside = "in a venv" if sys.prefix != sys.base_prefix else "outside a venv"
    return CheckResult("python", "ok", f"{version} {inside}, {sys.executable}")


def _libraries() -> CheckResult:
    missing = {
        name: extra for name, extra in _LIBRARIES.items() if not importlib.util.find_spec(name)
    }
    if missing:
        extras = ",".join(sorted(set(missing.values())))
        return CheckResult(
            "libraries",
            "missing",
            f"missing: {', '.join(missing)}",
            f"Run `pip install 'fleetmedic[{extras}]'`.",
        )
    return CheckResult("libraries", "ok", "all required libraries are installed")


def _program(name: str) -> CheckResult:
    try:
        path = binaries.find(name)
        if path is None:
            verdict: Literal["note", "missing"] = "note" if name == "amtool" else "missing"
            return CheckResult(
                name,
                verdict,
                "not found on PATH or among the downloaded programs",
                f"Run `fleetmedic doctor --fetch`, or {manual_fix()}",
            )
        start = binaries.command(name)
    except UserError as error:
        return CheckResult(name, "missing", "does not start", str(error))
    way = {"unshare": " in a mount namespace", "env": " with proot"}.get(start[0], "")
    return CheckResult(
        name, "ok", f"{binaries.version(path).partition(', version ')[2]}{way}, {path}"
    )


def _namespaces() -> CheckResult:
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    try:
        done = subprocess.run(
            ["unshare", flags, "true"], capture_output=True, timeout=10, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        done = 1
    if done == 0:
        return CheckResult("namespaces", "ok", f"`unshare {flags}` works")
    proot = shutil.which("proot") or (parts_dir() / "root/usr/bin/proot").is_file()
    return CheckResult(
        "namespaces",
        "note",
        f"`unshare {flags}` is not permitted",
        "" if proot else "A downloaded Alertmanager needs proot: run `fleetmedic doctor --fetch`.",
    )


def _ports(stack: StackLocation) -> CheckResult:
    base = stack.port_base
    plan = decide(StackOptions(state_dir=stack.state, port_base=base), gpus_found=False)
    try:
        running = StackFile.read(plan.state)
        if alive(running.supervisor):
            text = f"in use by the stack that runs in {plan.state}, from {running.port_base}"
            return CheckResult("ports", "ok", text)
    except UserError:
        pass  # the usual case: no stack was started there
    taken = {port: ports.port_user(port) for port in plan.ports.values() if not ports.is_free(port)}
    if not taken:
        return CheckResult("ports", "ok", f"all {len(plan.ports)} ports from {base} are free")
    who = "; ".join(f"{port}: {holder}" for port, holder in taken.items())
    return CheckResult(
        "ports", "note", f"in use: {who}", f"Use --port-base {ports.suggest(plan.ports)}."
    )


def _gpus() -> CheckResult:
    if has_gpus():
        return CheckResult(
            "gpus",
            "ok",
            "NVIDIA driver found: the stack uses the real GPUs at level observe; see `up --level`",
        )
    return CheckResult("gpus", "note", "no NVIDIA driver: the stack simulates 4 nodes of 8 GPUs")


def _disk(state: Path) -> CheckResult:
    folder = existing_parent(state)
    if not os.access(folder, os.W_OK):
        return CheckResult(
            "disk",
            "missing",
            f"{folder} is not writable",
            access_cure(folder),
        )
    if problem := too_small(state):
        cure = "Free disk space, or set FLEETMEDIC_HOME or --state-dir to another file system."
        return CheckResult("disk", "missing", problem, cure)
    return CheckResult("disk", "ok", f"{free_bytes(state) / 1e9:.1f} GB free for {state}")
