"""Small files of other programs: size limits, and regular files only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.owners import bounded


def test_a_file_is_read_up_to_its_bound_and_refused_beyond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert bounded.read(path, 10) == b"x" * 10
    with pytest.raises(OSError, match="larger than 9 bytes"):
        bounded.read(path, 9)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "device", "nothing"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    if kind == "link":
        (tmp_path / "file").touch()
        path.symlink_to("file")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # without a writer
    with pytest.raises(OSError):
        bounded.read(Path("/dev/zero") if kind == "device" else path, 10)


def test_a_folder_is_listed_up_to_its_bound_and_refused_beyond(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    assert sorted(bounded.names(tmp_path, 3)) == ["a", "b", "c"]
    with pytest.raises(OSError, match="more than 2 entries"):
        bounded.names(tmp_path, 2)


def test_what_cannot_be_looked_at_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert bounded.exists(tmp_path / "file")
    assert not bounded.exists(tmp_path / "none")
    assert not bounded.exists(tmp_path / "file" / "below")
    (tmp_path / "dangling").symlink_to("none")
    assert bounded.exists(tmp_path / "dangling")
    assert bounded.exists(tmp_path / ("x" * 300))  # the kernel reports another error
