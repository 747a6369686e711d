"""A file written atomically is the old one or the new one, whatever ends the writer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fleetmedic.kernel.files import write_atomic, write_output


def test_writes_text_and_bytes_with_the_mode_asked_for(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "é", mode=0o600)
    assert (tmp_path / "a").read_bytes() == "é".encode()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    write_atomic(tmp_path / "a", b"\x00")
    assert (tmp_path / "a").read_bytes() == b"\x00"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_an_error_names_the_file_and_not_a_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_atomic(tmp_path / "missing" / "a", "x")
    assert error.value.filename == str(tmp_path / "missing" / "a")


def test_a_failure_leaves_the_old_content_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")

    def full(_handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_dies_before_the_rename_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")
    code = (
        "import os, sys, pathlib; from fleetmedic.kernel.files import write_atomic\n"
        "os.fsync = lambda _: os._exit(137)\n"
        "write_atomic(pathlib.Path(sys.argv[1]), 'new')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 137
    assert path.read_text() == "old"


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a"
    pages = ["a" * 200_000, "b" * 100_000]
    write_atomic(path, pages[0], sync=False)
    seen: set[str] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        write_atomic(path, pages[turn % 2], sync=False)
    done.set()
    reader.join()
    assert seen <= set(pages)


def test_a_missing_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_atomic(tmp_path / "gone" / "a", "x")


def test_an_output_file_is_written_through_symbolic_links_which_are_kept(tmp_path: Path) -> None:
    real = tmp_path / "real.yml"
    real.write_text("old")
    for name, target in (("link.yml", "real.yml"), ("second.yml", "link.yml")):
        (tmp_path / name).symlink_to(target)
        write_output(tmp_path / name, f"for {name}")
        assert (tmp_path / name).is_symlink()
        assert real.read_text() == f"for {name}"
    (tmp_path / "dangling").symlink_to("new.yml")
    write_output(tmp_path / "dangling", "x")
    assert (tmp_path / "new.yml").read_text() == "x"
    write_output(tmp_path / "plain.yml", "y")
    assert (tmp_path / "plain.yml").read_text() == "y"


def test_an_output_pipe_gets_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_output(pipe, "content")
    reader.join(10)
    assert read == ["content"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_of_the_kernel_to_an_open_file_is_written_without_a_new_file(tmp_path: Path) -> None:
    read, write = os.pipe()
    try:
        write_output(Path(f"/proc/self/fd/{write}"), "content")
        assert os.read(read, 100) == b"content"
    finally:
        os.close(read)
        os.close(write)
    with (tmp_path / "deleted").open("w+") as file:
        (tmp_path / "deleted").unlink()
        write_output(Path(f"/proc/self/fd/{file.fileno()}"), "content")
        assert file.read() == "content"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["folder", "loop", "gone/a"])
def test_an_output_path_that_cannot_be_written_is_an_oserror_and_stays(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match=name):
        write_output(tmp_path / name, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "loop"}
