"""Reads GPM, the profiling metrics of Hopper and later, measured between two reads."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.sources.nvml_driver import NvmlApi, Row, scaled

RATIOS: dict[int, tuple[str, tuple[str, ...]]] = {  # percent
    1: ("gpu_graphics_active_ratio", ()),
    2: ("gpu_sm_active_ratio", ()),
    3: ("gpu_sm_occupancy_ratio", ()),
    4: ("gpu_integer_active_ratio", ()),
    5: ("gpu_tensor_active_ratio", ("any",)),
    6: ("gpu_tensor_active_ratio", ("dfma",)),
    7: ("gpu_tensor_active_ratio", ("hmma",)),
    9: ("gpu_tensor_active_ratio", ("imma",)),
    10: ("gpu_dram_active_ratio", ()),
    11: ("gpu_fp_active_ratio", ("fp64",)),
    12: ("gpu_fp_active_ratio", ("fp32",)),
    13: ("gpu_fp_active_ratio", ("fp16",)),
}
RATES = {  # MiB per second
    20: "gpu_pcie_transmit_bytes_per_second",
    21: "gpu_pcie_receive_bytes_per_second",
    60: "gpu_nvlink_receive_bytes_per_second",
    61: "gpu_nvlink_transmit_bytes_per_second",
}
SM_ACTIVE = 2


def gpm(driver: NvmlApi, slot: int) -> Iterator[Row]:
    """Yield the readings of the group `gpm`. The first read returns no values."""
    found = driver.gpm(slot, (*RATIOS, *RATES))
    for metric, (name, labels) in RATIOS.items():
        yield name, labels, scaled(found.get(metric), 100)
    for metric, name in RATES.items():
        rate = found.get(metric)
        yield name, (), None if rate is None else rate * (1 << 20)
