"""Renders a metrics page for dashboards and rules of dcgm-exporter, with its names, labels and
units.

The page contains only values that were read; nothing is estimated. The vGPU licence is not read.
DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL and DCGM_FI_DEV_PCIE_*_THROUGHPUT are omitted, because their
units differ between versions. Use the DCGM_FI_PROF_* rates of the same links.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.exposition import Block, Family, escape, number
from exporter.gpu_states import GpuSnapshot, NodeSnapshot
from exporter.pages.page import Fragment, Page
from exporter.sources.base import Group

_MIB = 1 / (1 << 20)
_GROUPS: tuple[Group, ...] = ("load", "gpm", "health", "links")


class Field(NamedTuple):
    """A DCGM field and the reading it is computed from.

    The value is the reading times `scale`, rounded to an integer if `whole`.
    """

    name: str
    type: str
    help: str
    reading: str
    labels: tuple[str, ...] = ()
    scale: float = 1.0
    whole: bool = True


def _prof(name: str, what: str, reading: str, *labels: str) -> Field:
    text = f"Ratio of time or cycles: {what}."
    return Field(f"DCGM_FI_PROF_{name}", "gauge", text, reading, labels, whole=False)


def _rate(name: str, what: str, reading: str) -> Field:
    return Field(f"DCGM_FI_PROF_{name}", "gauge", f"{what} (in B/s).", reading)


# fmt: off
FIELDS: tuple[Field, ...] = (
    Field("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock (in MHz).", "gpu_clock_hertz", ("sm",), 1e-6),
    Field("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock (in MHz).", "gpu_clock_hertz", ("memory",), 1e-6),
    Field("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Temperature of the memory (in C).", "gpu_temperature_celsius", ("memory",)),
    Field("DCGM_FI_DEV_GPU_TEMP", "gauge", "Temperature of the GPU (in C).", "gpu_temperature_celsius", ("gpu",)),
    Field("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", "gpu_power_watts", ("gpu",), whole=False),
    Field("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Energy since the driver was loaded (in mJ).", "gpu_energy_joules_total", (), 1e3),
    Field("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "PCIe replays.", "gpu_pcie_replay_total"),
    Field("DCGM_FI_DEV_GPU_UTIL", "gauge", "Utilization of the GPU (in %).", "gpu_utilization_ratio", (), 100),
    Field("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Utilization of the memory interface (in %).", "gpu_memory_activity_ratio", (), 100),
    Field("DCGM_FI_DEV_ENC_UTIL", "gauge", "Utilization of the encoder (in %).", "gpu_encoder_utilization_ratio", (), 100),
    Field("DCGM_FI_DEV_DEC_UTIL", "gauge", "Utilization of the decoder (in %).", "gpu_decoder_utilization_ratio", (), 100),
    Field("DCGM_FI_DEV_FB_FREE", "gauge", "Free device memory (in MiB).", "gpu_memory_free_bytes", (), _MIB),
    Field("DCGM_FI_DEV_FB_USED", "gauge", "Used device memory (in MiB).", "gpu_memory_used_bytes", (), _MIB),
    Field("DCGM_FI_DEV_FB_RESERVED", "gauge", "Device memory reserved by the driver (in MiB).", "gpu_memory_reserved_bytes", (), _MIB),
    Field("DCGM_FI_DEV_RETIRED_SBE", "counter", "Pages retired because of single-bit errors.", "gpu_retired_pages_total", ("single_bit",)),
    Field("DCGM_FI_DEV_RETIRED_DBE", "counter", "Pages retired because of double-bit errors.", "gpu_retired_pages_total", ("double_bit",)),
    Field("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "Rows remapped because of uncorrectable errors.", "gpu_row_remap_total", ("uncorrectable",)),
    Field("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "Rows remapped because of correctable errors.", "gpu_row_remap_total", ("correctable",)),
    Field("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether a row remap failed.", "gpu_row_remap_failure"),
    _prof("GR_ENGINE_ACTIVE", "the graphics or compute engine was active", "gpu_graphics_active_ratio"),
    _prof("SM_ACTIVE", "a multiprocessor had at least one warp", "gpu_sm_active_ratio"),
    _prof("SM_OCCUPANCY", "resident warps as a share of the maximum", "gpu_sm_occupancy_ratio"),
    _prof("PIPE_TENSOR_ACTIVE", "the tensor pipe was active", "gpu_tensor_active_ratio", "any"),
    _prof("DRAM_ACTIVE", "the memory interface was active", "gpu_dram_active_ratio"),
    _prof("PIPE_FP64_ACTIVE", "the FP64 pipe was active", "gpu_fp_active_ratio", "fp64"),
    _prof("PIPE_FP32_ACTIVE", "the FP32 pipe was active", "gpu_fp_active_ratio", "fp32"),
    _prof("PIPE_FP16_ACTIVE", "the FP16 pipe was active", "gpu_fp_active_ratio", "fp16"),
    _rate("PCIE_TX_BYTES", "Sent over PCIe", "gpu_pcie_transmit_bytes_per_second"),
    _rate("PCIE_RX_BYTES", "Received over PCIe", "gpu_pcie_receive_bytes_per_second"),
    _rate("NVLINK_TX_BYTES", "Sent over NVLink", "gpu_nvlink_transmit_bytes_per_second"),
    _rate("NVLINK_RX_BYTES", "Received over NVLink", "gpu_nvlink_receive_bytes_per_second"),
)
# fmt: on
# Name: kind of error, scope of the counter, help text.
ECC_TOTALS: dict[str, tuple[str, str, str]] = {
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": (
        "corrected",
        "volatile",
        "Single-bit errors since the last reset.",
    ),
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": (
        "uncorrected",
        "volatile",
        "Double-bit errors since the last reset.",
    ),
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": (
        "corrected",
        "aggregate",
        "Single-bit errors over the lifetime.",
    ),
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": (
        "uncorrected",
        "aggregate",
        "Double-bit errors over the lifetime.",
    ),
}
XID = Family("DCGM_FI_DEV_XID_ERRORS", "gauge", "Code of the latest XID error, 0 without an error.")


def dcgm(view: NodeSnapshot, hostname: str, xids: Mapping[str, int] | None = None) -> Page:
    """Return the page with dcgm-exporter's names. `xids`: latest XID of each GPU by UUID; None if unknown."""
    rows: dict[Family, list[str]] = {}
    for gpu in view.gpus:
        labels = _labels(gpu, hostname)
        for family, value in _values(gpu, xids):
            rows.setdefault(family, []).append(f"{family.name}{{{labels}}} {number(value)}\n")
    blocks = tuple(Block(family, "".join(lines)) for family, lines in rows.items())
    return Page([Fragment(blocks)])


def _values(gpu: GpuSnapshot, xids: Mapping[str, int] | None) -> Iterator[tuple[Family, float]]:
    readings = [reading for group in _GROUPS for reading in gpu.readings(group)]
    known = {(name, labels): value for name, labels, value in readings}
    for field in FIELDS:
        value = known.get((field.reading, field.labels))
        if value is not None:
            scaled = value * field.scale
            yield (
                Family(field.name, field.type, field.help),
                round(scaled) if field.whole else float(scaled),
            )
    for name, (error, scope, help_text) in ECC_TOTALS.items():
        total = _ecc(gpu, error, scope)
        if total is not None:
            yield Family(name, "counter", help_text), total
    if xids is not None:
        yield XID, xids.get(gpu.uuid, 0)


def _ecc(gpu: GpuSnapshot, error: str, scope: str) -> float | None:
    """Return the sum of ECC errors over all memory locations; None if a count is unknown.

    `sram` is the sum over the units that older GPUs count separately.
    """
    found = {
        reading.labels[2]: reading.value
        for reading in gpu.readings("health")
        if reading.name == "gpu_ecc_errors_total" and reading.labels[:2] == (error, scope)
    }
    if "sram" in found:
        found = {place: count for place, count in found.items() if place in ("dram", "sram")}
    return sum(found.values()) if found else None


def _labels(gpu: GpuSnapshot, hostname: str) -> str:
    """Return a GPU's labels in dcgm-exporter's order.

    The host name appears under both its old and its new label name.
    """
    device = gpu.device
    domain, colon, place = device.pci_bus_id.partition(":")
    labels = {
        "gpu": str(gpu.index),
        "UUID": gpu.uuid,
        "pci_bus_id": f"{domain.zfill(8)}:{place}".upper() if colon else "",
        "device": f"nvidia{device.minor or gpu.index}",
        "modelName": device.name,
        "Hostname": hostname,
        "hostname": hostname,
        "DCGM_FI_DRIVER_VERSION": device.driver,
    }
    return ",".join(f'{name}="{escape(value)}"' for name, value in labels.items())
