"""Logs: rotated, bounded while their writer goes on, shown from the end."""

from __future__ import annotations

from pathlib import Path

from fleetmedic.stack.logs import bound_log, follow, last_lines, open_log, rotate


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


def test_the_last_lines_are_few_and_short(tmp_path: Path) -> None:
    log = tmp_path / "rules.log"
    log.write_text("".join(f"line {n} {'y' * 400}\n" for n in range(50)))
    lines = last_lines(log, 3)
    assert len(lines) <= 3
    assert lines[-1].startswith("line 49")
    assert max(map(len, lines)) <= 300
    assert last_lines(tmp_path / "none.log", 3) == []


def test_following_shows_only_what_is_new(tmp_path: Path) -> None:
    log = tmp_path / "rules.log"
    log.write_text("old\n")
    stream = follow(log, poll_seconds=0.01)
    with log.open("a") as writer:
        writer.write("")
    import threading

    threading.Timer(0.05, lambda: log.write_text("old\nnew\n")).start()
    assert "new" in next(stream)
