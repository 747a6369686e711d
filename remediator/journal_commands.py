"""Define the commands `fleetmedic remediator backup` and `restore`."""

from __future__ import annotations

import time
from pathlib import Path

import click

_data = click.option(
    "--data-dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Data directory of the remediator.",
)


@click.command()
@_data
@click.argument("target", type=click.Path(path_type=Path))
def backup(data_dir: Path, target: Path) -> None:
    """Back up the remediator's journal to TARGET.

    TARGET is a new file, or a directory, in which the command creates journal-TIME.db. You can run this
    command while the remediator is running. The command checks the integrity of the backup. The backup does
    not contain the installation id.

    \b
    Examples:
      fleetmedic remediator backup --data-dir data /backups
      fleetmedic remediator backup --data-dir data journal-before-update.db
    """
    from remediator.journal_backup import back_up

    written = back_up(data_dir, target, time.time())
    click.echo(f"{written}: {written.stat().st_size} bytes, integrity checked.")


@click.command()
@_data
@click.argument("backup_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--force",
    is_flag=True,
    help="Replace an existing journal. The replaced journal is kept as journal.db.replaced-TIME.",
)
def restore(data_dir: Path, backup_file: Path, force: bool) -> None:
    """Restore the remediator's journal from the backup FILE.

    Stop the remediator first. The command checks the integrity of the backup. A restored journal does not
    contain the orders that operators gave after the backup: start with `level: observe`, compare
    `fleetmedic incidents` with the hardware, repeat these orders, and then set the level again.

    \b
    Examples:
      fleetmedic remediator restore --data-dir data /backups/journal-20260102T030405Z.db
      fleetmedic remediator restore --data-dir data journal-before-update.db --force
    """
    from remediator.journal_backup import restore as restore_backup

    kept = restore_backup(data_dir, backup_file, force=force, now=time.time())
    click.echo(f"{data_dir}: the journal is restored from {backup_file}.")
    if kept is not None:
        click.echo(f"The replaced journal is {kept}.")
