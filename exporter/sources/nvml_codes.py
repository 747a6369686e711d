"""Gives the meaning of NVML's numeric codes: return codes, value types, events, architectures."""

from __future__ import annotations

import math
from typing import Any, Literal

from exporter.sources.base import EventKind, SourceFailed

Meaning = Literal["nothing", "unsupported", "lost", "failed", "error"]
INVALID_ARGUMENT, NO_PERMISSION, TIMEOUT = 2, 4, 10
_MEANING: dict[int, Meaning] = {
    0: "nothing",  # success
    1: "failed",  # uninitialized
    INVALID_ARGUMENT: "unsupported",
    3: "unsupported",  # not supported
    NO_PERMISSION: "unsupported",
    6: "nothing",  # not found
    9: "failed",  # driver not loaded
    12: "failed",  # library not found
    13: "unsupported",  # function not found
    15: "lost",  # GPU is lost
    18: "failed",  # library and kernel driver have different versions
    21: "nothing",  # no data
    22: "unsupported",  # no ECC on a virtual GPU
    25: "unsupported",  # version of an argument
    26: "unsupported",  # deprecated
    28: "lost",  # GPU not found
}
# Causes and remedies when the library does not respond.
_ADVICE = {
    NO_PERMISSION: (
        "permission denied; run the exporter as root, or grant this user access to /dev/nvidiactl and "
        "/dev/nvidia*"
    ),
    9: "the kernel driver is not loaded; run `modprobe nvidia`",
    12: "libnvidia-ml.so.1 is missing; install the NVIDIA driver",
    18: (
        "the NVIDIA library and the kernel driver have different versions; reload the driver, or reboot"
    ),
    999: (
        "unknown error; a container may have lost its access to /dev/nvidia* (restart the container), "
        "otherwise see the kernel log"
    ),
}
_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_NO_VALUE = 0xFFFFFFFFFFFFFFFF
EVENTS: dict[int, EventKind] = {
    0x8: "xid",
    0x2: "ecc",
    0x4000: "unavailable",
    0x8000: "recovery",
}
UNAVAILABLE = 0x4000
ARCHITECTURES = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
    13: "rubin",
}


def meaning(code: int) -> Meaning:
    """Return the meaning of an NVML return code.

    `nothing`: no value is available now. `unsupported`: the value is never available. `lost`: the
    GPU is lost. `failed`: the library is unusable. `error`: any other error.
    """
    return _MEANING.get(code, "error")


def failure(code: int, words: str) -> SourceFailed:
    """Create a SourceFailed exception with the cause and the fix. `words` is the library's own message."""
    return SourceFailed(f"NVML does not respond: {_ADVICE.get(code, words)}")


def number_of(value: Any) -> int | None:
    """Return the number in an NVML field value; None if it contains no number."""
    if value.valueType >= len(_VALUES):
        return None
    number = getattr(value.value, _VALUES[value.valueType])
    if isinstance(number, float):
        return int(number) if math.isfinite(number) else None
    return None if number == _NO_VALUE else int(number)
