"""The kernel log is read as it grows, whatever it is kept in."""

import os
from pathlib import Path

import pytest

from exporter.kmsg import KmsgReader, Position, Record, parse


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("4,12,345,-;hello; world", Record(12, 345, "hello; world")),
        ("4,12,345,c,caller=T1;hello", Record(12, 345, "hello")),
        (" SUBSYSTEM=pci", None),
        ("hello", None),
        ("a,b,c,-;x", None),
        ("", None),
    ],
)
def test_a_record_is_parsed(line: str, record: Record | None) -> None:
    assert parse(line) == record


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;one\n4,2,2,-;tw")
    reader = KmsgReader(log)
    records, position = reader.read(Position())
    assert [r.text for r in records] == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    records, position = reader.read(position)
    assert [r.text for r in records] == ["two"]
    assert reader.read(position)[0] == []


def test_a_shortened_file_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;one\n4,2,2,-;two\n")
    reader = KmsgReader(log)
    _, position = reader.read(Position())
    log.write_text("4,3,3,-;three\n")
    assert [r.text for r in reader.read(position)[0]] == ["three"]


def test_a_fifo_is_read_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    reader = KmsgReader(fifo)
    assert reader.read(Position())[0] == []
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"4,1,1,-;one\n4,2,")
    assert [r.text for r in reader.read(Position())[0]] == ["one"]
    os.write(writer, b"2,-;two\njunk\n")
    assert [r.text for r in reader.read(Position())[0]] == ["two"]
    assert reader.malformed == 1
    os.close(writer)


def test_junk_is_counted_and_does_not_end_the_reading(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_bytes(b"\xff\xfe\n4,1,1,-;one\nnonsense\n continuation=1\n4,2,2,-;two\n")
    reader = KmsgReader(log)
    assert [r.text for r in reader.read(Position())[0]] == ["one", "two"]
    assert reader.malformed == 2


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KmsgReader(tmp_path / "none").read(Position())
