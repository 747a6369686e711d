"""A mount that does not answer costs itself alone."""

import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

import psutil
import pytest

from exporter.collectors import filesystem
from exporter.collectors.filesystem import Filesystem


class Mount(NamedTuple):
    device: str
    mountpoint: str
    fstype: str


MOUNTS = [
    Mount("/dev/sda1", "/", "ext4"),
    Mount("server:/data", "/data", "nfs4"),
    Mount("proc", "/proc", "proc"),
    Mount("overlay", "/var/lib/docker/x", "overlay"),
    Mount("tmpfs", "/run", "tmpfs"),
]


@pytest.fixture(autouse=True)
def mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: MOUNTS)  # noqa: A006
    monkeypatch.setattr(filesystem, "STAT_DEADLINE", 0.05)


@pytest.fixture
def free() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def errors(collector: Filesystem) -> dict[str, float]:
    return {
        s.labels[2]: s.value
        for s in collector.collect(0.0)
        if s.name == "node_filesystem_device_error"
    }


def test_a_dead_network_mount_is_said_and_the_others_go_on(free: threading.Event) -> None:
    asked = []

    def stat(path: str) -> os.statvfs_result:
        asked.append(path)
        if path == "/data" and not free.is_set():
            free.wait(10)
        return os.statvfs("/")

    collector = Filesystem(stat)
    assert errors(collector) == {"/": 0, "/data": 1, "/run": 0}
    errors(collector)
    assert asked.count("/data") == 1, "a stuck mount is not asked again"
    stuck = collector._stuck["/data"]
    free.set()
    stuck.join(2)
    assert errors(collector) == {"/": 0, "/data": 0, "/run": 0}


def test_a_mount_that_answers_with_an_error_is_said() -> None:
    def stat(path: str) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    assert errors(Filesystem(stat)) == {"/": 1, "/data": 1, "/run": 1}
