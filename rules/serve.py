"""The commands `fleetmedic rules serve` and `rules fit`: run the detectors as a service, or once."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import click
import structlog

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.logs import configure_logs
from fleetmedic.wording.counts import counted
from rules.settings import read_settings, require_folders

log = structlog.get_logger("rules")


def _one_thread() -> None:
    """Limit numpy to one thread, so that a fit does not load the whole machine.

    Must be called before numpy is imported, so the commands below import their modules locally.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or not 0 <= int(port) <= 65535:
        raise UserError(f"--web.listen-address: expected HOST:PORT, got {text[:80]!r}.")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host means all, as in Go


_CONFIG = click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Path of rules.yml.",
)


@click.command()
@_CONFIG
@click.option(
    "--web.listen-address",
    "listen",
    default="127.0.0.1:9096",
    show_default=True,
    help="Listen address of /metrics, /-/healthy and /-/ready, HOST:PORT.",
)
def serve(config: Path, listen: str) -> None:
    """Run the detectors until SIGTERM.

    The detectors generate rules from the history in Prometheus, load them, and export anomaly scores.

    \b
    Example:
      fleetmedic rules serve --config rules.yml --web.listen-address 127.0.0.1:9096
    """
    configure_logs()
    _one_thread()
    settings = read_settings(config)
    require_folders(settings, config)
    from rules.detector_results import serve_results
    from rules.detectors.registry import DETECTORS
    from rules.service import DetectorService

    service = DetectorService(settings, tuple(DETECTORS))
    serve_results(*_address(listen), service.results)
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        raise SystemExit(
            0
        )  # also interrupts a fit or a request; publish() restores the previous file

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("serving", address=listen, detectors=list(DETECTORS.names()))
    service.run(stopped)


@click.command()
@_CONFIG
def fit(config: Path) -> None:
    """Run the detectors once: generate rules from the history in Prometheus, and load them.

    The command prints the learned parameters. The exit code is 1 if a detector fails. Too little
    history is not a failure.

    \b
    Example:
      fleetmedic rules fit --config rules.yml
    """
    configure_logs("error")
    _one_thread()
    settings = read_settings(config)
    require_folders(settings, config)
    from rules.detectors.registry import DETECTORS
    from rules.history import Prometheus
    from rules.pipeline import DetectorPipeline

    pipeline = DetectorPipeline(settings, tuple(DETECTORS), Prometheus(settings.prometheus_url))
    outcomes = pipeline.run(time.time())
    for outcome in outcomes:
        click.echo(
            f"{outcome.detector}: {'ok' if outcome.ok else 'FAILED'}: {outcome.text}",
            err=not outcome.ok,
        )
        if outcome.model:
            facts = outcome.model.facts
            learned = ", ".join(f"{name} {value:g}" for name, value in facts.parameters.items())
            click.echo(
                f"  model {facts.digest} from {counted(facts.series, 'GPU')}: {learned}\n"
                f"  expected false alerts per day: {facts.expected_per_day:.2g}; alerts in the backtest "
                f"on this history: {facts.backtest_alerts}"
            )
    if not all(outcome.ok for outcome in outcomes):
        raise SystemExit(1)
