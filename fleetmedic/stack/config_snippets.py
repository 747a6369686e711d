"""Define `fleetmedic config snippets`, which prints configuration for an existing Prometheus and Alertmanager."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import DEFAULT_PORT_BASE, home
from fleetmedic.stack.ports import HOST, OFFSETS
from fleetmedic.stack.scrape_jobs import PROCESSES, scrape_job

PARTS = ("scrape", "rules", "receiver")
# The scrape jobs that --target can change; --remediator changes the remaining one.
TARGETS = {
    job: f"{HOST}:{DEFAULT_PORT_BASE + OFFSETS[name]}"
    for job, name in PROCESSES.items()
    if job != "remediator"
}
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})"
_ADDRESS = re.compile(rf"{_HOST}:([0-9]{{1,5}})")
_URL = re.compile(rf"(https?)://({_HOST}(?::([0-9]{{1,5}}))?)/?")


@click.group()
def config() -> None:
    """Print configuration for your existing Prometheus and Alertmanager.

    \b
    Example:
      fleetmedic config snippets
    """


@config.command(short_help="Print parts of prometheus.yml and alertmanager.yml.")
@click.option("--part", type=click.Choice(PARTS), help="Part to print. [default: all parts]")
@click.option(
    "--cluster",
    default="main",
    show_default=True,
    help="Value of the label `cluster` of the scrape targets.",
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="Node name and address of an exporter. Can be repeated. [default: two example nodes]",
)
@click.option(
    "--http-sd",
    is_flag=True,
    help="Use HTTP service discovery from the remediator's target list instead of --node.",
)
@click.option(
    "--remediator",
    default="http://127.0.0.1:9095",
    show_default=True,
    metavar="URL",
    help="URL of the remediator, http://HOST:PORT.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="JOB=HOST:PORT",
    help=f"Address of the scrape target of JOB: `{'`, `'.join(list(TARGETS)[:-1])}` or `{list(TARGETS)[-1]}`. "
    "Can be repeated. [default: the ports of `fleetmedic up` on 127.0.0.1]",
)
@click.option(
    "--rules-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the rendered rules. [default: $FLEETMEDIC_HOME/rules]",
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the remediator's bearer token. [default: $FLEETMEDIC_HOME/webhook.token]",
)
def snippets(
    part: str | None,
    cluster: str,
    nodes: tuple[str, ...],
    http_sd: bool,
    remediator: str,
    targets: tuple[str, ...],
    rules_dir: Path | None,
    token_file: Path | None,
) -> None:
    """Print configuration to merge into prometheus.yml and alertmanager.yml.

    The output consists of three parts: scrape (scrape_configs), rules (rule_files) and receiver (the routes
    and receiver for the remediator). The scrape job `service` is for your inference service.

    \b
    Examples:
      fleetmedic config snippets
      fleetmedic config snippets --part scrape --node gpu1=10.0.0.1:9410 --node gpu2=10.0.0.2:9410
      fleetmedic config snippets --part scrape --http-sd
      fleetmedic config snippets --part scrape --target prometheus=10.0.0.5:9090 --target service=10.0.0.9:8000
      fleetmedic config snippets --part receiver --remediator http://remediator:9095
    """
    folder = rules_dir or home() / "rules"
    token = token_file or home() / "webhook.token"
    url = checked_url(remediator)
    if http_sd and nodes:
        raise UserError(
            "--node and --http-sd are mutually exclusive. Add the node to the target list instead."
        )
    exporters = discovered(url, token) if http_sd else named(cluster, nodes)
    exporters = {"job_name": "node", "scrape_interval": "5s", **exporters}
    source = "the remediator's target list" if http_sd else "one target for each machine with GPUs"
    texts = {
        "scrape": _text(
            f"prometheus.yml: the exporters ({source}), and the other scrape jobs that the\n# rules expect. "
            "Only exporters set the label `node`. Omit the jobs of processes that you do not run, and\n# merge a "
            "job with your own job of the same name.",
            {
                "scrape_configs": [
                    exporters,
                    *processes(cluster, url, dict(TARGETS) | given(targets)),
                ]
            },
        ),
        "rules": _text(
            "prometheus.yml: the rules. Render them with\n#   fleetmedic rules render --factor 1 "
            f"--runbook-base {url}/runbooks --dashboard-base {url} --out {folder}",
            rule_files(folder),
        ),
        "receiver": _text(
            "alertmanager.yml: put these routes first; because of `continue`, the alerts still reach "
            "your receivers. Create the token that Alertmanager and the remediator share with\n#   "
            f"(umask 077; openssl rand -hex 32 > {token})",
            receiver(url, token),
        ),
    }
    click.echo("\n".join(texts[name] for name in ([part] if part else PARTS)), nl=False)


def processes(cluster: str, remediator: str, targets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the scrape jobs of the remediator at its URL, and of the other processes at HOST:PORT."""
    scheme, _, address = remediator.partition("://")
    jobs = [scrape_job(job, targets.get(job, address), cluster) for job in PROCESSES]
    for job in jobs:
        if job["job_name"] == "remediator" and scheme == "https":
            job["scheme"] = scheme
    return [{**job, "scrape_interval": "15s"} for job in jobs]


def named(cluster: str, nodes: tuple[str, ...]) -> dict[str, Any]:
    """Return static_configs for exporters given as NAME=HOST:PORT. Raises UserError."""
    targets = []
    for entry in nodes or ("gpu-node-1=10.0.0.1:9410", "gpu-node-2=10.0.0.2:9410"):
        name, _, address = entry.partition("=")
        if not (name and _is_address(address)):
            raise UserError(f"--node: expected NAME=HOST:PORT, got {entry[:80]!r}.")
        targets.append({"targets": [address], "labels": {"cluster": cluster, "node": name}})
    return {"static_configs": targets}


def given(targets: tuple[str, ...]) -> dict[str, str]:
    """Return the address of each scrape job given as JOB=HOST:PORT. Raises UserError."""
    found = {}
    for entry in targets:
        job, _, address = entry.partition("=")
        if not (job in TARGETS and _is_address(address)):
            raise UserError(
                f"--target: expected JOB=HOST:PORT with a job of {', '.join(TARGETS)}, got {entry[:80]!r}."
            )
        found[job] = address
    return found


def checked_url(text: str) -> str:
    """Return the remediator's URL without a final slash. Raises UserError unless it is http://HOST:PORT."""
    match = _URL.fullmatch(text)
    if match is None or not _is_port(match[3]):
        raise UserError(f"--remediator: expected http://HOST:PORT, got {text[:80]!r}.")
    return f"{match[1]}://{match[2]}"


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    return match is not None and _is_port(match[1])


def _is_port(text: str | None) -> bool:
    return text is None or 1 <= int(text) <= 65_535


def discovered(remediator: str, token_file: Path) -> dict[str, Any]:
    """Return http_sd_configs for the remediator, with the token that it requires from other machines."""
    source = {
        "url": f"{remediator}/sd/targets",
        "refresh_interval": "15s",
        "authorization": {"type": "Bearer", "credentials_file": str(token_file)},
    }
    return {"http_sd_configs": [source]}


def rule_files(folder: Path) -> dict[str, Any]:
    """Return rule_files for the output of `fleetmedic rules render`."""
    return {"rule_files": [f"{folder}/static/*.yml"]}


def receiver(remediator: str, token_file: Path) -> dict[str, Any]:
    """Return the Alertmanager receiver for the remediator, and the routes to this receiver."""
    every = {
        "receiver": "fleetmedic",
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": "15s",
    }
    routes = [
        {**every, "matchers": ['alertname="Watchdog"'], "repeat_interval": "1m", "continue": True},
        {
            **every,
            "repeat_interval": "5m",
            "continue": True,
            "matchers": [
                'category=~"gpu|node|job|service|pipeline|capacity"',
                'source=~"static|detector"',
            ],
        },
    ]
    webhook = {
        "url": f"{remediator}/api/v1/alerts",
        "send_resolved": True,
        "max_alerts": 0,
        "http_config": {"authorization": {"type": "Bearer", "credentials_file": str(token_file)}},
    }
    return {
        "route": {"routes": routes},
        "receivers": [{"name": "fleetmedic", "webhook_configs": [webhook]}],
    }


def _text(about: str, part: dict[str, Any]) -> str:
    return f"# {about}\n{yaml.dump(part, Dumper=_WithoutAnchors, sort_keys=False)}"


class _WithoutAnchors(yaml.SafeDumper):
    """A YAML writer without anchors: it repeats equal values, because users copy parts of the output."""

    def ignore_aliases(self, data: object) -> bool:
        return True
