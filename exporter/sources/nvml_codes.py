"""What NVML's numbers mean: return codes, value types, events, architectures."""

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
# What a person can do about a library that does not answer.
_ADVICE = {
    NO_PERMISSION: "access is refused: run as root, or give this user /dev/nvidiactl and /dev/nvidia*",
    9: "the kernel driver is not loaded: `modprobe nvidia`",
    12: "libnvidia-ml.so.1 is missing: install the NVIDIA driver",
    18: "the NVIDIA library and the kernel driver have different versions: reload the driver, or reboot",
    999: (
        "an error unknown to it: in a container its access to /dev/nvidia* may have been taken "
        "away (restart it), else see the kernel log"
    ),
}
_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_NO_VALUE = 0xFFFFFFFFFFFFFFFF
EVENTS: dict[int, EventKind] = {
    0x8: "xid", 0x2: "ecc", 0x4000: "unavailable", 0x8000: "recovery",
}  # fmt: skip
UNAVAILABLE = 0x4000
ARCHITECTURES = {
    2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada",
    9: "hopper", 10: "blackwell", 13: "rubin",
}  # fmt: skip


def meaning(code: int) -> Meaning:
    """What a return code says about the question: there is no answer now (nothing), there never will
    be (unsupported), the GPU is gone (lost), the library is of no use (failed); else an error."""
    return _MEANING.get(code, "error")


def failure(code: int, words: str) -> SourceFailed:
    """A library that does not answer, as a sentence that helps. `words` are the library's own."""
    return SourceFailed(f"NVML does not answer: {_ADVICE.get(code, words)}")


def number_of(value: Any) -> int | None:
    """The number in a field value; None when it holds none."""
    if value.valueType >= len(_VALUES):
        return None
    number = getattr(value.value, _VALUES[value.valueType])
    if isinstance(number, float):
        return int(number) if math.isfinite(number) else None
    return None if number == _NO_VALUE else int(number)
