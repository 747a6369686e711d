"""GPU faults: each is a change in the folder of the simulated hardware."""

from __future__ import annotations

from functools import partial

from every_alert.fleet import Fleet
from every_alert.story import Story
from fleetmedic.hardware.faults import inject

MEMORY, ASKING, LINKS, XIDS, ECC, LOST, GONE, HUNG = range(8)  # GPUs of hall-1
SLOW, HOT, BRAKED = range(3)  # of hall-2, where all four work
STORM = 5  # XIDs every half second


def _hall(gpu: int, node: str = "hall-1") -> dict[str, str]:
    return {"cluster": "hall", "node": node, "gpu": str(gpu)}


def _memory_fails(fleet: Fleet) -> None:
    fleet.hall.change(
        "node1", MEMORY, sram_exceeded=True, banks_exhausted=2, remap_pending=True, remap_failure=True,
        retired_pages=3, pages_pending=True,
    )  # fmt: skip


def _memory_wears_out(fleet: Fleet) -> None:
    fleet.hall.change("node1", MEMORY, ecc_corrected=5_000)


def _asks_for_a_reset(fleet: Fleet) -> None:
    fleet.hall.change("node1", ASKING, recovery=1)


def _links_go(fleet: Fleet) -> None:
    fleet.hall.change("node1", LINKS, fabric_unhealthy=True, links_down=0b11, pcie_width=8)


def _nvlink_errs(fleet: Fleet) -> None:
    def more() -> None:
        count = fleet.hall.gpu("node1", LINKS).link_errors
        fleet.hall.change("node1", LINKS, link_errors=count + 200)

    fleet.each_beat(more)


def _pcie_errs(fleet: Fleet) -> None:
    def more() -> None:
        count = fleet.hall.gpu("node1", LINKS).pcie_replays
        fleet.hall.change("node1", LINKS, pcie_replays=count + 20)

    fleet.each_beat(more)


def _storm(fleet: Fleet) -> None:
    fleet.each_beat(partial(inject, fleet.hall, "node1", XIDS, "xid", xid=31, count=STORM))


def _contained(fleet: Fleet) -> None:
    inject(fleet.hall, "node1", ECC, "xid", xid=94)


def _uncorrectable(fleet: Fleet) -> None:
    inject(fleet.hall, "node1", ECC, "ecc")


def _lost(fleet: Fleet) -> None:
    for gpu in (LOST, GONE):
        inject(fleet.hall, "node1", gpu, "lost")


def _hung(fleet: Fleet) -> None:
    inject(fleet.hall, "node1", HUNG, "hang")


def _slow(fleet: Fleet) -> None:
    inject(fleet.hall, "node2", SLOW, "slow", speed=0.5)


def _hot(fleet: Fleet) -> None:
    inject(fleet.hall, "node2", HOT, "hot")


def _braked(fleet: Fleet) -> None:
    fleet.hall.change("node2", BRAKED, power_brake=True, software_slowdown=True)


STORIES = (
    Story(
        "The driver reports every kind of memory fault for a GPU of hall-1.",
        {
            "GpuSramEccThresholdExceeded": _hall(MEMORY), "GpuRowRemapBanksExhausted": _hall(MEMORY),
            "GpuRowRemapPending": _hall(MEMORY), "GpuRowRemapFailure": _hall(MEMORY),
            "GpuRetiredPagesPending": _hall(MEMORY),
        },
        _memory_fails,
    ),
    Story(
        "A GPU of hall-1 corrects 5,000 memory errors.",
        {"GpuEccCorrectableRateHigh": _hall(MEMORY)},
        _memory_wears_out, factor=720,
    ),
    Story(
        "The driver requests a reset of a GPU of hall-1, without an XID or another cause.",
        {"GpuRecoveryActionNeeded": _hall(ASKING)},
        _asks_for_a_reset,
    ),
    Story(
        "A GPU of hall-1 loses two NVLinks, half of its PCIe lanes and its fabric connection.",
        {
            "GpuFabricUnhealthy": {"node": "hall-1"}, "GpuNvlinkDown": _hall(LINKS),
            "GpuPcieLinkDowngraded": _hall(LINKS),
        },
        _links_go,
    ),
    Story(
        "An NVLink of hall-1 has 400 errors per second.",
        {"GpuNvlinkErrorsHigh": _hall(LINKS)},
        _nvlink_errs, factor=18,
    ),
    Story(
        "A PCIe link of hall-1 has 40 replays per second.",
        {"GpuPcieReplayRateHigh": _hall(LINKS)},
        _pcie_errs, factor=18, slow=True,
    ),
    Story(
        "A program on a GPU of hall-1 causes ten XID 31 errors per second.",
        {"GpuXidStorm": _hall(XIDS), "GpuXidApplicationRepeated": _hall(XIDS)},
        _storm,
    ),
    Story("The driver of hall-1 reports a contained memory error (XID 94).", {"GpuXidContained": _hall(ECC)}, _contained, fleeting=True),
    Story(
        "A GPU of hall-1 has an uncorrectable memory error (XID 48).",
        {"GpuEccUncorrectable": _hall(ECC)},
        _uncorrectable, fleeting=True,
    ),
    Story(
        "Two GPUs of hall-1 fall off the bus.",
        {
            "GpuLost": _hall(LOST), "GpuXidFatalHardware": _hall(LOST),
            "GpuCountMismatch": {"node": "hall-1"},
        },
        _lost, fleeting=True,
    ),
    Story("Driver calls for a GPU of hall-1 no longer return.", {"GpuHung": _hall(HUNG)}, _hung),
    Story(
        "A GPU of hall-2 runs at half of its clock with low power and full utilization.",
        {"GpuSlowerThanPeers": _hall(SLOW, "hall-2"), "GpuFullyBusyWithoutWork": _hall(SLOW, "hall-2")},
        _slow,
    ),
    Story(
        "A GPU of hall-2 is 40 °C too hot under load.",
        {
            "GpuThermalSlowdownHardware": _hall(HOT, "hall-2"),
            "GpuTemperatureNearShutdown": _hall(HOT, "hall-2"),
            "GpuMemoryTemperatureHigh": _hall(HOT, "hall-2"),
        },
        _hot,
    ),
    Story(
        "A GPU of hall-2 is throttled by the power brake, and by the driver because of its temperature.",
        {"GpuPowerBrake": {"node": "hall-2"}, "GpuThermalSlowdownSoftware": _hall(BRAKED, "hall-2")},
        _braked,
    ),
)  # fmt: skip
