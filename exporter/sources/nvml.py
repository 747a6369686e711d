"""The NVML source: the driver's own library. The only file that imports its binding.

A code of one GPU concerns that GPU; a code of the library concerns all. What a device does not
support is remembered and not asked again; any other failed quantity is None until the next read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from exporter.sources.base import (
    CLOCK_REASONS,
    Device,
    EccCount,
    Health,
    Limits,
    Load,
    SourceFailed,
    SourceLost,
)

_LOST = {
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_FOUND,
}
_FAILED = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
_UNSUPPORTED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
# Field values read in one call: the memory's temperature, and nanoseconds per reason.
_MEMORY_TEMPERATURE = pynvml.NVML_FI_DEV_MEMORY_TEMP
_REASON_FIELDS = {
    "sw_power_cap": 74,
    "sync_boost": 76,
    "sw_thermal_slowdown": 269,
    "hw_thermal_slowdown": 270,
    "hw_power_brake_slowdown": 271,
}
_ERRORS = (("corrected", 0), ("uncorrected", 1))
_SCOPES = (("volatile", 0), ("aggregate", 1))
_LOCATIONS = (("l1", 0), ("l2", 1), ("dram", 2), ("reg", 3), ("tex", 4), ("cbu", 6), ("sram", 7))
_MISSING = 0xFFFFFFFFFFFFFFFF


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else value * factor


class NvmlSource:
    """All GPUs of this machine. `sysfs` is where /sys is found."""

    name = "nvml"

    def __init__(self, sysfs: Path) -> None:
        self._sysfs = sysfs
        self._handles: dict[int, Any] = {}
        self._unsupported: set[tuple[int, str]] = set()
        self._driver = ""

    def open(self) -> None:
        try:
            pynvml.nvmlInit()
            self._driver = _text(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            raise SourceFailed(f"NVML does not start: {error}") from None

    def refresh(self) -> None:
        """Forget the handles; reconnect, since a GPU once lost stays lost to this connection."""
        self._handles.clear()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass  # the connection is being given up either way
        self.open()

    def slots(self) -> tuple[int, ...]:
        try:
            return tuple(range(pynvml.nvmlDeviceGetCount()))
        except pynvml.NVMLError as error:
            raise SourceFailed(f"NVML cannot count the GPUs: {error}") from None

    def expected(self) -> int:
        found = 0
        for device in (self._sysfs / "bus/pci/devices").glob("*"):
            try:
                vendor = (device / "vendor").read_text().strip()
                kind = (device / "class").read_text().strip()
            except OSError:
                continue
            found += vendor == "0x10de" and kind[:6] in ("0x0302", "0x0300")
        return found

    def identify(self, slot: int) -> Device:
        uuid = self._ask(slot, "uuid", pynvml.nvmlDeviceGetUUID)
        pci = self._ask(slot, "pci", pynvml.nvmlDeviceGetPciInfo)
        if uuid is None or pci is None:
            raise SourceLost(slot)  # a device without identity cannot be told from another
        name = self._ask(slot, "name", pynvml.nvmlDeviceGetName)
        serial = self._ask(slot, "serial", pynvml.nvmlDeviceGetSerial)
        return Device(
            slot, _text(uuid), _text(pci.busId), _text(name or ""), _text(serial or ""), self._driver
        )  # fmt: skip

    def presence(self, slot: int) -> None:
        # The temperature comes from the chip: the cheapest call that the driver cannot answer alone.
        self._temperature(slot)

    def load(self, slot: int, now: float) -> Load:
        use = self._ask(slot, "utilization", pynvml.nvmlDeviceGetUtilizationRates)
        memory = self._ask(slot, "memory", pynvml.nvmlDeviceGetMemoryInfo)
        ask = self._ask
        bits = ask(slot, "events", pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        if bits is None:
            bits = ask(slot, "reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        fields = self._fields(slot)
        seconds = {
            reason: fields[field] * 1e-9
            for reason, field in _REASON_FIELDS.items()
            if field in fields
        }
        return Load(
            utilization=None if use is None else use.gpu / 100,
            memory_activity=None if use is None else use.memory / 100,
            memory_total=None if memory is None else memory.total,
            memory_used=None if memory is None else memory.used,
            memory_free=None if memory is None else memory.free,
            temperature=self._temperature(slot),
            memory_temperature=fields.get(_MEMORY_TEMPERATURE),
            power=_scaled(ask(slot, "power", pynvml.nvmlDeviceGetPowerUsage), 1e-3),
            energy=_scaled(ask(slot, "energy", pynvml.nvmlDeviceGetTotalEnergyConsumption), 1e-3),
            sm_clock=_scaled(ask(slot, "sm", pynvml.nvmlDeviceGetClockInfo, 1), 1e6),
            memory_clock=_scaled(ask(slot, "mem", pynvml.nvmlDeviceGetClockInfo, 2), 1e6),
            clock_events=None
            if bits is None
            else {reason: bool(bits >> bit & 1) for bit, reason in enumerate(CLOCK_REASONS)},
            clock_event_seconds=seconds or None,
        )

    def health(self, slot: int) -> Health:
        rows = self._ask(slot, "rows", pynvml.nvmlDeviceGetRemappedRows)
        correctable, uncorrectable, pending, failure = rows or (None, None, None, None)
        return Health(
            ecc=tuple(self._ecc(slot)),
            remap_correctable=correctable,
            remap_uncorrectable=uncorrectable,
            remap_pending=None if pending is None else bool(pending),
            remap_failure=None if failure is None else bool(failure),
        )

    def limits(self, slot: int) -> Limits:
        ask, threshold = self._ask, pynvml.nvmlDeviceGetTemperatureThreshold
        return Limits(
            power=_scaled(ask(slot, "limit", pynvml.nvmlDeviceGetEnforcedPowerLimit), 1e-3),
            shutdown=ask(slot, "shutdown", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
            slowdown=ask(slot, "slowdown", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            sm_clock=_scaled(ask(slot, "maxsm", pynvml.nvmlDeviceGetMaxClockInfo, 1), 1e6),
            memory_clock=_scaled(ask(slot, "maxmem", pynvml.nvmlDeviceGetMaxClockInfo, 2), 1e6),
        )

    def _ecc(self, slot: int) -> list[EccCount]:
        found = []
        for error, error_code in _ERRORS:
            for scope, scope_code in _SCOPES:
                for location, place in _LOCATIONS:
                    count = self._ask(
                        slot, f"ecc {error} {scope} {location}",
                        pynvml.nvmlDeviceGetMemoryErrorCounter, error_code, scope_code, place,
                    )  # fmt: skip
                    if count is not None and count != _MISSING:
                        found.append(EccCount(error, scope, location, count))
        return found

    def _temperature(self, slot: int) -> float | None:
        found = self._ask(slot, "temperature", pynvml.nvmlDeviceGetTemperature, 0)
        if found is None and hasattr(pynvml, "nvmlDeviceGetTemperatureV"):  # what replaces it
            found = self._ask(slot, "temperature v1", pynvml.nvmlDeviceGetTemperatureV, 0)
        return None if found is None else float(found)

    def _fields(self, slot: int) -> dict[int, float]:
        """Field values by id; those that this GPU does not have are left out."""
        wanted = [_MEMORY_TEMPERATURE, *_REASON_FIELDS.values()]
        values = self._ask(slot, "fields", pynvml.nvmlDeviceGetFieldValues, wanted) or ()
        found: dict[int, float] = {}
        for value in values:
            if value.nvmlReturn == pynvml.NVML_SUCCESS:
                members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
                if value.valueType < len(members):
                    found[value.fieldId] = float(getattr(value.value, members[value.valueType]))
        return found

    def _ask(self, slot: int, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """One quantity of one GPU, or None. Raises SourceLost and SourceFailed."""
        if (slot, what) in self._unsupported:
            return None
        try:
            return call(self._handle(slot), *arguments)
        except pynvml.NVMLError as error:
            if error.value in _LOST:
                raise SourceLost(slot) from None
            if error.value in _FAILED:
                raise SourceFailed(str(error)) from None
            if error.value in _UNSUPPORTED:
                self._unsupported.add((slot, what))
            return None

    def _handle(self, slot: int) -> Any:
        """The handle, kept because it is dear to get. Raises SourceLost and SourceFailed."""
        if slot not in self._handles:
            try:
                self._handles[slot] = pynvml.nvmlDeviceGetHandleByIndex(slot)
            except pynvml.NVMLError as error:
                if error.value in _FAILED:
                    raise SourceFailed(str(error)) from None
                raise SourceLost(slot) from None
        return self._handles[slot]
