"""The recommended action for a GPU: the highest rank of all evidence, and none without evidence."""

import pytest

from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.reading.protocol import GroupReadings
from exporter.sources.base import Device, Reading
from exporter.xids.recommend import recommendations
from exporter.xids.xid_catalogue import DRIVER_SAYS, RANK, Action
from exporter.xids.xid_ledger_state import UnresolvedXid

NOW = 10_000.0


def gpu(status: GpuStatus, *readings: Reading) -> GpuSnapshot:
    groups = {"health": GroupReadings(0, "health", NOW, readings, {})} if readings else {}
    return GpuSnapshot(0, "GPU-a", Device(0, "GPU-a", "0000:10:00.0"), status, groups)  # type: ignore[arg-type]


def says(
    status: GpuStatus,
    *readings: Reading,
    xids: tuple[UnresolvedXid, ...] = (),
    lookback: float = 3600.0,
) -> tuple[str, str] | None:
    view = NodeSnapshot((gpu(status, *readings),), 1, False, "nvml", "", 0, {})
    standing = {"GPU-a": {str(each.code): each for each in xids}}
    found = recommendations(view, standing, NOW, lookback).get("GPU-a")
    return None if found is None else (found.action, found.reason)


def driver(action: str) -> Reading:
    return Reading("gpu_recovery_action", (action,), 1)


def flag(name: str, value: float = 1) -> Reading:
    return Reading(name, (), value)


def stands(code: int, action: Action, ago: float = 10.0) -> UnresolvedXid:
    return UnresolvedXid(code, action, NOW - ago, NOW - ago)


RESET, APP = stands(62, "reset_gpu"), stands(31, "restart_app")
PENDING, FAILURE = flag("gpu_row_remap_pending"), flag("gpu_row_remap_failure")
TABLE = [
    (GpuStatus.UP, (), (), ("none", "ok")),
    (GpuStatus.UP, (driver("none"), flag("gpu_row_remap_pending", 0)), (), ("none", "ok")),
    (GpuStatus.UP, (driver("gpu_reset"),), (), ("reset_gpu", "driver_gpu_reset")),
    (GpuStatus.UP, (driver("node_reboot"),), (RESET,), ("reboot_node", "driver_node_reboot")),
    (GpuStatus.UP, (driver("drain_p2p"),), (), ("drain_reset", "driver_drain_p2p")),
    (GpuStatus.UP, (driver("recover_imex"),), (), ("restart_app", "driver_recover_imex")),
    (GpuStatus.UP, (driver("bus_reset"),), (), ("drain_reset", "driver_bus_reset")),
    (GpuStatus.UP, (driver("system_reboot"),), (), ("reboot_node", "driver_system_reboot")),
    (GpuStatus.UP, (driver("a new one"),), (), ("none", "ok")),
    (GpuStatus.UP, (Reading("gpu_recovery_action", ("gpu_reset",), 0),), (), ("none", "ok")),
    (GpuStatus.UP, (), (APP,), ("restart_app", "xid_31")),
    (GpuStatus.UP, (), (APP, RESET), ("reset_gpu", "xid_62")),
    (GpuStatus.UP, (driver("gpu_reset"),), (RESET,), ("reset_gpu", "driver_gpu_reset")),
    (GpuStatus.UP, (PENDING,), (APP,), ("drain_reset", "row_remap_pending")),
    (GpuStatus.UP, (PENDING, FAILURE), (), ("inspect", "row_remap_failure")),
    (GpuStatus.UP, (flag("gpu_sram_ecc_threshold_exceeded"),), (), ("inspect", "sram_threshold")),
    (GpuStatus.UP, (flag("gpu_unrepairable_memory"), FAILURE), (), ("inspect", "unrepairable_memory")),
    (GpuStatus.UP, (flag("gpu_retired_pages_pending"),), (), ("drain_reset", "retired_pages_pending")),
    (GpuStatus.LOST, (), (), ("reboot_node", "lost")),
    (GpuStatus.LOST, (), (stands(79, "reboot_node"),), ("reboot_node", "lost")),
    (GpuStatus.LOST, (), (stands(149, "inspect"),), ("inspect", "xid_149")),
    (GpuStatus.HUNG, (), (), ("none", "not_responding")),
    (GpuStatus.HUNG, (), (stands(119, "reset_gpu"),), ("reset_gpu", "xid_119")),
    (GpuStatus.UNKNOWN, (), (), None),
    (GpuStatus.UNKNOWN, (driver("gpu_reset"),), (RESET,), None),
    (GpuStatus.UP, (), (stands(62, "reset_gpu", 3601),), ("none", "ok")),
    (GpuStatus.UP, (), (stands(62, "reset_gpu", 3599),), ("reset_gpu", "xid_62")),
    (GpuStatus.UP, (), (stands(31, "restart_app", 301),), ("none", "ok")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "readings", "xids", "wanted"), TABLE)
def test_the_strongest_speaks(
    status: GpuStatus,
    readings: tuple[Reading, ...],
    xids: tuple[UnresolvedXid, ...],
    wanted: tuple[str, str] | None,
) -> None:
    assert says(status, *readings, xids=xids) == wanted


def test_the_lookback_is_the_sites(  # a short one also limits XIDs of applications
) -> None:
    assert says(GpuStatus.UP, xids=(stands(62, "reset_gpu", 61),), lookback=60.0) == ("none", "ok")
    assert says(GpuStatus.UP, xids=(stands(31, "restart_app", 61),), lookback=60.0) == (
        "none",
        "ok",
    )


def test_the_latest_of_equal_xids_is_named_and_known_since_its_first() -> None:
    first = UnresolvedXid(62, "reset_gpu", NOW - 900, NOW - 5)
    view = NodeSnapshot((gpu(GpuStatus.UP),), 1, False, "nvml", "", 0, {})
    older = stands(119, "reset_gpu", 60)
    found = recommendations(view, {"GPU-a": {"119": older, "62": first}}, NOW)["GPU-a"]
    assert (found.reason, found.since, found.rank) == ("xid_62", NOW - 900, 2)


def test_actions_rank_from_nothing_to_people() -> None:
    assert [*RANK] == ["none", "restart_app", "reset_gpu", "drain_reset", "reboot_node", "inspect"]
    assert [*RANK.values()] == [0, 1, 2, 3, 4, 5]
    assert all(action in RANK for action in DRIVER_SAYS.values())
