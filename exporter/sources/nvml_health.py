"""Reads GPU health: ECC, row remaps, retired pages, the driver's recommended action, the NVLink
fabric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exporter.sources.nvml_driver import Field, NvmlApi, Row

ERRORS = {"corrected": 0, "uncorrected": 1}
SCOPES = {"volatile": 0, "aggregate": 1}
LOCATIONS = {"l1": 0, "l2": 1, "dram": 2, "reg": 3, "tex": 4, "cbu": 6, "sram": 7}
_NO_COUNT = 0xFFFFFFFFFFFFFFFF
SRAM_SOURCES = {
    "l2": "L2",
    "sm": "Sm",
    "microcontroller": "Mcu",
    "pcie": "Pcie",
    "other": "Other",
}
AVAILABILITY = ("max", "high", "partial", "low", "none")
RETIRED: dict[str, Field] = {"single_bit": (29, 0), "double_bit": (30, 0)}
RECOVERY: Field = (230, 0)
RECOVERY_ACTIONS = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_reset",
    "recover_imex",
)
RARE_ACTIONS = {6: "bus_reset", 7: "system_reboot"}
FABRIC_STATES = ("not_supported", "not_started", "in_progress", "completed")
# Condition: shift of two bits, with the value 1 for unhealthy and 2 for healthy.
FABRIC_BITS = {"bandwidth": 0, "route_recovery": 2, "route": 4, "access_timeout": 6}
_CONFIGURATION = 8  # shift of four bits: 1 is correct, higher values are errors


def health(driver: NvmlApi, slot: int) -> Iterator[Row]:
    """Yield the readings of the group `health`."""
    ask = driver.ask
    yield from _ecc(driver, slot)
    if (rows := ask(slot, "nvmlDeviceGetRemappedRows")) is not None:
        yield "gpu_row_remap_total", ("correctable",), rows[0]
        yield "gpu_row_remap_total", ("uncorrectable",), rows[1]
        yield "gpu_row_remap_pending", (), rows[2]
        yield "gpu_row_remap_failure", (), rows[3]
    if (banks := ask(slot, "nvmlDeviceGetRowRemapperHistogram")) is not None:
        for left in AVAILABILITY:
            yield "gpu_row_remap_banks", (left,), getattr(banks, left)
    yield "gpu_unrepairable_memory", (), ask(slot, "nvmlDeviceGetUnrepairableMemoryFlag_v1")
    pending = ask(slot, "nvmlDeviceGetRetiredPagesPendingStatus")
    yield "gpu_retired_pages_pending", (), pending
    # On GPUs with row remapping, the counts of retired pages are meaningless zeros.
    retired = RETIRED if pending is not None else {}
    fields = driver.fields(slot, (RECOVERY, *retired.values()))
    for cause, field in retired.items():
        yield "gpu_retired_pages_total", (cause,), fields.get(field)
    if (action := fields.get(RECOVERY)) is not None:
        yield from _recovery(action)
    if (info := driver.fabric(slot)) is not None:
        yield from _fabric(info)


def _ecc(driver: NvmlApi, slot: int) -> Iterator[Row]:
    for error, error_code in ERRORS.items():
        for scope, scope_code in SCOPES.items():
            for location, place in LOCATIONS.items():
                count = driver.ask(
                    slot, "nvmlDeviceGetMemoryErrorCounter", error_code, scope_code, place
                )
                if count != _NO_COUNT:
                    yield "gpu_ecc_errors_total", (error, scope, location), count
    if (sram := driver.sram(slot)) is not None:
        for source, name in SRAM_SOURCES.items():
            count = getattr(sram, f"aggregateUncBucket{name}")
            yield "gpu_sram_ecc_uncorrectable_source_total", (source,), count
        yield "gpu_sram_ecc_threshold_exceeded", (), int(bool(sram.bThresholdExceeded))


def _recovery(action: int) -> Iterator[Row]:
    for number, name in enumerate(RECOVERY_ACTIONS):
        yield "gpu_recovery_action", (name,), int(number == action)
    if action >= len(RECOVERY_ACTIONS):  # an unknown action must not look like none
        yield "gpu_recovery_action", (RARE_ACTIONS.get(action, f"action_{action}"),), 1


def _fabric(info: Any) -> Iterator[Row]:
    for number, state in enumerate(FABRIC_STATES):
        yield "gpu_fabric_state", (state,), int(info.state == number)
    if FABRIC_STATES[info.state : info.state + 1] != ("completed",):
        return
    yield "gpu_fabric_status", (), info.status
    mask = getattr(info, "healthMask", 0)
    for condition, shift in FABRIC_BITS.items():
        yield "gpu_fabric_health", (condition,), {1: 0, 2: 1}.get(mask >> shift & 3)
    configuration = mask >> _CONFIGURATION & 15
    right = int(configuration == 1) if configuration else None
    yield "gpu_fabric_health", ("configuration",), right
    yield "gpu_fabric_info", (bytes(info.clusterUuid).hex(), str(info.cliqueId)), 1
