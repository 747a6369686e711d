"""Following the kernel log in a device, a FIFO or a file."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.xids import kmsg
from exporter.xids.kmsg import KmsgReader, KmsgRecord, Position, parse


def texts(reader: KmsgReader, position: Position = Position()) -> list[str]:  # noqa: B008
    return [record.text for record in reader.read(position).records]


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b"4,12,345,-;hello; world", KmsgRecord(12, 345, "hello; world")),
        (b"4,12,345,c,caller=T1;hello", KmsgRecord(12, 345, "hello")),
        (b"4,12,345,-;caf\xe9\x00", KmsgRecord(12, 345, "caf\ufffd\ufffd")),
        (b" SUBSYSTEM=pci", None),
        (b"hello", None),
        (b"a,b,c,-;x", None),
        (b"", None),
    ],
)
def test_a_record_is_parsed(line: bytes, record: KmsgRecord | None) -> None:
    assert parse(line) == record


@given(st.binary(max_size=200))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    parse(line)
    parse(b"4,1,1,-;" + line)


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;one\n4,2,2,-;tw")
    reader = KmsgReader(log)
    batch = reader.read(Position())
    assert [r.text for r in batch.records] == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    batch = reader.read(batch.position)
    assert [r.text for r in batch.records] == ["two"]
    assert reader.read(batch.position).records == []


def test_a_shortened_file_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;one\n4,2,2,-;two\n")
    reader = KmsgReader(log)
    position = reader.read(Position()).position
    log.write_text("4,3,3,-;three\n")
    assert texts(reader, position) == ["three"]


def test_a_file_that_was_cut_and_has_grown_beyond_the_old_place_is_read_from_its_start(
    tmp_path: Path,
) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;one\n")
    reader = KmsgReader(log)
    position = reader.read(Position()).position
    log.write_text("4,2,2,-;two which is longer\n4,3,3,-;three\n")
    assert texts(reader, position) == ["two which is longer", "three"]


def test_a_file_that_was_moved_away_is_read_to_its_end_first(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("4,1,1,-;one\n")
    reader = KmsgReader(log)
    position = reader.read(Position()).position
    with log.open("a") as file:
        file.write("4,2,2,-;two\n")
    log.rename(tmp_path / "kmsg.1")
    log.write_text("4,3,3,-;three\n")
    batch = reader.read(position)
    assert [r.text for r in batch.records] == ["two"]
    assert texts(reader, batch.position) == ["three"]


def test_a_line_without_an_end_is_skipped_once_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmsg, "MAX_BYTES", 100)
    monkeypatch.setattr(kmsg, "MAX_LINE", 40)
    log = tmp_path / "kmsg"
    log.write_bytes(b"4,1,1,-;one\n" + b"x" * 450 + b"\n4,2,2,-;two\n")
    reader, position, found, junk = KmsgReader(log), Position(), [], 0
    for _ in range(12):
        batch = reader.read(position)
        position = batch.position
        found += [r.text for r in batch.records]
        junk += batch.junk + sum(r.junk for r in batch.records)
    assert found == ["one", "two"]
    assert junk == 1


def test_a_fifo_is_read_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    reader = KmsgReader(fifo)
    assert texts(reader) == []
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"4,1,1,-;one\n4,2,")
    assert texts(reader) == ["one"]
    os.write(writer, b"2,-;two\njunk\n")
    assert texts(reader) == ["two"]
    assert reader.malformed == 1
    os.close(writer)


def test_a_fifo_is_opened_again_by_its_writers(tmp_path: Path) -> None:
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    reader = KmsgReader(fifo)
    reader.read(Position())
    found = []
    for number in range(3):
        writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, f"4,{number},1,-;line {number}\n".encode())
        os.close(writer)
        found += texts(reader)
    assert found == ["line 0", "line 1", "line 2"]


def test_half_a_line_of_a_writer_that_died_is_no_record(tmp_path: Path) -> None:
    """`Xid ...: 1` of `Xid ...: 119` would be another error."""
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    reader = KmsgReader(fifo)
    reader.read(Position())
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"4,1,1,-;NVRM: Xid (PCI:0000:41:00): 1")
    os.close(writer)
    batch = reader.read(Position())
    assert (batch.records, batch.junk) == ([], 1)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"4,2,2,-;two\n")
    assert texts(reader) == ["two"]
    os.close(writer)


def test_a_fifo_in_the_place_of_another_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    reader = KmsgReader(fifo)
    reader.read(Position())
    os.mkfifo(tmp_path / "new")
    (tmp_path / "new").rename(fifo)
    reader.read(Position())
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"4,1,1,-;one\n")
    assert texts(reader) == ["one"]
    os.close(writer)


def test_a_fifo_line_that_is_too_long_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmsg, "MAX_LINE", 100)
    fifo = tmp_path / "kmsg"
    os.mkfifo(fifo)
    reader = KmsgReader(fifo)
    reader.read(Position())
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    for _ in range(3):
        os.write(writer, b"x" * 150)
        reader.read(Position())
    os.write(writer, b"x\n4,1,1,-;one\n")
    assert texts(reader) == ["one"]
    assert reader.malformed == 1
    os.close(writer)


def test_junk_is_counted_where_it_stands_and_does_not_end_the_reading(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_bytes(
        b"\xff\xfe\n4,1,1,-;one\nnonsense\n continuation=1\n\0\0\n4,2,2,-;two\n"
        + b"y" * 70_000
        + b"\n"
    )
    reader = KmsgReader(log)
    batch = reader.read(Position())
    assert [(r.text, r.junk) for r in batch.records] == [("one", 1), ("two", 2)]
    assert batch.junk == 1
    assert reader.malformed == 4


class Device:
    """A fake /dev/kmsg: each read returns one record or an error."""

    def __init__(self, answers: list[bytes | int]) -> None:
        self.answers = answers

    def read(self, descriptor: int, size: int) -> bytes:
        answer = self.answers.pop(0) if self.answers else errno.EAGAIN
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer


def test_records_that_the_kernel_overwrote_do_not_end_the_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(
        [b"4,1,1,-;one\n KEY=x\n", errno.EPIPE, b"4,9,9,-;nine\n", errno.EINVAL, b"4,11,9,-;ten\n"]
    )
    reader = KmsgReader(Path("/dev/null"))
    monkeypatch.setattr(kmsg.os, "read", device.read)
    batch = reader.read(Position())
    assert [(r.sequence, r.junk) for r in batch.records] == [(1, 0), (9, 0), (11, 1)]
    assert batch.position == Position()


@pytest.mark.parametrize("failure", [errno.EIO, errno.ENODEV, errno.EPERM])
def test_a_log_that_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    device = Device([b"4,1,1,-;one\n", failure])
    monkeypatch.setattr(kmsg.os, "read", device.read)
    with pytest.raises(OSError, match=os.strerror(failure)):
        KmsgReader(Path("/dev/null")).read(Position())


def test_a_missing_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        KmsgReader(tmp_path / "none").read(Position())
