"""`fleetmedic exporter`: flags as node_exporter spells them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

import click

from exporter.registry import COLLECTORS
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
    """Adds --collector.NAME and --no-collector.NAME for each collector."""
    for entry in reversed(list(COLLECTORS)):
        name = f"collector.{entry.name}"
        option = click.option(
            f"--{name}/--no-{name}",
            f"collector_{entry.name}",
            default=True,
            help=f"{entry.summary[:1].upper()}{entry.summary[1:]}.",
        )
        command = option(command)  # type: ignore[type-var]
    return command


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
    default="2s",
    show_default=True,
    help="Time between two reads of load, clocks and temperature.",
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
    seconds = parse_duration(interval)
    if not 1 <= seconds <= 20:
        raise UserError(f"--gpu.interval={interval} is out of range: give 1s to 20s.")
    without = {entry.name for entry in COLLECTORS if not given[f"collector_{entry.name}"]}
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
        without=frozenset(without),
    )
    if once:
        sys.stdout.buffer.write(app.once(settings))
    else:
        app.serve(settings)
