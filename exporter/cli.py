"""`fleetmedic exporter`: flags as node_exporter spells them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

import click

from exporter.registry import COLLECTORS, Flag
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import home

F = TypeVar("F")
LEVELS = ("debug", "info", "warning", "error")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `:PORT` (all addresses) or `[::1]:PORT`. Raises UserError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise UserError(
            f"--web.listen-address={text[:80]!r} is no address: write HOST:PORT or :PORT."
        )
    return host, int(port)


def collector_flags(command: F) -> F:
    """Adds --collector.NAME and --no-collector.NAME for each collector, and the flags of its own."""
    for entry in reversed(list(COLLECTORS)):
        for flag in reversed(entry.flags):
            command = click.option(f"--{flag.name}", _key(flag.name), **_option(flag))(command)  # type: ignore[type-var]
        name = f"collector.{entry.name}"
        option = click.option(
            f"--{name}/--no-{name}",
            _key(name),
            default=entry.on,
            help=f"{entry.summary[:1].upper()}{entry.summary[1:]}.",
        )
        command = option(command)  # type: ignore[type-var]
    return command


def _key(name: str) -> str:
    return name.replace(".", "_").replace("-", "_")


def _option(flag: Flag) -> dict[str, Any]:
    """How click is told of a collector's flag."""
    shown: dict[str, Any] = {"help": flag.help, "show_default": flag.default is not None}
    if flag.type is bool:
        return shown | {"is_flag": True, "default": bool(flag.default), "show_default": False}
    kind = click.Path(path_type=Path) if flag.type is Path else flag.type
    return shown | {"type": kind, "default": flag.default, "multiple": flag.many}


def _between(flag: str, text: str, low: int, high: int) -> float:
    seconds = parse_duration(text)
    if not low <= seconds <= high:
        raise UserError(f"{flag}={text} is out of range: give {low}s to {high}s.")
    return seconds


def folder(path: Path | None, flag: str) -> Path | None:
    """The path of a folder that must be there. Raises UserError."""
    if path is not None and not path.is_dir():
        raise UserError(f"{flag} {path}: no such folder; check the path.")
    return path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--web.listen-address",
    "listen",
    default="127.0.0.1:9410",
    show_default=True,
    help="Address to serve on; :9410 means all addresses.",
)
@click.option(
    "--web.config.file",
    "web_config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TLS and users, in the format of the Prometheus exporter toolkit; read anew when it changes.",
)
@click.option(
    "--web.dcgm", "dcgm", is_flag=True, help="Also serve /metrics/dcgm, dcgm-exporter's names."
)
@click.option(
    "--path.procfs",
    "procfs",
    type=click.Path(path_type=Path),
    default="/proc",
    show_default=True,
    help="Where the proc file system is.",
)
@click.option(
    "--path.sysfs",
    "sysfs",
    type=click.Path(path_type=Path),
    default="/sys",
    show_default=True,
    help="Where the sys file system is.",
)
@click.option(
    "--path.kmsg",
    "kmsg",
    type=click.Path(path_type=Path),
    help="Kernel log: a device, FIFO or file.  [default: /dev/kmsg, or the simulated node's]",
)
@click.option(
    "--state.dir",
    "state_dir",
    type=click.Path(path_type=Path),
    help="Folder for what must survive a restart: known GPUs, XID counts.",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "nvml", "simulated"]),
    default="auto",
    show_default=True,
    help="Where GPU values come from.",
)
@click.option(
    "--hardware.dir",
    "hardware_dir",
    type=click.Path(path_type=Path),
    help="Folder of simulated machines.",
)
@click.option("--hardware.node", "node", help="This node's name there and in the embedded cluster.")
@click.option(
    "--cluster.dir",
    "cluster_dir",
    type=click.Path(path_type=Path),
    help="Folder of the embedded cluster's store, for who uses which GPU.",
)
@click.option(
    "--progress.dir",
    "progress_dir",
    type=click.Path(path_type=Path),
    help="Folder into which training jobs write their progress.",
)
@click.option(
    "--gpu.expected",
    "expected",
    type=click.IntRange(0, 1024),
    help="GPUs that this node should have.  [default: as many as were seen]",
)
@click.option(
    "--gpu.interval",
    "interval",
    default="5s",
    show_default=True,
    help="Time between two reads of load, clocks and temperature.",
)
@click.option(
    "--gpu.health-interval",
    "health_interval",
    default="10s",
    show_default=True,
    help="Time between two reads of ECC errors, row remaps and what the driver recommends.",
)
@click.option(
    "--log.level",
    "level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Least important events to log.",
)
@click.option("--once", is_flag=True, help="Print the page once and exit.")
@collector_flags
def exporter(listen: str, level: str, once: bool, interval: str, **given: Any) -> None:
    """Serve metrics of this node's GPUs, of its jobs and of the machine.

    \b
    Examples:
      fleetmedic exporter --web.listen-address=:9410
      fleetmedic exporter --once --no-collector.filesystem
      fleetmedic exporter --source=simulated --hardware.dir=DIR --hardware.node=node1
    """
    from exporter import app
    from fleetmedic.kernel.logs import configure_logs

    configure_logs(level)
    host, port = parse_address(listen)
    seconds = _between("--gpu.interval", interval, 1, 20)
    health_seconds = _between("--gpu.health-interval", given["health_interval"], 1, 300)
    without = {entry.name for entry in COLLECTORS if not given[_key(f"collector.{entry.name}")]}
    hardware_dir = folder(given["hardware_dir"], "--hardware.dir")
    settings = app.Settings(
        host=host,
        port=port,
        procfs=folder(given["procfs"], "--path.procfs") or Path("/proc"),
        sysfs=folder(given["sysfs"], "--path.sysfs") or Path("/sys"),
        kmsg=given["kmsg"],
        state_dir=(given["state_dir"] or home() / "exporter").absolute(),
        source=given["source"],
        hardware_dir=hardware_dir.absolute() if hardware_dir else None,
        node=given["node"],
        cluster_dir=given["cluster_dir"],
        progress_dir=given["progress_dir"],
        expected=given["expected"],
        interval=seconds,
        health_interval=health_seconds,
        without=frozenset(without),
        web_config=given["web_config"],
        dcgm=given["dcgm"],
        flags={flag.name: given[_key(flag.name)] for entry in COLLECTORS for flag in entry.flags},
    )
    if once:
        sys.stdout.buffer.write(app.once(settings))
    else:
        app.serve(settings)
