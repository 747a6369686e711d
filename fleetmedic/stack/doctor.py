"""`fleetmedic doctor`: what this machine has, lacks and could do."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import DEFAULT_PORT_BASE, StackFile, home, state_dir
from fleetmedic.stack import binaries, ports
from fleetmedic.stack.fetch import by_hand, fetch, lacking, parts_dir, unpacked
from fleetmedic.stack.identity import alive
from fleetmedic.stack.plan import StackOptions, decide, has_gpus

NEEDS_BYTES = 2_000_000_000
_LIBRARIES = {
    "psutil": "exporter", "numpy": "rules", "sklearn": "rules", "requests": "rules",
    "promql_parser": "rules", "starlette": "remediator", "uvicorn": "remediator",
    "httpx2": "remediator", "prometheus_client": "remediator", "jinja2": "remediator",
    "rich": "stack",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `lack` ends the doctor with 1, `note` does not; `cure` is what to do."""

    name: str
    verdict: Literal["ok", "lack", "note"]
    text: str
    cure: str = ""


@click.command()
@click.option(
    "--fetch", "get", is_flag=True, help="Download Prometheus and Alertmanager if missing."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.option(
    "--port-base",
    type=click.IntRange(1024, 65_000),
    default=DEFAULT_PORT_BASE,
    show_default=True,
    help="The ports to look at: Prometheus' one, the others follow it.",
)
@click.pass_context
def doctor(ctx: click.Context, get: bool, as_json: bool, port_base: int) -> None:
    """Say what this machine has, lacks and could do. Exit code 1 when something essential lacks.

    \b
    Examples:
      fleetmedic doctor
      fleetmedic doctor --fetch        download what is missing; nothing is installed
      fleetmedic doctor --json
    """
    if get and (lacking() or not _complete()):
        fetch(lambda text: click.echo(text, err=as_json))
    found = examine(port_base)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(one) for one in found]}, indent=1))
    else:
        for one in found:
            click.echo(f"{one.verdict:<5} {one.name:<13} {one.text}")
            if one.cure:
                click.echo(f"{'':<19} -> {one.cure}")
    ctx.exit(1 if any(one.verdict == "lack" for one in found) else 0)


def examine(port_base: int = DEFAULT_PORT_BASE) -> list[Finding]:
    """Look at everything; nothing is changed."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python, _libraries, lambda: _program("prometheus"), lambda: _program("promtool"),
        lambda: _program("alertmanager"), lambda: _program("amtool"), _namespaces,
        lambda: _ports(port_base), _gpus, _disk,
    )  # fmt: skip
    return [look() for look in looks]


def _complete() -> bool:
    needed = (name for name in binaries.NAMES if name not in binaries.COMPARED)
    return all(binaries.find(name) for name in needed)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    inside = "in a venv" if sys.prefix != sys.base_prefix else "outside a venv"
    return Finding("python", "ok", f"{version} {inside}, {sys.executable}")


def _libraries() -> Finding:
    missing = {
        name: extra for name, extra in _LIBRARIES.items() if not importlib.util.find_spec(name)
    }
    if missing:
        extras = ",".join(sorted(set(missing.values())))
        return Finding(
            "libraries",
            "lack",
            f"missing: {', '.join(missing)}",
            f"pip install 'fleetmedic[{extras}]'",
        )
    return Finding("libraries", "ok", "all that the stack's processes import")


def _program(name: str) -> Finding:
    try:
        path = binaries.find(name)
        if path is None:
            verdict: Literal["note", "lack"] = "note" if name == "amtool" else "lack"
            return Finding(
                name,
                verdict,
                "neither on PATH nor unpacked",
                f"run `fleetmedic doctor --fetch`, or {by_hand()}",
            )
        start = binaries.command(name)
    except UserError as error:
        return Finding(name, "lack", "does not start", str(error))
    way = {"unshare": " through a mount namespace", "env": " through proot"}.get(start[0], "")
    return Finding(name, "ok", f"{binaries.version(path).partition(', version ')[2]}{way}, {path}")


def _namespaces() -> Finding:
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    try:
        done = subprocess.run(
            ["unshare", flags, "true"], capture_output=True, timeout=10, check=False
        ).returncode  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        done = 1
    if done == 0:
        return Finding("namespaces", "ok", f"`unshare {flags}` works")
    proot = shutil.which("proot") or (parts_dir() / "root/usr/bin/proot").is_file()
    return Finding(
        "namespaces", "note", f"`unshare {flags}` is refused here",
        "" if proot else "an unpacked Alertmanager then needs proot: run `fleetmedic doctor --fetch`",
    )  # fmt: skip


def _ports(base: int) -> Finding:
    plan = decide(StackOptions(state_dir=state_dir(None, base), port_base=base), gpus_found=False)
    try:
        if alive(StackFile.read(plan.state).supervisor):
            return Finding(
                "ports", "ok", f"from {base}: held by the stack that runs in {plan.state}"
            )
    except UserError:
        pass  # no stack was started there: the usual case
    taken = {port: ports.holder(port) for port in plan.ports.values() if not ports.is_free(port)}
    if not taken:
        return Finding("ports", "ok", f"from {base}: all {len(plan.ports)} are free")
    who = "; ".join(f"{port}: {holder}" for port, holder in taken.items())
    return Finding("ports", "note", f"taken: {who}", f"use --port-base {ports.suggest(plan.ports)}")


def _gpus() -> Finding:
    if has_gpus():
        return Finding(
            "gpus",
            "ok",
            "NVIDIA's driver is here: real GPUs, the remediator only observes until --level says more",
        )
    return Finding(
        "gpus", "note", "no NVIDIA driver: the stack simulates 4 nodes of 8 GPUs, and says so"
    )


def _disk() -> Finding:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free for {home()}"
    if not os.access(folder, os.W_OK):
        return Finding(
            "disk",
            "lack",
            f"{folder} cannot be written",
            "set FLEETMEDIC_HOME to a folder of yours",
        )
    need = NEEDS_BYTES - (0 if not unpacked() else _size(parts_dir()))
    if free < need:
        return Finding(
            "disk",
            "lack",
            text,
            f"free {NEEDS_BYTES / 1e9:.0f} GB, or set FLEETMEDIC_HOME elsewhere",
        )
    return Finding("disk", "ok", text)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
