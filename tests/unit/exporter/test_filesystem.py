"""A mount that does not respond does not affect the others."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.collectors import filesystem
from exporter.collectors.filesystem import MOUNTS_EXCLUDE, TYPES_EXCLUDE, Filesystem

MOUNTS = """/dev/sda1 / ext4 rw,relatime 0 0
server:/data /data nfs4 rw 0 0
proc /proc proc rw 0 0
overlay /var/lib/docker/x overlay rw 0 0
overlay /run/containerd/x/rootfs overlay rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
nonsense
"""
Stat = Callable[[str], os.statvfs_result]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "STAT_DEADLINE", 0.05)


@pytest.fixture
def free() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def collector(folder: Path, stat: Stat, *, rootfs: str = "/", mounts: str = MOUNTS) -> Filesystem:
    (folder / "1").mkdir(exist_ok=True)
    (folder / "1/mounts").write_text(mounts)
    patterns = (re.compile(MOUNTS_EXCLUDE), re.compile(TYPES_EXCLUDE))
    return Filesystem(folder, Path(rootfs), *patterns, stat)


def errors(collector: Filesystem) -> dict[str, float]:
    return {
        s.labels[2]: s.value
        for s in collector.collect(0.0)
        if s.name == "node_filesystem_device_error"
    }


def test_a_dead_network_mount_is_said_and_the_others_go_on(
    free: threading.Event, tmp_path: Path
) -> None:
    asked = []

    def stat(path: str) -> os.statvfs_result:
        asked.append(path)
        if path == "/data" and not free.is_set():
            free.wait(10)
        return os.statvfs("/")

    one = collector(tmp_path, stat)
    assert errors(one) == {"/": 0, "/data": 1, "/run": 0}
    errors(one)
    assert asked.count("/data") == 1, "a hung mount is not called again"
    stuck = one._stuck["/data"]
    free.set()
    stuck.join(2)
    assert errors(one) == {"/": 0, "/data": 0, "/run": 0}


def test_a_mount_that_answers_with_an_error_is_said(tmp_path: Path) -> None:
    def stat(path: str) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    assert errors(collector(tmp_path, stat)) == {"/": 1, "/data": 1, "/run": 1}


def test_paths_are_written_as_they_are(tmp_path: Path) -> None:
    mounts = "/dev/sdb1 /my\\040disk xfs rw 0 0\n"
    one = collector(tmp_path, lambda _: os.statvfs("/"), mounts=mounts)
    assert errors(one) == {"/my disk": 0}


def test_in_a_container_the_hosts_mounts_are_asked_below_the_root_that_is_given(
    tmp_path: Path,
) -> None:
    asked = []

    def stat(path: str) -> os.statvfs_result:
        asked.append(path)
        return os.statvfs("/")

    mounts = (
        "/dev/sda1 /host ext4 rw 0 0\n/dev/sdb1 /host/data xfs rw 0 0\nx /hostile ext4 rw 0 0\n"
    )
    assert errors(collector(tmp_path, stat, rootfs="/host", mounts=mounts)) == {"/": 0, "/data": 0}
    assert asked == ["/host/", "/host/data"]


def test_without_the_first_process_mounts_the_own_ones_are_read(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    one = collector(tmp_path, lambda _: os.statvfs("/"))
    (tmp_path / "1/mounts").rename(tmp_path / "self/mounts")
    assert set(errors(one)) == {"/", "/data", "/run"}
