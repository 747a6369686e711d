"""The meaning of NVML's numbers is compared with the binding's names."""

import pynvml
import pytest

from exporter.sources.nvml_codes import (
    ARCHITECTURES,
    EVENTS,
    UNAVAILABLE,
    failure,
    meaning,
    number_of,
)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ("nothing", {"NOT_FOUND", "NO_DATA"}),
        (
            "unsupported",
            {
                "INVALID_ARGUMENT", "NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND",
                "VGPU_ECC_NOT_SUPPORTED", "ARGUMENT_VERSION_MISMATCH", "DEPRECATED",
            },
        ),
        ("lost", {"GPU_IS_LOST", "GPU_NOT_FOUND"}),
        (
            "failed",
            {"UNINITIALIZED", "DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "LIB_RM_VERSION_MISMATCH"},
        ),
    ],
)  # fmt: skip
def test_a_code_means_what_its_name_says(said: str, names: set[str]) -> None:
    codes = {
        name.removeprefix("NVML_ERROR_"): getattr(pynvml, name)
        for name in dir(pynvml)
        if name.startswith("NVML_ERROR_")
    }
    assert {name for name, code in codes.items() if meaning(code) == said} == names


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_TIMEOUT, 4711])
def test_any_other_code_is_an_error_and_no_loss(code: int) -> None:
    assert meaning(code) == "error"


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions; reload the driver, or reboot"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe nvidia"),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install the NVIDIA driver"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "run the exporter as root"),
        (pynvml.NVML_ERROR_UNKNOWN, "restart the container"),
        (pynvml.NVML_ERROR_MEMORY, "the library's words"),
    ],
)  # fmt: skip
def test_a_library_that_does_not_answer_says_what_to_do(code: int, cure: str) -> None:
    assert cure in str(failure(code, "the library's words"))


def test_events_and_architectures_have_the_numbers_of_the_binding() -> None:
    assert {
        pynvml.nvmlEventTypeXidCriticalError: "xid",
        pynvml.nvmlEventTypeDoubleBitEccError: "ecc",
        pynvml.nvmlEventTypeGpuUnavailableError: "unavailable",
        pynvml.nvmlEventTypeGpuRecoveryAction: "recovery",
    } == EVENTS
    assert pynvml.nvmlEventTypeGpuUnavailableError == UNAVAILABLE
    assert all(
        getattr(pynvml, f"NVML_DEVICE_ARCH_{name.upper()}") == number
        for number, name in ARCHITECTURES.items()
    )


@pytest.mark.parametrize(
    ("kind", "member", "number", "read"),
    [
        (pynvml.NVML_VALUE_TYPE_DOUBLE, "dVal", 12.7, 12),
        (pynvml.NVML_VALUE_TYPE_DOUBLE, "dVal", float("nan"), None),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, "uiVal", 0xFFFFFFFF, 0xFFFFFFFF),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG, "ulVal", 1 << 40, 1 << 40),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, "ullVal", (1 << 64) - 1, None),
        (pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG, "sllVal", -3, -3),
        (pynvml.NVML_VALUE_TYPE_SIGNED_INT, "siVal", -5, -5),
        (pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT, "usVal", 9, 9),
        (pynvml.NVML_VALUE_TYPE_COUNT, "uiVal", 9, None),
    ],
)
def test_a_field_value_is_read_by_its_type(
    kind: int, member: str, number: float, read: int | None
) -> None:
    value = pynvml.c_nvmlFieldValue_t()
    value.valueType = kind
    setattr(value.value, member, number)
    assert number_of(value) == read
