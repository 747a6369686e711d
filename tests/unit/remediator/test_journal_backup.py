"""Backups of the journal are complete and checked, and are restored only where nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.kernel.errors import UserError
from remediator.cli import remediator
from remediator.core import events
from remediator.journal import Journal
from remediator.journal_backup import back_up, restore
from remediator.journal_reader import JournalReader
from remediator.journal_schema import lock
from tests.unit.remediator.core.examples import NOW


def _write(folder: Path, *counts: int) -> None:
    async def play() -> None:
        journal = Journal(folder, lambda event: None)
        await journal.append([events.reconciled(NOW, count, 0, 0) for count in counts])
        journal.close()

    asyncio.run(play())


def _counts(folder: Path) -> list[int]:
    return [event.data["firing"] for event in JournalReader(folder).replay()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three events."""
    _write(tmp_path / "data", 1, 2, 3)
    return tmp_path / "data"


def test_a_backup_is_made_while_the_remediator_writes_and_restored_elsewhere(
    data: Path, tmp_path: Path
) -> None:
    async def play() -> Path:
        journal = Journal(data, lambda event: None)
        await journal.append([events.reconciled(NOW, 4, 0, 0)])
        written = await asyncio.to_thread(back_up, data, tmp_path, NOW)
        await journal.append([events.reconciled(NOW, 5, 0, 0)])
        journal.close()
        return written

    written = asyncio.run(play())
    assert written == tmp_path / "journal-20231114T221320Z.db"
    assert written.stat().st_mode & 0o777 == 0o600
    assert restore(tmp_path / "other", written, force=False, now=NOW) is None
    assert _counts(tmp_path / "other") == [1, 2, 3, 4]
    assert _counts(data) == [1, 2, 3, 4, 5]
    _write(tmp_path / "other", 9)
    assert _counts(tmp_path / "other") == [1, 2, 3, 4, 9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", written.name, "other"]


def test_an_existing_journal_is_replaced_only_by_force_and_kept(data: Path, tmp_path: Path) -> None:
    backup = back_up(data, tmp_path / "b.db", NOW)
    _write(data, 4)
    with pytest.raises(
        UserError, match=r"a journal exists; specify another --data-dir, or .* --force"
    ):
        restore(data, backup, force=False, now=NOW)
    assert _counts(data) == [1, 2, 3, 4]
    kept = restore(data, backup, force=True, now=NOW)
    assert kept == data / "journal.db.replaced-20231114T221320Z"
    assert _counts(data) == [1, 2, 3]
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM events").fetchone() == (4,)
    with pytest.raises(UserError, match=r"replaced-.*: file exists"):
        restore(data, backup, force=True, now=NOW)
    assert _counts(data) == [1, 2, 3]


def test_nothing_is_restored_while_a_remediator_runs(data: Path, tmp_path: Path) -> None:
    backup = back_up(data, tmp_path / "b.db", NOW)
    held = lock(data)
    with pytest.raises(UserError, match="another remediator uses this data directory"):
        restore(data, backup, force=True, now=NOW)
    held.close()


def _break(backup: Path) -> None:
    content = bytearray(backup.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    backup.write_bytes(content)


@pytest.mark.parametrize("how", ["no journal", "damaged", "empty", "later", "other tables"])
def test_what_is_no_intact_journal_is_not_restored(data: Path, tmp_path: Path, how: str) -> None:
    backup = back_up(data, tmp_path / "b.db", NOW)
    if how == "no journal":
        backup.write_text("text, " * 1000)
    elif how == "empty":
        backup.write_bytes(b"")
    elif how == "damaged":
        _break(backup)
    else:
        statement = "UPDATE meta SET value = '9'" if how == "later" else "DROP TABLE meta"
        with closing(sqlite3.connect(backup)) as connection, connection:
            connection.execute(statement)
    with pytest.raises(UserError) as refusal:
        restore(data, backup, force=True, now=NOW)
    assert "\n" not in str(refusal.value)
    assert _counts(data) == [1, 2, 3], "the journal is untouched"
    assert not list(data.glob(".journal*")), "nothing is left behind"


def test_a_damaged_journal_is_replaced_by_force(data: Path, tmp_path: Path) -> None:
    backup = back_up(data, tmp_path / "b.db", NOW)
    (data / "journal.db").write_text("text, " * 1000)
    assert restore(data, backup, force=True, now=NOW) is not None
    assert _counts(data) == [1, 2, 3]


def test_a_damaged_journal_is_not_backed_up(data: Path, tmp_path: Path) -> None:
    _break(data / "journal.db")
    with pytest.raises(UserError):
        back_up(data, tmp_path / "b.db", NOW)
    assert not (tmp_path / "b.db").exists()


def test_a_backup_of_an_earlier_version_is_migrated(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    script = Path(__file__).parent / "journals" / "68695df.sql"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(script.read_text())
    restore(tmp_path / "data", old, force=False, now=NOW)
    _write(tmp_path / "data", 1)
    assert len(list(JournalReader(tmp_path / "data").replay())) > 60


def test_the_commands_say_what_they_did_in_one_line(data: Path, tmp_path: Path) -> None:
    runner = CliRunner()

    def run(*arguments: object) -> str:
        result = runner.invoke(remediator, [str(one) for one in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    target = tmp_path / "b.db"
    assert "b.db: " in run("backup", "--data-dir", data, target)
    assert "is restored from" in run("restore", "--data-dir", tmp_path / "new", target)
    assert "The replaced journal is" in run("restore", "--data-dir", data, target, "--force")
    for arguments, error in (
        (("backup", "--data-dir", data, target), "file exists"),
        (("backup", "--data-dir", tmp_path / "none", target), "no journal.db"),
        (("backup", "--data-dir", data, tmp_path / "no" / "b.db"), "cannot be written"),
        (("restore", "--data-dir", data, tmp_path / "none"), "file not found"),
        (
            ("restore", "--data-dir", data, data / "journal.db"),
            "is the journal of this data directory",
        ),
    ):
        with pytest.raises(UserError, match=error):
            run(*arguments)
