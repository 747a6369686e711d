"""A full disk and missing access rights are one sentence with a cure."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from fleetmedic.terminal.disk_errors import explain, unusable, user_name


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "cannot use /a/b: no space left. Free disk space"),
        (errno.EDQUOT, "cannot use /a/b: the disk quota is exceeded. Free disk space"),
        (errno.EACCES, "cannot use /a/b: permission denied. "),
        (errno.EROFS, "cannot use /a/b: the file system is read-only."),
    ],
)
def test_the_sentence_names_the_file_and_the_cure(code: int, words: str) -> None:
    sentence = explain(OSError(code, os.strerror(code), "/a/b"))
    assert sentence is not None
    assert sentence.startswith(words)
    assert sentence.endswith("hoose another directory with --state-dir or FLEETMEDIC_HOME.")


def test_without_access_the_owner_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    denied = OSError(errno.EACCES, "", str(tmp_path))
    below = OSError(errno.EACCES, "", str(tmp_path / "a" / "b"))
    assert f"Check the permissions of {tmp_path}," in str(explain(denied))
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert f"Run the command as {user_name(me)}, its owner," in str(explain(denied))
    assert f"Run the command as {user_name(me)}, the owner of {tmp_path}," in str(explain(below))
    assert user_name(4_000_000_000) == "user id 4000000000"


def test_the_path_is_named_though_the_error_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a"
    readonly = sqlite3.OperationalError("attempt to write a readonly database")
    readonly.sqlite_errorcode = sqlite3.SQLITE_READONLY
    assert str(explain(readonly, path)).startswith(f"cannot use {path}: permission denied. ")
    assert str(explain(readonly)).startswith("cannot use a database of the stack: permission")
    folder = str(unusable(path, OSError(errno.ENOTDIR, "Not a directory")))
    assert folder.startswith(f"cannot use {path}: Not a directory. Choose another directory")


def test_a_database_that_cannot_be_opened_or_has_no_space_left_is_explained(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError) as found:
        sqlite3.connect(tmp_path / "missing" / "a.db")
    assert "missing, or permission is denied" in str(explain(found.value))
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("CREATE TABLE t (a)")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as found:
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")
    database.close()
    assert "no space left" in str(explain(found.value))


def test_a_locked_database_is_explained(tmp_path: Path) -> None:
    first = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    first.execute("BEGIN EXCLUSIVE")
    second = sqlite3.connect(tmp_path / "a.db", timeout=0)
    with pytest.raises(sqlite3.OperationalError) as found:
        second.execute("SELECT * FROM sqlite_master")
    for one in (second, first):
        one.close()
    assert "is locked by another process. Try again" in str(explain(found.value))


@pytest.mark.parametrize("error", [OSError(errno.ECONNREFUSED, "refused"), ValueError("x")])
def test_other_errors_are_not_explained_as_errors_of_the_disk(error: Exception) -> None:
    assert explain(error) is None
