"""Logs: rotated, bounded while their writer goes on, shown from the end."""

from __future__ import annotations

from pathlib import Path

from fleetmedic.stack.logs import bound_log, follow, last_lines, open_log, quoted_lines, rotate


def test_the_last_runs_log_is_kept_beside(tmp_path: Path) -> None:
    log = tmp_path / "rules.log"
    log.write_text("old\n")
    rotate(log)
    assert (tmp_path / "rules.log.1").read_text() == "old\n"
    assert not log.exists()
    rotate(log)


def test_a_log_grown_too_large_is_cut_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "rules.log"
    with open_log(log) as writer:
        writer.write(b"x" * 100)
        bound_log(log, limit=50)
        writer.write(b"on\n")
    assert log.read_bytes() == b"on\n"
    assert (tmp_path / "rules.log.1").read_bytes() == b"x" * 100


def test_the_last_lines_are_whole_and_cut_only_in_a_message_with_a_sign(tmp_path: Path) -> None:
    log = tmp_path / "rules.log"
    whole = [f"line {n} {'y' * 900}" for n in range(50)]
    log.write_text("\n".join(whole))
    assert last_lines(log, 3) == whole[-3:]
    quoted = quoted_lines(log, 3).splitlines()
    assert [line[:12] for line in quoted] == ["    line 47 ", "    line 48 ", "    line 49 "]
    assert {(len(line), line[-4:]) for line in quoted} == {(304, "y...")}
    assert last_lines(tmp_path / "none.log", 3) == []
    assert quoted_lines(tmp_path / "none.log", 3) == "    (nothing)"


def test_following_shows_only_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "rules.log"
    log.write_text("old\n")
    stream = follow(log, poll_seconds=0.01)
    with log.open("a") as writer:
        writer.write("")
    import threading

    threading.Timer(0.05, lambda: log.write_text("old\nnew\n")).start()
    assert "new" in next(stream)
