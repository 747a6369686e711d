"""`fleetmedic alertmanager`: its configuration, for your teams and channels."""

from __future__ import annotations

from pathlib import Path

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from fleetmedic.kernel.home import home
from fleetmedic.kernel.share import share


@click.group()
def alertmanager() -> None:
    """Alertmanager's configuration: who is told what, and by which channel.

    \b
    Example:
      fleetmedic alertmanager render --notifications notifications.yml --out alertmanager.yml
    """


@alertmanager.command()
@click.option("--notifications", type=click.Path(path_type=Path, dir_okay=False), help="Your teams and channels; without it the remediator alone is told.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write. [default: print it]")  # fmt: skip
@click.option("--for", "version", default="0.25", show_default=True, metavar="VERSION", help="Alertmanager that will read it: later ones send by Teams and WeChat Work themselves.")  # fmt: skip
@click.option("--remediator", default="http://127.0.0.1:9095", show_default=True, help="Its address.")  # fmt: skip
@click.option("--token-file", type=click.Path(path_type=Path), help="The remediator's bearer token, where Alertmanager sees it. [default: below fleetmedic's home]")  # fmt: skip
@click.option("--template-dir", type=click.Path(path_type=Path), help="Folder of fleetmedic.tmpl, where Alertmanager sees it. [default: the shipped one]")  # fmt: skip
def render(
    notifications: Path | None, out: Path | None, version: str, remediator: str,
    token_file: Path | None, template_dir: Path | None,
) -> None:  # fmt: skip
    """Write alertmanager.yml.

    Secrets stay in the files that NOTIFICATIONS names; none is in what is written. Where this
    Alertmanager cannot send by a channel, or only with a secret in its configuration, the remediator
    sends: give it the same file as `notify.file`.

    \b
    Examples:
      fleetmedic alertmanager render
      fleetmedic alertmanager render --notifications notifications.yml --for 0.33 --out alertmanager.yml
      amtool check-config alertmanager.yml
    """
    from fleetmedic.alerting import render as renderer
    from fleetmedic.alerting.settings import read

    if not remediator.startswith(("http://", "https://")):
        raise UserError(f"--remediator {remediator[:80]!r} is no URL: begin it with http://.")
    place = renderer.Place(
        remediator,
        str(token_file or home() / "webhook.token"),
        str(template_dir or share("alertmanager") / "templates"),
        renderer.parse_version(version),
    )
    text = renderer.render(place, read(notifications) if notifications else None)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(out, text)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}.") from None
    click.echo(str(out))
