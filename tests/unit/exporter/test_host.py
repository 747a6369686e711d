"""The host collectors on a small tree of kernel files, with a golden file for each.

To update the golden files, run with FLEETMEDIC_RECORD=1, and review the diff before committing it.
tests/integration/test_exporter_beside_node_exporter.py checks that the names are those of node_exporter.
"""

import os
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.boot import BootTime, ProcBoot
from exporter.catalogue import catalogue
from exporter.collector import Collector, CollectorError
from exporter.collector_spec import CollectorContext, CollectorSpec
from exporter.collectors.cpu import Cpu
from exporter.collectors.processes import MAX_COMMANDS, Processes
from exporter.exposition import Renderer, Sample
from exporter.gpu_states import GpuStates
from exporter.host_collectors import HOST
from fleetmedic.kernel.errors import UserError

TREE = Path(__file__).parent / "host_tree"
GOLDEN = Path(__file__).parent / "golden" / "host"
# Collectors that query the running kernel and ignore the tree.
LIVE = {"filesystem", "systemd", "time", "timex", "uname"}
ENTRIES = [pytest.param(entry, id=entry.name) for entry in HOST]
READERS = [pytest.param(entry, id=entry.name) for entry in HOST if entry.name not in LIVE]


def parts(tree: Path, **flags: str) -> CollectorContext:
    defaults = {flag.name: flag.default for entry in HOST for flag in entry.flags}
    return CollectorContext(
        gpu_states=GpuStates(tree / "inventory.json", expected=None, intervals={}), intervals={}, boot=ProcBoot(tree / "proc"), procfs=tree / "proc",
        sysfs=tree / "sys", kmsg=tree, state_dir=tree, node="n", cluster_dir=None,
        progress_dir=None, has_gpus=False, log=print,
        flags={**defaults, "path.rootfs": tree / "root", **flags},
    )  # fmt: skip


def made(entry: CollectorSpec, tree: Path, **flags: str) -> Collector:
    collector = entry.make(parts(tree, **flags))
    assert collector is not None
    return collector


def page(samples: Iterable[Sample]) -> str:
    blocks = Renderer(catalogue()).render(samples)
    return "".join(f"# TYPE {b.family.name} {b.family.type}\n{b.lines}" for b in blocks)


def writable(folder: Path) -> Path:
    return Path(shutil.copytree(TREE, folder / "tree", symlinks=True))


def entry(name: str) -> CollectorSpec:
    return next(each for each in HOST if each.name == name)


def values(name: str, tree: Path, **flags: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(s.name, s.labels): s.value for s in made(entry(name), tree, **flags).collect(5.0)}


@pytest.mark.parametrize("entry", READERS)
def test_the_page_of_each_collector_is_the_one_on_record(entry: CollectorSpec) -> None:
    shown = page(made(entry, TREE).collect(1_800_000_000.0))
    path = GOLDEN / f"{entry.name}.txt"
    if os.environ.get("FLEETMEDIC_RECORD"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_collector_is_named_as_its_entry_and_gives_its_own_families_only(
    entry: CollectorSpec,
) -> None:
    collector = made(entry, TREE)
    assert collector.name == entry.name
    families = {catalogue().get(sample.name).collector for sample in collector.collect(5.0)}
    assert families <= {entry.name}


@pytest.mark.parametrize("entry", READERS)
def test_every_family_of_the_catalogue_is_in_the_tree(entry: CollectorSpec) -> None:
    given_ = {sample.name for sample in made(entry, TREE).collect(5.0)}
    assert given_ == {metric.name for metric in catalogue().of_collector(entry.name)}


@pytest.mark.parametrize(
    "name",
    [
        "cpu_throttles", "pressure", "nvme", "mdadm", "nfs", "bonding", "infiniband", "conntrack",
        "edac", "pci_aer", "netclass", "os",
    ],
)  # fmt: skip
def test_a_machine_without_the_thing_gives_no_data_and_no_failure(
    name: str, tmp_path: Path
) -> None:
    for folder in ("proc", "sys", "root"):
        (tmp_path / folder).mkdir()
    assert values(name, tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cpu", "stat"), ("stat", "stat"), ("loadavg", "loadavg"), ("meminfo", "meminfo"), ("vmstat", "vmstat"),
        ("pressure", "pressure/io"), ("filefd", "sys/fs/file-nr"), ("diskstats", "diskstats"),
        ("netdev", "1/net/dev"), ("nfs", "1/net/rpc/nfs"), ("softnet", "1/net/softnet_stat"),
        ("netstat", "1/net/snmp"), ("filesystem", "1/mounts"),
    ],
)  # fmt: skip
def test_garbage_in_the_file_is_said_with_its_name(name: str, file: str, tmp_path: Path) -> None:
    tree = writable(tmp_path)
    if name == "netstat":
        (tree / "proc/1/net/netstat").unlink()
    (tree / "proc" / file).write_text("\0\xff garbage\n")
    with pytest.raises(CollectorError, match=Path(file).name):
        values(name, tree)


@pytest.mark.parametrize("name", ["cpu", "loadavg", "meminfo", "diskstats", "netdev", "filefd"])
def test_a_file_that_is_not_there_is_said_with_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    with pytest.raises(CollectorError, match=r"cannot read .*/proc/.*: No such file"):
        values(name, tmp_path)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(garbage=st.binary(max_size=200), lines=st.integers(0, 4), data=st.data())
@pytest.mark.parametrize("entry", READERS)
def test_no_content_of_a_file_makes_a_collector_crash(
    entry: CollectorSpec,
    garbage: bytes,
    lines: int,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Lines of a real file followed by garbage result in fewer samples or an error, nothing else."""
    file = data.draw(st.sampled_from(files_of(entry.name)))
    tree = scratch(tmp_path_factory)
    target = tree / file.relative_to(TREE)
    whole = file.read_bytes()
    try:
        target.write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]) + garbage)
        page(made(entry, tree).collect(5.0))
    except CollectorError:
        pass
    finally:
        target.write_bytes(whole)


_SCRATCH: dict[str, Path] = {}


def scratch(factory: pytest.TempPathFactory) -> Path:
    """One copy of the tree; each example restores what it changes."""
    if "tree" not in _SCRATCH:
        _SCRATCH["tree"] = writable(factory.mktemp("host"))
    return _SCRATCH["tree"]


FILES = {
    "cpu": "proc/stat", "stat": "proc/stat", "loadavg": "proc/loadavg", "meminfo": "proc/meminfo",
    "vmstat": "proc/vmstat", "pressure": "proc/pressure/*", "processes": "proc/7*/stat",
    "filefd": "proc/sys/fs/file-nr", "diskstats": "proc/diskstats", "mdadm": "proc/mdstat",
    "nfs": "proc/1/net/rpc/nfs", "mountstats": "proc/1/mount*", "netdev": "proc/1/net/dev",
    "netstat": "proc/1/net/*t*", "softnet": "proc/1/net/softnet_stat",
    "conntrack": "proc/1/net/stat/*", "netclass": "sys/class/net/eth0/*",
    "bonding": "sys/class/net/bond*/*", "infiniband": "sys/class/infiniband/mlx5_0/**/*",
    "nvme": "sys/class/nvme/*/*", "edac": "sys/devices/system/edac/**/*",
    "pci_aer": "sys/bus/pci/devices/*/*", "kernel_modules": "sys/module/*/initstate",
    "cpu_throttles": "sys/devices/system/cpu/**/*", "os": "root/etc/os-release",
}  # fmt: skip


@cache
def files_of(name: str) -> list[Path]:
    found = sorted(path for path in TREE.glob(FILES[name]) if path.is_file())
    assert found, name
    return found


def test_processor_time_that_the_kernel_takes_back_is_not_shown_smaller(tmp_path: Path) -> None:
    line = "cpu0 100 0 50 {idle} {iowait} 0 0 0 0 0\n"
    collector = Cpu(tmp_path)

    def shown(idle: int, iowait: int) -> tuple[float, float]:
        (tmp_path / "stat").write_text(line.format(idle=idle, iowait=iowait))
        found = {s.labels[1]: s.value for s in collector.collect(0.0)}
        return found["idle"], found["iowait"]

    ticks = os.sysconf("SC_CLK_TCK")
    assert shown(1000, 70) == (1000 / ticks, 70 / ticks)
    assert shown(1010, 69) == (1010 / ticks, 70 / ticks), "the kernel's iowait can decrease"
    assert shown(1005, 71) == (1010 / ticks, 71 / ticks), (
        "the kernel's idle time can decrease slightly"
    )
    assert shown(5, 2) == (5 / ticks, 2 / ticks), "a CPU restarts its counters after a hotplug"


def test_the_boot_of_this_machine_is_read_from_procfs() -> None:
    boot = ProcBoot(TREE / "proc").read()
    assert boot == BootTime("5a1d0f0e-2f7c-4e7e-9d11-6b4c3f7a9e21", 1418183276.0)
    assert values("stat", TREE)["node_boot_time_seconds", ()] == boot.at


def test_tasks_that_wait_in_the_kernel_are_counted_by_command_and_bounded(tmp_path: Path) -> None:
    names = [f"job{n}" for n in range(MAX_COMMANDS + 5)] + ["nvidia-smi"] * 3
    for pid, name in enumerate(names, 1):
        (tmp_path / str(pid)).mkdir()
        fields = f"{pid} ({name}) D 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 1\n"
        (tmp_path / str(pid) / "stat").write_text(fields)
    found = {(s.name, s.labels): s.value for s in Processes(tmp_path).collect(0.0)}
    by_command = {k[1][0]: v for k, v in found.items() if k[0].endswith("uninterruptible")}
    assert by_command["nvidia-smi"] == 3
    assert len(by_command) == MAX_COMMANDS + 1
    assert sum(by_command.values()) == len(names) == found["node_processes_state", ("D",)]
    assert found["node_processes_threads", ()] == 2 * len(names)


def test_numbers_of_devices_are_bounded(tmp_path: Path) -> None:
    tree = writable(tmp_path)
    disks = "".join(f"8 {n} disk{n}x {'1 ' * 11}\n" for n in range(999))
    (tree / "proc/diskstats").write_text(disks)
    assert len({labels for _, labels in values("diskstats", tree)}) == 256
    interfaces = "".join(f"net{n}: {'1 ' * 16}\n" for n in range(999))
    (tree / "proc/1/net/dev").write_text(f"Inter-| Receive\n face\n{interfaces}")
    assert len({labels for _, labels in values("netdev", tree)}) == 256


def test_what_a_flag_leaves_out_has_no_series() -> None:
    found = values("netdev", TREE, **{"collector.netdev.device-exclude": "^(lo|veth.*)$"})
    assert {labels[0] for _, labels in found} == {"eth0", "ib0"}
    found = values("diskstats", TREE, **{"collector.diskstats.device-exclude": "^$"})
    assert ("sda1",) in {labels for _, labels in found}
    found = values("kernel_modules", TREE, **{"collector.kernel_modules.names": "nvidia-uvm, x"})
    assert {labels[0]: value for (_, labels), value in found.items()} == {"nvidia_uvm": 1, "x": 0}


@pytest.mark.parametrize(
    ("name", "flag", "value", "sentence"),
    [
        ("netdev", "collector.netdev.device-exclude", "(", "invalid regular expression"),
        ("systemd", "collector.systemd.unit-include", "*", "invalid regular expression"),
        ("kernel_modules", "collector.kernel_modules.names", "../etc", "expected module names"),
    ],
)
def test_a_flag_that_cannot_be_is_refused_in_a_sentence(
    name: str, flag: str, value: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        made(entry(name), TREE, **{flag: value})


def test_beside_node_exporter_one_flag_leaves_what_it_does_not_have() -> None:
    beside = parts(TREE, **{"collector.disable-host": "yes"})
    left = [made.name for entry in HOST if (made := entry.make(beside)) is not None]
    assert left == ["pci_aer", "kernel_modules"]


def test_the_clock_of_this_machine_is_asked_without_rights() -> None:
    """Where the call is forbidden, there is no data and no failure."""
    found = values("timex", TREE)
    assert found["node_time_clocksource_current_info", ("0", "tsc")] == 1
    assert found.get(("node_timex_tick_seconds", ()), 0.01) == pytest.approx(0.01, rel=0.2)
    assert found.get(("node_timex_maxerror_seconds", ()), 0) >= 0
