"""Machine faults: changes of kernel files and of the results of two system calls."""

from __future__ import annotations

import time

from every_alert.fleet import LIGHT, Fleet
from every_alert.machine import PORTS
from every_alert.story import Story

COUNTERS = f"{PORTS}/mlx5_0/ports/1/counters"
NETWORK = "proc/1/net/dev"


def _yard(number: int, **labels: str) -> dict[str, str]:
    return {"cluster": "yard", "node": f"yard-{number}", **labels}


def _port_down(fleet: Fleet) -> None:
    fleet.machines["yard-1"].port("mlx5_1", "1: DOWN", "2: Polling")


def _link_flaps(fleet: Fleet) -> None:
    fleet.machines["yard-1"].add(f"{COUNTERS}/link_downed", 6)


def _link_errs(fleet: Fleet) -> None:
    fleet.each_beat(lambda: fleet.machines["yard-1"].add(f"{COUNTERS}/symbol_error", 1_000))


def _network_errs(fleet: Fleet) -> None:
    machine = fleet.machines["yard-1"]
    count = [0]

    def more() -> None:
        line = "  eth0: 68210035552 520993275    {}    2    1"
        now = f"{3 + count[0]}"
        count[0] += 500
        machine.replace(NETWORK, line.format(now), line.format(f"{3 + count[0]}"))

    fleet.each_beat(more)


def _clock_free(fleet: Fleet) -> None:
    fleet.machines["yard-1"].clock(5, 0, 16_000_000)


def _clock_off(fleet: Fleet) -> None:
    fleet.machines["yard-2"].clock(0, 90_000_000, 200_000)


def _full(fleet: Fleet) -> None:
    fleet.machines["yard-1"].filesystem("/data", free=20_000)


def _read_only(fleet: Fleet) -> None:
    fleet.machines["yard-2"].filesystem("/", free=600_000, readonly=True)


def _filling(fleet: Fleet) -> None:
    began = time.monotonic()

    def less() -> None:
        left = 0.38 * 0.992 ** (time.monotonic() - began)
        fleet.machines["yard-3"].filesystem("/data", free=int(1_000_000 * left))

    fleet.each_beat(less)


def _own_server_stalls(fleet: Fleet) -> None:
    fleet.machines["yard-1"].filesystem("/scratch", free=-1)


def _server_stalls(fleet: Fleet) -> None:
    for name in ("yard-1", "yard-2", "yard-3"):
        fleet.machines[name].filesystem("/home", free=-1)


def _disk_dies(fleet: Fleet) -> None:
    fleet.machines["yard-1"].write("sys/class/nvme/nvme1/state", "dead\n")


def _memory_short(fleet: Fleet) -> None:
    fleet.machines["yard-2"].field("proc/meminfo", "MemAvailable:", 100_000)


def _killed(fleet: Fleet) -> None:
    fleet.machines["yard-1"].raise_field("proc/vmstat", "oom_kill", 3)


def _blocked(fleet: Fleet) -> None:
    fleet.machines["yard-2"].field("proc/stat", "procs_blocked", 60)


def _unit_fails(fleet: Fleet) -> None:
    fleet.machines["yard-1"].unit("nvidia-fabricmanager.service", "failed")


def _kubelet_fails(fleet: Fleet) -> None:
    fleet.machines["yard-2"].unit("kubelet.service", "failed")


def _memory_errs(fleet: Fleet) -> None:
    fleet.machines["yard-3"].add("sys/devices/system/edac/mc/mc0/ue_count", 1)


def _memory_wears(fleet: Fleet) -> None:
    fleet.machines["yard-3"].add("sys/devices/system/edac/mc/mc0/ce_count", 400)


def _restarts(fleet: Fleet) -> None:
    fleet.machines["yard-3"].boot(time.time())


def _kernel_errs(fleet: Fleet) -> None:
    fleet.machines["yard-2"].log("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:4242]")


def _pcie_errs(fleet: Fleet) -> None:
    path = "sys/bus/pci/devices/0000:1b:00.0/aer_dev_fatal"
    fleet.machines["yard-1"].raise_field(path, "TOTAL_ERR_FATAL", 2)


def _module_missing(fleet: Fleet) -> None:
    folder = fleet.machines["yard-2"].root / "sys/module/nvidia_peermem"
    (folder / "initstate").unlink()
    folder.rmdir()


def _goes_dark(fleet: Fleet) -> None:
    fleet.processes.kill("shed-1")


def _many_go_dark(fleet: Fleet) -> None:
    for name, cluster in LIGHT.items():
        if cluster == "annex":
            fleet.processes.kill(name)


def _exporter_ends(fleet: Fleet) -> None:
    fleet.processes.kill("barn-1")


STORIES = (
    Story("An InfiniBand port of yard-1 goes down.", {"NodeInfinibandPortDown": _yard(1, device="mlx5_1")}, _port_down),
    Story("The link of an InfiniBand port of yard-1 goes down six times.", {"NodeInfinibandLinkFlapping": _yard(1, device="mlx5_0")}, _link_flaps),
    Story(
        "An InfiniBand port of yard-1 has 2,000 symbol errors per second.",
        {"NodeInfinibandErrorsHigh": _yard(1, device="mlx5_0")},
        _link_errs, factor=18,
    ),
    Story("The Ethernet interface of yard-1 has 1,000 errors per second.", {"NodeNetworkErrors": _yard(1, device="eth0")}, _network_errs),
    Story("The clock of yard-1 is no longer synchronised (NTP).", {"NodeClockNotSynchronised": _yard(1)}, _clock_free),
    Story("The clock of yard-2 is off by 90 ms.", {"NodeClockSkew": _yard(2)}, _clock_off),
    Story("/data of yard-1 is full except for 2 %.", {"NodeFilesystemAlmostFull": _yard(1, mountpoint="/data")}, _full),
    Story("The kernel of yard-2 remounts / read-only.", {"NodeFilesystemReadOnly": _yard(2, mountpoint="/")}, _read_only),
    Story(
        "/data of yard-3 fills up, by less than 1 % of its free space per second.",
        {"NodeFilesystemFillingUp": _yard(3, mountpoint="/data")},
        _filling, factor=180, slow=True,
    ),
    Story("A file server that only yard-1 mounts stops responding.", {"NodeNfsStalled": _yard(1, mountpoint="/scratch")}, _own_server_stalls),
    Story(
        "The file server of all three machines stops responding.",
        {"NfsServerStalled": {"cluster": "yard", "device": "nas:/home"}},
        _server_stalls,
    ),
    Story("An NVMe controller of yard-1 fails.", {"NodeDiskFailed": _yard(1, device="nvme1")}, _disk_dies),
    Story("yard-2 has 100 MB of memory left.", {"NodeMemoryPressure": _yard(2)}, _memory_short),
    Story("The OOM killer of yard-1 kills three processes.", {"NodeOomKill": _yard(1)}, _killed, fleeting=True),
    Story("Sixty processes of yard-2 are blocked by disk I/O.", {"NodeLoadHighBlocked": _yard(2)}, _blocked),
    Story(
        "The fabric manager of yard-1 fails.",
        {"NodeGpuServiceFailed": _yard(1, name="nvidia-fabricmanager.service")},
        _unit_fails, instead="`systemctl`: a script with the same output as the real program",
    ),
    Story(
        "The kubelet of yard-2 fails.",
        {"NodeKubeletDown": _yard(2)},
        _kubelet_fails, instead="`systemctl`: a script with the same output as the real program",
    ),
    Story("A memory controller of yard-3 has an uncorrectable error.", {"NodeHardwareMemoryErrors": _yard(3)}, _memory_errs, fleeting=True),
    Story("A memory controller of yard-3 corrects 400 errors.", {"NodeHardwareMemoryErrorsCorrected": _yard(3)}, _memory_wears),
    Story("yard-3 reboots without an announcement.", {"NodeRebootUnexpected": _yard(3)}, _restarts, fleeting=True, after=frozenset({"NodeLoadHighBlocked"})),
    Story("A CPU of yard-2 has a soft lockup of 22 s.", {"NodeKernelFault": _yard(2, event="soft_lockup")}, _kernel_errs, fleeting=True),
    Story("A GPU of yard-1 reports two fatal PCIe errors.", {"NodePcieErrors": _yard(1, device="0000:1b:00.0")}, _pcie_errs, fleeting=True),
    Story("yard-2 lacks the kernel module nvidia_peermem, which its peers have.", {"NodePeermemMissing": _yard(2)}, _module_missing),
    Story("shed-1 goes down.", {"NodeDown": {"cluster": "shed", "node": "shed-1"}}, _goes_dark),
    Story("Both machines of cluster annex go down at once.", {"NodeMassOutage": {"cluster": "annex"}}, _many_go_dark),
    Story(
        "The exporter of barn-1 exits, and its kubelet still reports the node as ready.",
        {"NodeExporterDown": {"cluster": "barn", "node": "barn-1"}},
        _exporter_ends, instead="kube-state-metrics: a page in its format",
    ),
)  # fmt: skip
