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
    BusGpu,
    Device,
    Group,
    Progress,
    Reading,
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


def _readings(*rows: tuple[str, tuple[str, ...], float | None]) -> tuple[Reading, ...]:
    return tuple(Reading(name, labels, value) for name, labels, value in rows if value is not None)


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else value * factor


class NvmlSource:
    """All GPUs of this machine. `sysfs` is where /sys is found."""

    name = "nvml"

    def __init__(self, sysfs: Path, progress: Progress) -> None:
        self._sysfs = sysfs
        self._progress = progress
        self._errors: dict[str, int] = {}
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

    def bus(self) -> tuple[BusGpu, ...]:
        found = []
        for device in sorted((self._sysfs / "bus/pci/devices").glob("*")):
            try:
                vendor = (device / "vendor").read_text().strip()
                kind = (device / "class").read_text().strip()
            except OSError:
                continue
            if vendor == "0x10de" and kind[:6] in ("0x0302", "0x0300"):
                found.append(BusGpu(device.name))
        return tuple(found)

    def errors(self) -> dict[str, int]:
        counted, self._errors = self._errors, {}
        return counted

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

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        if group == "load":
            return self._load(slot)
        if group == "health":
            return self._health(slot)
        return self._limits(slot) if group == "limits" else ()

    def _load(self, slot: int) -> tuple[Reading, ...]:
        ask = self._ask
        use = ask(slot, "utilization", pynvml.nvmlDeviceGetUtilizationRates)
        memory = ask(slot, "memory", pynvml.nvmlDeviceGetMemoryInfo)
        fields = self._fields(slot)
        power = ask(slot, "power", pynvml.nvmlDeviceGetPowerUsage)
        energy = ask(slot, "energy", pynvml.nvmlDeviceGetTotalEnergyConsumption)
        sm = ask(slot, "sm", pynvml.nvmlDeviceGetClockInfo, 1)
        memory_clock = ask(slot, "mem", pynvml.nvmlDeviceGetClockInfo, 2)
        bits = ask(slot, "events", pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        if bits is None:
            bits = ask(slot, "reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        reasons = () if bits is None else enumerate(CLOCK_REASONS)
        return _readings(
            ("gpu_utilization_ratio", (), None if use is None else use.gpu / 100),
            ("gpu_memory_activity_ratio", (), None if use is None else use.memory / 100),
            ("gpu_memory_total_bytes", (), None if memory is None else memory.total),
            ("gpu_memory_used_bytes", (), None if memory is None else memory.used),
            ("gpu_memory_free_bytes", (), None if memory is None else memory.free),
            ("gpu_temperature_celsius", ("gpu",), self._temperature(slot)),
            ("gpu_temperature_celsius", ("memory",), fields.get(_MEMORY_TEMPERATURE)),
            ("gpu_power_watts", ("gpu",), _scaled(power, 1e-3)),
            ("gpu_energy_joules_total", (), _scaled(energy, 1e-3)),
            ("gpu_clock_hertz", ("sm",), _scaled(sm, 1e6)),
            ("gpu_clock_hertz", ("memory",), _scaled(memory_clock, 1e6)),
            *(("gpu_clock_event_active", (r,), (bits or 0) >> n & 1) for n, r in reasons),
            *(
                ("gpu_clock_event_seconds_total", (reason,), fields[field] * 1e-9)
                for reason, field in _REASON_FIELDS.items()
                if field in fields
            ),
        )

    def _health(self, slot: int) -> tuple[Reading, ...]:
        rows = self._ask(slot, "rows", pynvml.nvmlDeviceGetRemappedRows)
        correctable, uncorrectable, pending, failure = rows or (None, None, None, None)
        return _readings(
            *self._ecc(slot),
            ("gpu_row_remap_total", ("correctable",), correctable),
            ("gpu_row_remap_total", ("uncorrectable",), uncorrectable),
            ("gpu_row_remap_pending", (), pending),
            ("gpu_row_remap_failure", (), failure),
        )

    def _limits(self, slot: int) -> tuple[Reading, ...]:
        ask, threshold = self._ask, pynvml.nvmlDeviceGetTemperatureThreshold
        power = ask(slot, "limit", pynvml.nvmlDeviceGetEnforcedPowerLimit)
        sm = ask(slot, "maxsm", pynvml.nvmlDeviceGetMaxClockInfo, 1)
        memory = ask(slot, "maxmem", pynvml.nvmlDeviceGetMaxClockInfo, 2)
        slowdown = ask(slot, "slowdown", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        shutdown = ask(slot, "shutdown", threshold, pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
        return _readings(
            ("gpu_power_limit_watts", ("enforced",), _scaled(power, 1e-3)),
            ("gpu_temperature_threshold_celsius", ("slowdown",), slowdown),
            ("gpu_temperature_threshold_celsius", ("shutdown",), shutdown),
            ("gpu_clock_max_hertz", ("sm",), _scaled(sm, 1e6)),
            ("gpu_clock_max_hertz", ("memory",), _scaled(memory, 1e6)),
        )

    def _ecc(self, slot: int) -> list[tuple[str, tuple[str, ...], float | None]]:
        found: list[tuple[str, tuple[str, ...], float | None]] = []
        for error, error_code in _ERRORS:
            for scope, scope_code in _SCOPES:
                for location, place in _LOCATIONS:
                    count = self._ask(
                        slot, f"ecc {error} {scope} {location}",
                        pynvml.nvmlDeviceGetMemoryErrorCounter, error_code, scope_code, place,
                    )  # fmt: skip
                    if count is not None and count != _MISSING:
                        found.append(("gpu_ecc_errors_total", (error, scope, location), count))
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
        self._progress()
        try:
            return call(self._handle(slot), *arguments)
        except pynvml.NVMLError as error:
            if error.value in _LOST:
                raise SourceLost(slot) from None
            if error.value in _FAILED:
                raise SourceFailed(str(error)) from None
            if error.value in _UNSUPPORTED:
                self._unsupported.add((slot, what))
            else:
                code = str(error.value)
                self._errors[code] = self._errors.get(code, 0) + 1
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
