"""Define the commands of `fleetmedic remediator`: serve, check, plan, targets, journal, backup, restore."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.logs import configure_logs
from fleetmedic.terminal.output import clean, legible
from fleetmedic.terminal.times import instant
from fleetmedic.wording.counts import counted
from remediator import journal_commands

LISTEN = "127.0.0.1:9095"
_config = click.option(
    "--config",
    "config",
    required=True,
    type=click.Path(path_type=Path),
    help="Path of remediator.yml.",
)
_data = click.option(
    "--data-dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Data directory, with the journal and the installation id.",
)


@click.group()
def remediator() -> None:
    """Run the remediator, and check its settings.

    The remediator receives alerts from Alertmanager. It quarantines, repairs and tests GPUs and nodes,
    and returns them to service.

    \b
    Examples:
      fleetmedic remediator serve --config remediator.yml --data-dir data
      fleetmedic remediator check --config remediator.yml
      fleetmedic remediator journal --data-dir data --json
      fleetmedic remediator backup --data-dir data /backups
    """


remediator.add_command(journal_commands.backup)
remediator.add_command(journal_commands.restore)


@remediator.command()
@_config
@click.option(
    "--web.listen-address",
    "listen",
    default=LISTEN,
    show_default=True,
    help="Listen address of the webhook and the API, HOST:PORT.",
)
@_data
@click.option(
    "--log.level",
    "level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Minimum level of log lines.",
)
@click.option(
    "--take-over",
    metavar="REASON",
    default=None,
    help="Take the cluster's lock from the remediator that holds it. The other remediator then takes no "
    "actions. REASON is recorded. Use this option once, then remove it from the command line.",
)
def serve(config: Path, listen: str, data_dir: Path, level: str, take_over: str | None) -> None:
    """Run the remediator until SIGTERM.

    The remediator receives alerts on its webhook, handles incidents and serves the HTTP API.

    \b
    Example:
      fleetmedic remediator serve --config remediator.yml --web.listen-address 127.0.0.1:9095 --data-dir data
    """
    from remediator import app
    from remediator.settings import load_settings

    host, port = _address(listen)
    configure_logs(level)
    if take_over is not None and not legible(take_over):
        raise UserError(
            "--take-over: a reason is required; the other remediator writes it to its log."
        )
    asyncio.run(app.serve(load_settings(config), data_dir, host, port, legible(take_over or "")))


@remediator.command()
@_config
def check(config: Path) -> None:
    """Check remediator.yml, the files that it names, and all playbooks.

    The command prints the playbooks and the alerts that they match.

    \b
    Example:
      fleetmedic remediator check --config remediator.yml
    """
    from fleetmedic.alerting.doubts import doubts
    from remediator.app import notifications
    from remediator.clusters.registry import open_cluster
    from remediator.credentials import key_named, read_credentials
    from remediator.discovery.hosts import read_hosts
    from remediator.playbook_library import load_library
    from remediator.settings import load_settings

    settings = load_settings(config)
    warnings = read_credentials(settings).warnings
    playbooks = load_library(settings.playbook_dirs, settings.factor)
    open_cluster(settings.adapter, settings.cluster, settings.adapter_settings, settings.where)
    with key_named(settings, "discovery.hosts"):
        hosts = read_hosts(settings.hosts, settings.cluster) if settings.hosts else ()
    given = notifications(settings)
    if settings.notifications:
        warnings += tuple(f"{settings.notifications}: {doubt}" for doubt in doubts(given))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if settings.prometheus_url is None and any(
        "metrics" in p.verify.tests for p in playbooks if p.ladder
    ):
        click.echo(
            "warning: prometheus_url is not set, so repairs cannot be verified by metrics.",
            err=True,
        )
    if not settings.webhooks:
        click.echo(
            "warning: notify.webhooks is empty, so the remediator only logs its notifications about "
            "incidents. Alertmanager still sends the alerts about the remediator.",
            err=True,
        )
    if hosts:
        click.echo(f"{settings.hosts}: valid, {counted(len(hosts), 'scrape target')}.")
    click.echo(f"{config}: valid. Level {settings.level}, {counted(len(playbooks), 'playbook')}:")
    for playbook in playbooks:
        names = ", ".join(playbook.alertnames) or "any alert"
        also = "".join(f", {key}={value}" for key, value in playbook.labels)
        click.echo(f"  {playbook.name}: {names}{also}")


@remediator.command()
@_config
@click.argument("payload", type=click.Path(path_type=Path))
def plan(config: Path, payload: Path) -> None:
    """Print the actions that the playbooks plan for an alert.

    PAYLOAD is a file with an Alertmanager webhook payload. The command changes nothing. It does not
    evaluate the safety checks (guards), and does not contact the cluster. It says which actions are left
    out because the configured cluster does not support them. To include the guards and
    the state of the cluster, run the remediator at level observe and use `fleetmedic why`.

    \b
    Example:
      fleetmedic remediator plan --config remediator.yml alert.json
    """
    from remediator.clusters.registry import open_cluster
    from remediator.explain import explain
    from remediator.payload import MAX_BODY, read_webhook
    from remediator.playbook_library import load_library
    from remediator.settings import load_settings

    settings = load_settings(config)
    try:
        body = payload.read_bytes()[: MAX_BODY + 1]
    except OSError as error:
        raise UserError(f"{payload}: cannot be read: {error.strerror}. Check the path.") from None
    try:
        alerts = read_webhook(body, time.time()).alerts
    except UserError as error:
        raise UserError(f"{payload}: {error}") from None
    playbooks = load_library(settings.playbook_dirs, settings.factor)
    there = open_cluster(
        settings.adapter, settings.cluster, settings.adapter_settings, settings.where
    )
    able = frozenset(map(str, there.capabilities))
    for alert in alerts:
        for sentence in explain(alert, playbooks, settings.level, settings.cluster, able):
            click.echo(clean(sentence))


@remediator.command()
@click.argument("hosts", type=click.Path(path_type=Path))
@click.option(
    "--cluster",
    default="local",
    show_default=True,
    help="Value of the label `cluster` for hosts without a cluster in the list.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Output file; a regular file is replaced atomically. [default: stdout]",
)
def targets(hosts: Path, cluster: str, out: Path | None) -> None:
    """Convert a target list to a file for file_sd_configs.

    HOSTS is the file with the target list. docs/discovery.md describes the format.

    \b
    Examples:
      fleetmedic remediator targets hosts.yml
      fleetmedic remediator targets hosts.yml --cluster prod --out /etc/prometheus/targets.json
    """
    from fleetmedic.kernel.files import write_output
    from remediator.discovery.hosts import document, read_hosts

    found = read_hosts(hosts, cluster)
    if out is None:
        click.echo(document(found), nl=False)
        return
    try:
        write_output(out, document(found))
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror}; specify another file with --out."
        ) from None
    click.echo(f"{out}: {counted(len(found), 'scrape target')}.")


@remediator.command()
@_data
@click.option("--json", "as_json", is_flag=True, help="JSON output, one event per line.")
@click.option(
    "-f", "--follow", is_flag=True, help="Print new events as they are written, until Ctrl-C."
)
def journal(data_dir: Path, as_json: bool, follow: bool) -> None:
    """Print the remediator's journal, oldest event first.

    You can run this command while the remediator is running.

    \b
    Examples:
      fleetmedic remediator journal --data-dir data
      fleetmedic remediator journal --data-dir data --json --follow
    """
    from remediator.journal_reader import JournalReader

    reader = JournalReader(data_dir)
    if not reader.path.exists() and not follow:
        raise UserError(f"{data_dir}: no journal.db in this directory; check --data-dir.")
    after = 0
    while True:
        for item in reader.lines(after=after, limit=10_000):
            after = item["seq"]
            click.echo(json.dumps(item, ensure_ascii=True) if as_json else _line(item))
        if len(reader.lines(after=after, limit=1)):
            continue
        if not follow:
            return
        time.sleep(0.2)


def _line(item: dict[str, object]) -> str:
    at = instant(float(str(item["at"])))
    text = f"{item['seq']:>6} {at} {item['event']:<14} {item['target'] or '-':<16} {item['text']}"
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise UserError(
            f"--web.listen-address: expected HOST:PORT, such as {LISTEN}, got {listen[:80]!r}."
        )
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - an empty host means all addresses
