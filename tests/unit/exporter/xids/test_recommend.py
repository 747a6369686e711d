"""The recommended action for a GPU: the highest rank of all evidence, and none without evidence."""

import pytest

from exporter.gpu_states import BoardView, GpuView, Status
from exporter.reading.protocol import Values
from exporter.sources.base import Device, Reading
from exporter.xids.recommend import recommendations
from exporter.xids.xid_catalogue import DRIVER_SAYS, RANK, Action
from exporter.xids.xid_ledger_state import Standing

NOW = 10_000.0


def gpu(status: Status, *readings: Reading) -> GpuView:
    groups = {"health": Values(0, "health", NOW, readings, {})} if readings else {}
    return GpuView(0, "GPU-a", Device(0, "GPU-a", "0000:10:00.0"), status, groups)  # type: ignore[arg-type]


def says(
    status: Status, *readings: Reading, xids: tuple[Standing, ...] = (), lookback: float = 3600.0
) -> tuple[str, str] | None:
    view = BoardView((gpu(status, *readings),), 1, False, "nvml", "", 0, {})
    standing = {"GPU-a": {str(each.code): each for each in xids}}
    found = recommendations(view, standing, NOW, lookback).get("GPU-a")
    return None if found is None else (found.action, found.reason)


def driver(action: str) -> Reading:
    return Reading("gpu_recovery_action", (action,), 1)


def flag(name: str, value: float = 1) -> Reading:
    return Reading(name, (), value)


def stands(code: int, action: Action, ago: float = 10.0) -> Standing:
    return Standing(code, action, NOW - ago, NOW - ago)


RESET, APP = stands(62, "reset_gpu"), stands(31, "restart_app")
PENDING, FAILURE = flag("gpu_row_remap_pending"), flag("gpu_row_remap_failure")
TABLE = [
    (Status.UP, (), (), ("none", "ok")),
    (Status.UP, (driver("none"), flag("gpu_row_remap_pending", 0)), (), ("none", "ok")),
    (Status.UP, (driver("gpu_reset"),), (), ("reset_gpu", "driver_gpu_reset")),
    (Status.UP, (driver("node_reboot"),), (RESET,), ("reboot_node", "driver_node_reboot")),
    (Status.UP, (driver("drain_p2p"),), (), ("drain_reset", "driver_drain_p2p")),
    (Status.UP, (driver("recover_imex"),), (), ("restart_app", "driver_recover_imex")),
    (Status.UP, (driver("bus_reset"),), (), ("drain_reset", "driver_bus_reset")),
    (Status.UP, (driver("system_reboot"),), (), ("reboot_node", "driver_system_reboot")),
    (Status.UP, (driver("a new one"),), (), ("none", "ok")),
    (Status.UP, (Reading("gpu_recovery_action", ("gpu_reset",), 0),), (), ("none", "ok")),
    (Status.UP, (), (APP,), ("restart_app", "xid_31")),
    (Status.UP, (), (APP, RESET), ("reset_gpu", "xid_62")),
    (Status.UP, (driver("gpu_reset"),), (RESET,), ("reset_gpu", "driver_gpu_reset")),
    (Status.UP, (PENDING,), (APP,), ("drain_reset", "row_remap_pending")),
    (Status.UP, (PENDING, FAILURE), (), ("inspect", "row_remap_failure")),
    (Status.UP, (flag("gpu_sram_ecc_threshold_exceeded"),), (), ("inspect", "sram_threshold")),
    (Status.UP, (flag("gpu_unrepairable_memory"), FAILURE), (), ("inspect", "unrepairable_memory")),
    (Status.UP, (flag("gpu_retired_pages_pending"),), (), ("drain_reset", "retired_pages_pending")),
    (Status.LOST, (), (), ("reboot_node", "lost")),
    (Status.LOST, (), (stands(79, "reboot_node"),), ("reboot_node", "lost")),
    (Status.LOST, (), (stands(149, "inspect"),), ("inspect", "xid_149")),
    (Status.HUNG, (), (), ("none", "not_responding")),
    (Status.HUNG, (), (stands(119, "reset_gpu"),), ("reset_gpu", "xid_119")),
    (Status.UNKNOWN, (), (), None),
    (Status.UNKNOWN, (driver("gpu_reset"),), (RESET,), None),
    (Status.UP, (), (stands(62, "reset_gpu", 3601),), ("none", "ok")),
    (Status.UP, (), (stands(62, "reset_gpu", 3599),), ("reset_gpu", "xid_62")),
    (Status.UP, (), (stands(31, "restart_app", 301),), ("none", "ok")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "readings", "xids", "wanted"), TABLE)
def test_the_strongest_speaks(
    status: Status,
    readings: tuple[Reading, ...],
    xids: tuple[Standing, ...],
    wanted: tuple[str, str] | None,
) -> None:
    assert says(status, *readings, xids=xids) == wanted


def test_the_lookback_is_the_sites(  # a short one also limits XIDs of applications
) -> None:
    assert says(Status.UP, xids=(stands(62, "reset_gpu", 61),), lookback=60.0) == ("none", "ok")
    assert says(Status.UP, xids=(stands(31, "restart_app", 61),), lookback=60.0) == ("none", "ok")


def test_the_latest_of_equal_xids_is_named_and_known_since_its_first() -> None:
    first = Standing(62, "reset_gpu", NOW - 900, NOW - 5)
    view = BoardView((gpu(Status.UP),), 1, False, "nvml", "", 0, {})
    older = stands(119, "reset_gpu", 60)
    found = recommendations(view, {"GPU-a": {"119": older, "62": first}}, NOW)["GPU-a"]
    assert (found.reason, found.since, found.rank) == ("xid_62", NOW - 900, 2)


def test_actions_rank_from_nothing_to_people() -> None:
    assert [*RANK] == ["none", "restart_app", "reset_gpu", "drain_reset", "reboot_node", "inspect"]
    assert [*RANK.values()] == [0, 1, 2, 3, 4, 5]
    assert all(action in RANK for action in DRIVER_SAYS.values())
