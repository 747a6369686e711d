"""The binding has all NVML functions that the exporter calls, with the expected numbers and sizes."""

import ast
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from exporter.sources import (
    nvml,
    nvml_gpm,
    nvml_health,
    nvml_limits,
    nvml_links,
    nvml_load,
)
from exporter.sources.nvml_symbols import SYMBOLS
from exporter.xids.xid_catalogue import DRIVER_SAYS

SOURCES = sorted(Path(nvml.__file__).parent.glob("nvml*.py"))
BINDING = Path(pynvml.__file__).read_text()
FUNCTION = re.compile(r"nvml[A-Z][A-Za-z0-9]+(_v\d)?")
# Functions with another name in the binding, or called by the binding itself.
INDIRECT = {"nvmlDeviceGetMemoryInfo_v2", "nvmlErrorString"}
NOT_FUNCTIONS = {"nvmlReturn"}


def named() -> Iterator[str]:
    """All library functions that our files name, as a string or as an attribute of the binding."""
    for path in SOURCES:
        if path.stem == "nvml_symbols":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Constant(value=str(name)) | ast.Attribute(attr=name):
                    if FUNCTION.fullmatch(name) and name not in NOT_FUNCTIONS:
                        yield name


def test_the_list_of_symbols_is_exactly_what_is_called() -> None:
    functions = {name for name in named() if callable(getattr(pynvml, name, None))}
    assert functions == SYMBOLS.keys() - INDIRECT


@pytest.mark.parametrize("symbol", SYMBOLS.values())
def test_a_symbol_is_one_that_the_binding_looks_up(symbol: str) -> None:
    assert f'_nvmlGetFunctionPointer("{symbol}")' in BINDING


@pytest.mark.parametrize("name", sorted(SYMBOLS.keys() - INDIRECT))
def test_a_function_that_is_called_is_one_of_the_binding(name: str) -> None:
    assert callable(getattr(pynvml, name))


@pytest.mark.parametrize(
    ("version", "shape"),
    [
        (pynvml.nvmlMemory_v2, pynvml.c_nvmlMemory_v2_t),
        (pynvml.nvmlTemperature_v1, pynvml.c_nvmlTemperature_v1_t),
        (pynvml.nvmlMarginTemperature_v1, pynvml.c_nvmlMarginTemperature_v1_t),
        (pynvml.nvmlGpuFabricInfo_v3, pynvml.c_nvmlGpuFabricInfo_v3_t),
        (pynvml.nvmlGpuFabricInfo_v2, pynvml.c_nvmlGpuFabricInfo_v2_t),
        (pynvml.nvmlEccSramErrorStatus_v1, pynvml.c_nvmlEccSramErrorStatus_v1_t),
        (pynvml.nvmlUnrepairableMemory_v1, pynvml.c_nvmlUnrepairableMemory_v1_t),
        (pynvml.ProcessesUtilizationInfo_v1, pynvml.c_nvmlProcessesUtilizationInfo_v1_t),
    ],
)
def test_the_version_of_a_structure_holds_its_size(
    version: int, shape: type[ctypes.Structure]
) -> None:
    assert version & 0xFFFFFF == ctypes.sizeof(shape)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (pynvml.c_nvmlFieldValue_t, 40),
        (pynvml.c_nvmlEventData_t, 32),
        (pynvml.c_nvmlProcessInfo_v3_t, 24),
        (pynvml.c_nvmlProcessUtilizationInfo_v1_t, 40),
        (pynvml.c_nvmlGpuFabricInfo_t, 28),
        (pynvml.c_nvmlGpmMetric_t, 40),
        (pynvml.nvmlPciInfo_t, 68),
    ],
)
def test_a_structure_without_version_has_the_size_of_the_header(
    shape: type[ctypes.Structure], size: int
) -> None:
    assert ctypes.sizeof(shape) == size


def test_filled_structures_carry_their_version_from_the_start() -> None:
    assert pynvml.c_nvmlGpuFabricInfo_v3_t().version == pynvml.nvmlGpuFabricInfo_v3
    assert pynvml.c_nvmlGpuFabricInfo_v2_t().version == pynvml.nvmlGpuFabricInfo_v2
    assert pynvml.c_nvmlEccSramErrorStatus_v1_t().version == pynvml.nvmlEccSramErrorStatus_v1


FIELDS = {
    nvml_load.MEMORY_TEMPERATURE: "MEMORY_TEMP",
    nvml_load.ENERGY: "TOTAL_ENERGY_CONSUMPTION",
    nvml_load.POWER["gpu"][0]: "POWER_INSTANT",
    nvml_load.POWER["gpu"][1]: "POWER_AVERAGE",
    nvml_load.REASON_SECONDS["sw_power_cap"]: "CLOCKS_EVENT_REASON_SW_POWER_CAP",
    nvml_load.REASON_SECONDS["sync_boost"]: "CLOCKS_EVENT_REASON_SYNC_BOOST",
    nvml_load.REASON_SECONDS["sw_thermal_slowdown"]: "CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
    nvml_load.REASON_SECONDS["hw_thermal_slowdown"]: "CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
    nvml_load.REASON_SECONDS["hw_power_brake_slowdown"]: (
        "CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN"
    ),
    nvml_load.THERMAL: "PERF_POLICY_THERMAL",
    nvml_health.RECOVERY: "GET_GPU_RECOVERY_ACTION",
    nvml_health.RETIRED["single_bit"]: "RETIRED_SBE",
    nvml_health.RETIRED["double_bit"]: "RETIRED_DBE",
    nvml_links.PCIE_REPLAY: "PCIE_REPLAY_COUNTER",
    nvml_links.PCIE_BYTES["gpu_pcie_transmit_bytes_total"]: "PCIE_COUNT_TX_BYTES",
    nvml_links.PCIE_BYTES["gpu_pcie_receive_bytes_total"]: "PCIE_COUNT_RX_BYTES",
    nvml_links.PCIE_ERRORS["replay_rollover"]: "PCIE_REPLAY_ROLLOVER_COUNTER",
    nvml_links.PCIE_ERRORS["l0_to_recovery"]: "PCIE_L0_TO_RECOVERY_COUNTER",
    nvml_links.PCIE_ERRORS["correctable"]: "PCIE_COUNT_CORRECTABLE_ERRORS",
    nvml_links.PCIE_ERRORS["nak_received"]: "PCIE_COUNT_NAKS_RECEIVED",
    nvml_links.PCIE_ERRORS["receiver"]: "PCIE_COUNT_RECEIVER_ERROR",
    nvml_links.PCIE_ERRORS["bad_tlp"]: "PCIE_COUNT_BAD_TLP",
    nvml_links.PCIE_ERRORS["nak_sent"]: "PCIE_COUNT_NAKS_SENT",
    nvml_links.PCIE_ERRORS["bad_dllp"]: "PCIE_COUNT_BAD_DLLP",
    nvml_links.PCIE_ERRORS["non_fatal"]: "PCIE_COUNT_NON_FATAL_ERROR",
    nvml_links.PCIE_ERRORS["fatal"]: "PCIE_COUNT_FATAL_ERROR",
    nvml_limits.POWER_LIMITS["min"]: "POWER_MIN_LIMIT",
    nvml_limits.POWER_LIMITS["max"]: "POWER_MAX_LIMIT",
    nvml_limits.POWER_LIMITS["default"]: "POWER_DEFAULT_LIMIT",
    nvml_limits.POWER_LIMITS["enforced"]: "POWER_CURRENT_LIMIT",
    nvml_limits.POWER_LIMITS["requested"]: "POWER_REQUESTED_LIMIT",
    nvml_limits.T_LIMITS["shutdown"]: "TEMPERATURE_SHUTDOWN_TLIMIT",
    nvml_limits.T_LIMITS["slowdown"]: "TEMPERATURE_SLOWDOWN_TLIMIT",
    nvml_limits.T_LIMITS["gpu_max"]: "TEMPERATURE_GPU_MAX_TLIMIT",
}
LINK_FIELDS = {
    "replay": ("NVLINK_ERROR_DL_REPLAY",),
    "recovery": ("NVLINK_ERROR_DL_RECOVERY", "NVLINK_COUNT_LINK_RECOVERY_EVENTS"),
    "crc": ("NVLINK_ERROR_DL_CRC",),
    "malformed": ("NVLINK_COUNT_MALFORMED_PACKET_ERRORS",),
    "buffer_overrun": ("NVLINK_COUNT_BUFFER_OVERRUN_ERRORS",),
    "rx": ("NVLINK_COUNT_RCV_ERRORS",),
    "integrity": ("NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS",),
    "symbol": ("NVLINK_COUNT_SYMBOL_ERRORS",),
}
OLDER_LINK_FIELDS = {
    "replay": "NVLINK_REPLAY_ERROR_COUNT",
    "recovery": "NVLINK_RECOVERY_ERROR_COUNT",
    "crc": "NVLINK_CRC_FLIT_ERROR_COUNT",
    "ecc": "NVLINK_ECC_DATA_ERROR_COUNT",
}


def field(name: str) -> int:
    number = getattr(pynvml, f"NVML_FI_DEV_{name}")
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize(("asked", "name"), FIELDS.items())
def test_a_field_has_the_number_of_its_name(asked: tuple[int, int], name: str) -> None:
    assert asked[0] == field(name)


def test_link_fields_have_the_numbers_of_their_names() -> None:
    assert {
        kind: tuple(field(name) for name in names) for kind, names in LINK_FIELDS.items()
    } == nvml_links.LINK_ERRORS
    for kind, name in OLDER_LINK_FIELDS.items():
        assert nvml_links.OLDER[kind] == tuple(field(f"{name}_L{link}") for link in range(12))
        assert nvml_links.OLDER_TOTAL[kind] == (field(f"{name}_TOTAL"), 0)
    assert {
        "gpu_nvlink_transmit_bytes_total": (
            (field("NVLINK_THROUGHPUT_DATA_TX"), 0xFFFFFFFF),
            field("NVLINK_COUNT_XMIT_BYTES"),
        ),
        "gpu_nvlink_receive_bytes_total": (
            (field("NVLINK_THROUGHPUT_DATA_RX"), 0xFFFFFFFF),
            field("NVLINK_COUNT_RCV_BYTES"),
        ),
    } == nvml_links.LINK_BYTES
    assert nvml_links.MAX_LINKS == pynvml.NVML_NVLINK_MAX_LINKS


def test_power_scopes_and_policies_have_the_numbers_of_their_names() -> None:
    scopes = {name: fields[0][1] for name, fields in nvml_load.POWER.items()}
    assert scopes == {
        "gpu": pynvml.NVML_POWER_SCOPE_GPU,
        "module": pynvml.NVML_POWER_SCOPE_MODULE,
        "memory": pynvml.NVML_POWER_SCOPE_MEMORY,
    }
    assert nvml_load.VIOLATIONS == {
        "sw_power_cap": pynvml.NVML_PERF_POLICY_POWER,
        "thermal_slowdown": pynvml.NVML_PERF_POLICY_THERMAL,
        "sync_boost": pynvml.NVML_PERF_POLICY_SYNC_BOOST,
    }


def test_profiling_metrics_have_the_numbers_of_their_names() -> None:
    names = {
        1: "GRAPHICS_UTIL", 2: "SM_UTIL", 3: "SM_OCCUPANCY", 4: "INTEGER_UTIL", 5: "ANY_TENSOR_UTIL",
        6: "DFMA_TENSOR_UTIL", 7: "HMMA_TENSOR_UTIL", 9: "IMMA_TENSOR_UTIL", 10: "DRAM_BW_UTIL",
        11: "FP64_UTIL", 12: "FP32_UTIL", 13: "FP16_UTIL", 20: "PCIE_TX_PER_SEC",
        21: "PCIE_RX_PER_SEC", 60: "NVLINK_TOTAL_RX_PER_SEC", 61: "NVLINK_TOTAL_TX_PER_SEC",
    }  # fmt: skip
    assert names.keys() == nvml_gpm.RATIOS.keys() | nvml_gpm.RATES.keys()
    for number, name in names.items():
        assert number == getattr(pynvml, f"NVML_GPM_METRIC_{name}"), name


def test_states_locations_and_actions_have_the_numbers_of_their_names() -> None:
    assert {
        name: getattr(pynvml, f"NVML_GPU_RECOVERY_ACTION_{said}")
        for name, said in zip(
            (*nvml_health.RECOVERY_ACTIONS, *nvml_health.RARE_ACTIONS.values()),
            (
                "NONE", "GPU_RESET", "NODE_REBOOT", "DRAIN_P2P", "DRAIN_AND_RESET",
                "RECOVER_IMEX_DOMAIN", "BUS_RESET", "SYSTEM_REBOOT",
            ),
            strict=True,
        )
    } == {name: place for place, name in enumerate(nvml_health.RECOVERY_ACTIONS)} | {
        name: place for place, name in nvml_health.RARE_ACTIONS.items()
    }  # fmt: skip
    # the line of XID 154 has the number, the reading has the name; both use this order
    names = dict(enumerate(nvml_health.RECOVERY_ACTIONS)) | nvml_health.RARE_ACTIONS
    assert dict(enumerate(DRIVER_SAYS)) == names
    assert [
        getattr(pynvml, f"NVML_GPU_FABRIC_STATE_{name.upper()}")
        for name in nvml_health.FABRIC_STATES
    ] == [0, 1, 2, 3]
    assert [
        getattr(pynvml, f"NVML_MEMORY_LOCATION_{name}")
        for name in (
            "L1_CACHE",
            "L2_CACHE",
            "DRAM",
            "REGISTER_FILE",
            "TEXTURE_MEMORY",
            "CBU",
            "SRAM",
        )
    ] == list(nvml_health.LOCATIONS.values())
    assert nvml_health.FABRIC_BITS == {
        "bandwidth": pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW,
        "route_recovery": pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_RECOVERY,
        "route": pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_UNHEALTHY,
        "access_timeout": pynvml.NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ACCESS_TIMEOUT_RECOVERY,
    }
