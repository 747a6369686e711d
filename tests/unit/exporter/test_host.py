"""Host metrics come from the proc file system that is given."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from exporter.boot import BootTime, ProcBoot
from exporter.collectors.host import Host


class Boot:
    def read(self) -> BootTime:
        return BootTime("b", 123.0)


@pytest.fixture
def procfs(tmp_path: Path) -> Iterator[Path]:
    before = psutil.PROCFS_PATH
    (tmp_path / "stat").write_text(
        "cpu  100 0 50 1000 7 0 0 0 0 0\ncpu0 100 0 50 1000 7 0 0 0 0 0\n"
        "intr 5 1 2\nctxt 77\nbtime 1000\nprocesses 9\nprocs_running 2\nprocs_blocked 3\n"
    )
    (tmp_path / "meminfo").write_text(
        "MemTotal:  1000 kB\nMemAvailable: 10 kB\nHugePages_Total: 0\n"
    )
    (tmp_path / "vmstat").write_text("oom_kill 4\npgmajfault 12\n")
    (tmp_path / "loadavg").write_text("0.10 0.20 0.30 1/2 3\n")
    boot_id = tmp_path / "sys" / "kernel" / "random"
    boot_id.mkdir(parents=True)
    (boot_id / "boot_id").write_text("abc\n")
    yield tmp_path
    psutil.PROCFS_PATH = before


def test_values_have_node_exporters_names_and_units(procfs: Path) -> None:
    found = {(s.name, s.labels): s.value for s in Host(procfs, Boot()).collect(500.0)}
    assert found["node_boot_time_seconds", ()] == 123.0
    assert found["node_memory_MemTotal_bytes", ()] == 1_024_000
    assert found["node_vmstat_oom_kill", ()] == 4
    assert found["node_procs_blocked", ()] == 3
    assert found["node_load5", ()] == 0.2
    assert found["node_cpu_seconds_total", ("0", "idle")] == pytest.approx(10.0)


def test_what_the_kernel_does_not_say_has_no_series(procfs: Path) -> None:
    (procfs / "vmstat").write_text("pgmajfault 12\n")
    names = {s.name for s in Host(procfs, Boot()).collect(500.0)}
    assert "node_vmstat_oom_kill" not in names
    assert "node_memory_SwapTotal_bytes" not in names


def test_the_boot_of_this_machine_is_read_from_procfs(procfs: Path) -> None:
    assert ProcBoot(procfs).read() == BootTime("abc", 1000.0)
