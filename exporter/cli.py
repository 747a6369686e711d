"""The command `fleetmedic exporter`. Its flags follow the style of node_exporter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from exporter.help_sections import SWITCH_KEYS, Sectioned, key
from exporter.registry import COLLECTORS, Flag
from exporter.web.listen import WebSettings, parse_address, parse_path
from exporter.web.server import MAX_REQUESTS
from fleetmedic import __version__
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import home
from fleetmedic.terminal.numbers import IntegerRange

F = TypeVar("F")
DEFAULT_ADDRESS = "127.0.0.1:9410"
LEVELS = ("debug", "info", "warning", "error")


def collector_flags(command: F) -> F:
    """Add --collector.NAME, --no-collector.NAME and the collector's own flags for each collector."""
    for entry in reversed(list(COLLECTORS)):
        for flag in reversed(entry.flags):
            command = click.option(f"--{flag.name}", key(flag.name), **_option_parameters(flag))(
                command
            )  # type: ignore[type-var]
        name = f"collector.{entry.name}"
        option = click.option(
            f"--{name}/--no-{name}",
            key(name),
            default=entry.on,
            help=f"{entry.summary[:1].upper()}{entry.summary[1:]}.",
        )
        command = option(command)  # type: ignore[type-var]
    return command


def _disabled(ctx: click.Context, given: dict[str, Any]) -> frozenset[str]:
    """Return the names of the collectors that the flags disable.

    With --collector.disable-defaults, each collector is disabled unless its flag enables it.
    """
    named = {
        key: ctx.get_parameter_source(key) is not ParameterSource.DEFAULT for key in SWITCH_KEYS
    }
    only_named = given["disable_defaults"]
    return frozenset(
        entry.name
        for key, entry in SWITCH_KEYS.items()
        if not given[key] or (only_named and not named[key])
    )


def _option_parameters(flag: Flag) -> dict[str, Any]:
    """Return the parameters of the click option for a collector's flag."""
    shown: dict[str, Any] = {"help": flag.help, "show_default": flag.default is not None}
    if flag.type is bool:
        return shown | {"is_flag": True, "default": bool(flag.default), "show_default": False}
    kind = click.Path(path_type=Path) if flag.type is Path else flag.type
    return shown | {"type": kind, "default": flag.default, "multiple": flag.many}


def _between(flag: str, text: str, low: int, high: int) -> float:
    try:
        seconds = parse_duration(text)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    if not low <= seconds <= high:
        raise UserError(f"{flag}={text} is out of range: expected {low}s to {high}s.")
    return seconds


def folder(path: Path | None, flag: str) -> Path | None:
    """Return the path. Raises UserError if it is not a directory."""
    if path is not None and not path.is_dir():
        raise UserError(f"{flag} {path}: no such directory; check the path.")
    return path


def _web(given: dict[str, Any]) -> WebSettings:
    return WebSettings(
        addresses=tuple(map(parse_address, given["listen"] or (DEFAULT_ADDRESS,))),
        config=given["web_config"],
        token=given["release_token"],
        metrics_path=parse_path(given["telemetry_path"]),
        max_requests=given["max_requests"],
        dcgm=given["dcgm"],
    )


@click.command(
    cls=Sectioned,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--web.listen-address",
    "listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Listen address; :9410 means all interfaces. Can be repeated.  [default: 127.0.0.1:9410]",
)
@click.option(
    "--web.config.file",
    "web_config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with TLS, users and headers, in the format of the Prometheus exporter toolkit. The exporter "
    "reloads the file when it changes.",
)
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    metavar="PATH",
    show_default=True,
    help="URL path of the metrics.",
)
@click.option(
    "--web.max-requests",
    "max_requests",
    type=IntegerRange(1, 10_000),
    default=MAX_REQUESTS,
    show_default=True,
    help="Maximum number of concurrent connections. Further connections get status 503.",
)
@click.option(
    "--web.dcgm",
    "dcgm",
    is_flag=True,
    help="Also serve /metrics/dcgm, with the metric names and units of dcgm-exporter.",
)
@click.option(
    "--web.release-token-file",
    "release_token",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with the bearer token for POST /-/release. On this request, the exporter closes its open "
    "GPU device files, so that a GPU can be reset.",
)
@click.option(
    "--path.procfs",
    "procfs",
    type=click.Path(path_type=Path),
    default="/proc",
    show_default=True,
    help="Mount point of the proc file system.",
)
@click.option(
    "--path.sysfs",
    "sysfs",
    type=click.Path(path_type=Path),
    default="/sys",
    show_default=True,
    help="Mount point of the sys file system.",
)
@click.option(
    "--path.kmsg",
    "kmsg",
    type=click.Path(path_type=Path),
    help="Kernel log: a device, FIFO or file.  [default: /dev/kmsg, or the log of the simulated node]",
)
@click.option(
    "--state.dir",
    "state_dir",
    type=click.Path(path_type=Path),
    help="State directory: known GPUs and XID counts.  [default: $FLEETMEDIC_HOME/exporter]",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "nvml", "simulated"]),
    default="auto",
    show_default=True,
    help="Source of the GPU metrics. `auto` uses NVML if its library loads, otherwise --hardware.dir if it is "
    "set.",
)
@click.option(
    "--hardware.dir",
    "hardware_dir",
    type=click.Path(path_type=Path),
    help="Directory of the simulated nodes, required for --source=simulated.",
)
@click.option(
    "--hardware.node",
    "node",
    help="Name of this node in --hardware.dir and in the embedded cluster.",
)
@click.option(
    "--cluster.dir",
    "cluster_dir",
    type=click.Path(path_type=Path),
    help="Directory of the embedded cluster, from which the exporter reads the job of each GPU.",
)
@click.option(
    "--progress.dir",
    "progress_dir",
    type=click.Path(path_type=Path),
    help="Directory in which jobs, pipelines and servers write their progress reports.",
)
@click.option(
    "--gpu.expected",
    "expected",
    type=IntegerRange(0, 1024),
    help="Expected number of GPUs on this node.  [default: the number of distinct GPUs seen so far]",
)
@click.option(
    "--gpu.interval",
    "interval",
    default="5s",
    show_default=True,
    help="Read interval of load, clocks and temperature, 1s to 20s.",
)
@click.option(
    "--gpu.health-interval",
    "health_interval",
    default="10s",
    show_default=True,
    help="Read interval of ECC errors, row remaps and the driver's recommended action, 1s to 300s.",
)
@click.option(
    "--log.level",
    "level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Minimum level of log lines.",
)
@click.option("--once", is_flag=True, help="Print the metrics once, and exit.")
@click.option(
    "--check-config",
    is_flag=True,
    help="Check the flags and the files that they name, and exit. The exit code is 0 if all are valid, "
    "otherwise 2.",
)
@click.version_option(__version__, message="fleetmedic exporter %(version)s")
@click.option(
    "--collector.disable-defaults",
    "disable_defaults",
    is_flag=True,
    help="Disable all collectors. Use --collector.NAME to enable individual collectors.",
)
@collector_flags
@click.pass_context
def exporter(
    ctx: click.Context, /, level: str, once: bool, check_config: bool, interval: str, **given: Any
) -> None:
    """Serve Prometheus metrics of this node's GPUs, jobs and host.

    \b
    Examples:
      fleetmedic exporter --web.listen-address=:9410
      fleetmedic exporter --web.listen-address=:9410 --web.config.file=/etc/fleetmedic/web.yml
      fleetmedic exporter --collector.disable-defaults --collector.gpu_load --collector.xid
      fleetmedic exporter --once --no-collector.filesystem
      fleetmedic exporter --source=simulated --hardware.dir=DIR --hardware.node=node1
    """
    from exporter import app
    from exporter.log import configure

    configure(level)
    seconds = _between("--gpu.interval", interval, 1, 20)
    health_seconds = _between("--gpu.health-interval", given["health_interval"], 1, 300)
    hardware_dir = folder(given["hardware_dir"], "--hardware.dir")
    settings = app.ExporterSettings(
        web=_web(given),
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
        without=_disabled(ctx, given),
        flags={flag.name: given[key(flag.name)] for entry in COLLECTORS for flag in entry.flags},
    )
    if check_config:
        app.check(settings)
        click.echo("The flags and the files that they name are valid.")
    elif once:
        sys.stdout.buffer.write(app.once(settings))
    else:
        app.serve(settings)
