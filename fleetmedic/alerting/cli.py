"""Define the command `fleetmedic alertmanager`, which renders Alertmanager's configuration."""

from __future__ import annotations

from pathlib import Path

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_output
from fleetmedic.kernel.home import home
from fleetmedic.kernel.share import share


@click.group()
def alertmanager() -> None:
    """Render Alertmanager's configuration: routes and receivers for your teams and channels.

    \b
    Example:
      fleetmedic alertmanager render --notifications notifications.yml --out alertmanager.yml
    """


@alertmanager.command()
@click.option(
    "--notifications",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Path of notifications.yml with your teams and channels. [default: the remediator is the only receiver]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Output file. [default: stdout]"
)
@click.option(
    "--for",
    "version",
    default="0.25",
    show_default=True,
    metavar="VERSION",
    help="Version of your Alertmanager. With versions before 0.28, the remediator sends the Teams messages "
    "itself; with versions before 0.33, also the WeChat Work messages.",
)
@click.option(
    "--remediator",
    metavar="URL",
    default="http://127.0.0.1:9095",
    show_default=True,
    help="URL of the remediator.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the remediator's bearer token, as a path on Alertmanager's machine. [default: $FLEETMEDIC_HOME/webhook.token]",
)
@click.option(
    "--template-dir",
    type=click.Path(path_type=Path),
    help="Directory of fleetmedic.tmpl, as a path on Alertmanager's machine. [default: the shipped directory]",
)
def render(
    notifications: Path | None,
    out: Path | None,
    version: str,
    remediator: str,
    token_file: Path | None,
    template_dir: Path | None,
) -> None:
    """Render alertmanager.yml from notifications.yml.

    The output contains no secrets, only the paths of the files with the secrets. If your Alertmanager
    does not support a channel, or would need the channel's secret in its configuration, the remediator
    sends the notifications for that channel. For this, set `notify.file` in remediator.yml to the path of
    the same notifications.yml.

    \b
    Examples:
      fleetmedic alertmanager render
      fleetmedic alertmanager render --notifications notifications.yml --for 0.33 --out alertmanager.yml
      amtool check-config alertmanager.yml
    """
    from fleetmedic.alerting import render as renderer
    from fleetmedic.alerting.doubts import doubts
    from fleetmedic.alerting.settings import read
    from fleetmedic.kernel.urls import check_public_url

    check_public_url(remediator, "--remediator")
    given = read(notifications) if notifications else None
    for doubt in doubts(given) if given else ():
        click.echo(f"warning: {notifications}: {doubt}", err=True)
    wanted = renderer.parse_version(version)
    if wanted > renderer.NEWEST:
        newest = ".".join(map(str, renderer.NEWEST))
        click.echo(
            f"warning: --for {version[:40]}: the newest tested version of Alertmanager is {newest}; check the "
            "output with `amtool check-config`.",
            err=True,
        )
    context = renderer.RenderContext(
        remediator,
        str(token_file or home() / "webhook.token"),
        str(template_dir or share("alertmanager") / "templates"),
        wanted,
    )
    text = renderer.render(context, given)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        write_output(out, text)
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot write the file ({error.strerror}). Choose another file."
        ) from None
    click.echo(str(out))
