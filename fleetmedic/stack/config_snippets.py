"""Define `fleetmedic config snippets`, which prints configuration for an existing Prometheus and Alertmanager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import home

PARTS = ("scrape", "rules", "receiver")


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
    metavar="URL",
    default="http://127.0.0.1:9095",
    show_default=True,
    help="URL of the remediator.",
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
    rules_dir: Path | None,
    token_file: Path | None,
) -> None:
    """Print configuration to merge into prometheus.yml and alertmanager.yml.

    The output consists of three parts: scrape (scrape_configs), rules (rule_files) and receiver (the routes
    and receiver for the remediator).

    \b
    Examples:
      fleetmedic config snippets
      fleetmedic config snippets --part scrape --node gpu1=10.0.0.1:9410 --node gpu2=10.0.0.2:9410
      fleetmedic config snippets --part scrape --http-sd
      fleetmedic config snippets --part receiver --remediator http://remediator:9095
    """
    folder = rules_dir or home() / "rules"
    token = token_file or home() / "webhook.token"
    if http_sd and nodes:
        raise UserError(
            "--node and --http-sd are mutually exclusive. Add the node to the target list instead."
        )
    texts = {
        "scrape": _text(
            "prometheus.yml: the exporters in the remediator's target list, with the labels "
            "`cluster` and `node`"
            if http_sd
            else "prometheus.yml: one target for each machine with GPUs; only these targets set the "
            "labels `cluster` and `node`",
            scrape(
                cluster,
                discovered(remediator, token) if http_sd else named(cluster, nodes),
                remediator,
            ),
        ),
        "rules": _text(
            f"prometheus.yml: the rules. Render them with\n#   fleetmedic rules render --factor 1 "
            f"--runbook-base {remediator}/runbooks --out {folder}",
            rule_files(folder),
        ),
        "receiver": _text(
            "alertmanager.yml: put these routes first; because of `continue`, the alerts still reach "
            "your receivers. Create the token that Alertmanager and the remediator share with\n#   "
            f"(umask 077; openssl rand -hex 32 > {token})",
            receiver(remediator, token),
        ),
    }
    click.echo("\n".join(texts[name] for name in ([part] if part else PARTS)), nl=False)


def scrape(cluster: str, exporters: dict[str, Any], remediator: str) -> dict[str, Any]:
    """Return scrape_configs for the exporters (static or discovered) and the remediator."""
    own = {
        "targets": [remediator.partition("://")[2] or remediator],
        "labels": {"cluster": cluster},
    }
    return {
        "scrape_configs": [
            {"job_name": "node", "scrape_interval": "5s", **exporters},
            {"job_name": "remediator", "scrape_interval": "15s", "static_configs": [own]},
        ]
    }


def named(cluster: str, nodes: tuple[str, ...]) -> dict[str, Any]:
    """Return static_configs for exporters given as NAME=HOST:PORT. Raises UserError."""
    targets = []
    for entry in nodes or ("gpu-node-1=10.0.0.1:9410", "gpu-node-2=10.0.0.2:9410"):
        name, _, address = entry.partition("=")
        if not (
            name
            and address.rpartition(":")[0]
            and (port := address.rpartition(":")[2]).isascii()
            and port.isdigit()
        ):
            raise UserError(f"--node: expected NAME=HOST:PORT, got {entry[:80]!r}.")
        targets.append({"targets": [address], "labels": {"cluster": cluster, "node": name}})
    return {"static_configs": targets}


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
    """Return the Alertmanager routes to the remediator and its receiver."""
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
