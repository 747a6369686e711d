"""The driver's library, NVML: the only file that imports its binding.

A code of one GPU concerns that GPU; a code of the library concerns all. What a card does not support,
or a driver does not know, is remembered and not asked again; any other call that fails is counted by
its code and leaves its quantity out until the next read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pynvml

from exporter.sources import nvml_groups
from exporter.sources.base import (
    BusGpu,
    Device,
    GpuEvent,
    Group,
    Progress,
    Reading,
    SourceFailed,
    SourceLost,
)
from exporter.sources.bus import bus_gpus
from exporter.sources.nvml_groups import Field
from exporter.sources.nvml_symbols import SYMBOLS

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
# What a person can do about a library that does not start.
_ADVICE = {
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the kernel driver is not loaded: `modprobe nvidia`",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is missing: install the NVIDIA driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA library and the kernel driver have different versions: reload the driver, or reboot"
    ),
}
_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
_ARCHITECTURES = {
    2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada",
    9: "hopper", 10: "blackwell",
}  # fmt: skip
_EVENT_WAIT_MS = 1000
_EVENTS: dict[int, str] = {0x8: "xid", 0x2: "ecc", 0x4000: "unavailable", 0x8000: "recovery"}


def failure(error: Any) -> SourceFailed:
    """The library's error as a sentence that helps."""
    return SourceFailed(f"NVML does not answer: {_ADVICE.get(error.value, str(error))}")


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


class Driver:
    """Calls of the library about GPUs by their number, each announced to `progress` before it is made."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._handles: dict[int, Any] = {}
        self._unsupported: set[tuple[int, str, object]] = set()
        self._samples: dict[tuple[int, int | None], Any] = {}
        self.errors: dict[str, int] = {}

    def forget(self) -> None:
        """The connection is a new one: old handles and samples mean nothing."""
        self._handles.clear()
        self._samples.clear()
        self._unsupported.clear()

    def handle(self, slot: int) -> Any:
        """The handle, kept because it is dear to get. Raises SourceLost and SourceFailed."""
        if slot not in self._handles:
            self._progress()
            try:
                self._handles[slot] = pynvml.nvmlDeviceGetHandleByIndex(slot)
            except pynvml.NVMLError as error:
                if error.value in _FAILED:
                    raise failure(error) from None
                raise SourceLost(slot) from None
        return self._handles[slot]

    def ask(self, slot: int, name: str, *arguments: Any, of: Any = None) -> Any:
        """What the function of that name says of the GPU, or of a part of it (`of`); None when it
        says nothing. Raises SourceLost and SourceFailed."""
        return self.call(
            slot, (name, *map(str, arguments)), self._function(name), *arguments, of=of
        )

    def call(
        self, slot: int, key: object, function: Callable[..., Any], *arguments: Any, of: Any = None
    ) -> Any:
        """`ask` for a function that is composed here; `key` is what may be unsupported."""
        known = (slot, "", key)
        if known in self._unsupported:
            return None
        handle = self.handle(slot) if of is None else of
        self._progress()
        try:
            return function(handle, *arguments)
        except pynvml.NVMLError as error:
            if error.value in _LOST and of is None:
                raise SourceLost(slot) from None
            if error.value in _FAILED:
                raise failure(error) from None
            if error.value in _UNSUPPORTED:
                self._unsupported.add(known)
            elif error.value not in _LOST:
                code = str(error.value)
                self.errors[code] = self.errors.get(code, 0) + 1
            return None

    def fields(self, slot: int, wanted: Sequence[Field]) -> dict[Field, int]:
        """Field values by (id, scope), in one call; those that the card does not have are left out."""
        asked = [field for field in wanted if (slot, "field", field) not in self._unsupported]
        values = self.ask(slot, "nvmlDeviceGetFieldValues", asked) if asked else None
        found: dict[Field, int] = {}
        for field, value in zip(asked, values or (), strict=False):
            if value.nvmlReturn == pynvml.NVML_SUCCESS and value.valueType < len(_VALUES):
                found[field] = int(getattr(value.value, _VALUES[value.valueType]))
            elif value.nvmlReturn in _UNSUPPORTED:
                self._unsupported.add((slot, "field", field))
            elif value.nvmlReturn in _LOST:
                raise SourceLost(slot)
        return found

    def memory(self, slot: int) -> Any:
        """Memory with the driver's own share where the driver knows it (version 2), else without."""
        function = pynvml.nvmlDeviceGetMemoryInfo
        found = self.call(slot, "memory v2", function, pynvml.nvmlMemory_v2)
        return self.call(slot, "memory v1", function) if found is None else found

    def fabric(self, slot: int) -> Any:
        """Registration with the NVLink fabric; version 3 of the structure, else 2."""
        for shape, version in (
            (pynvml.c_nvmlGpuFabricInfo_v3_t, pynvml.nvmlGpuFabricInfo_v3),
            (pynvml.c_nvmlGpuFabricInfo_v2_t, pynvml.nvmlGpuFabricInfo_v2),
        ):
            info = shape()
            info.version = version
            asked = pynvml.nvmlDeviceGetGpuFabricInfoV
            if self.call(slot, f"fabric {version}", asked, pynvml.byref(info)) is not None:
                return info
        return None

    def sram(self, slot: int) -> Any:
        """Uncorrectable SRAM errors by unit, and whether they passed the threshold."""
        status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
        status.version = pynvml.nvmlEccSramErrorStatus_v1
        asked = pynvml.nvmlDeviceGetSramEccErrorStatus
        return status if self.call(slot, "sram", asked, pynvml.byref(status)) is not None else None

    def gpm(
        self, slot: int, metrics: Sequence[int], instance: int | None = None
    ) -> dict[int, float]:
        """Profiling metrics since the sample before, of the GPU or of a GPU instance of it; none at
        the first call. No profiler session is held and nothing sleeps."""
        if not self._has_gpm(slot):
            return {}
        before = self._samples.get((slot, instance))
        sample = self.call(slot, ("gpm", instance), _gpm_sample, instance)
        if sample is None:
            return {}
        self._samples[slot, instance] = sample
        if before is None:
            return {}
        self._progress()
        try:
            found = _gpm_metrics(before, sample, metrics)
        except pynvml.NVMLError:
            found = {}
        finally:
            pynvml.nvmlGpmSampleFree(before)
        return found

    def _has_gpm(self, slot: int) -> bool:
        if (slot, "gpm", None) in self._unsupported:
            return False
        support = self.ask(slot, "nvmlGpmQueryDeviceSupport")
        if support is not None and support.isSupportedDevice:
            return True
        self._unsupported.add((slot, "gpm", None))
        return False

    def _function(self, name: str) -> Callable[..., Any]:
        if name not in SYMBOLS:
            raise KeyError(name)
        function: Callable[..., Any] = getattr(pynvml, name, _absent)
        return function


def _absent(*_: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def _gpm_sample(handle: Any, instance: int | None) -> Any:
    sample = pynvml.nvmlGpmSampleAlloc()
    try:
        if instance is None:
            pynvml.nvmlGpmSampleGet(handle, sample)
        else:
            pynvml.nvmlGpmMigSampleGet(handle, instance, sample)
    except pynvml.NVMLError:
        pynvml.nvmlGpmSampleFree(sample)
        raise
    return sample


def _gpm_metrics(before: Any, after: Any, metrics: Sequence[int]) -> dict[int, float]:
    wanted = pynvml.c_nvmlGpmMetricsGet_t()
    wanted.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    wanted.numMetrics = len(metrics)
    wanted.sample1, wanted.sample2 = before, after
    for place, metric in enumerate(metrics):
        wanted.metrics[place].metricId = metric
    pynvml.nvmlGpmMetricsGet(wanted)
    given = (wanted.metrics[place] for place in range(len(metrics)))
    return {m.metricId: float(m.value) for m in given if m.nvmlReturn == pynvml.NVML_SUCCESS}


def connect() -> tuple[str, str]:
    """Start the library; returns the versions of driver and CUDA. Raises SourceFailed."""
    try:
        pynvml.nvmlInit()
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        number = pynvml.nvmlSystemGetCudaDriverVersion()
    except pynvml.NVMLError as error:
        raise failure(error) from None
    return driver, f"{number // 1000}.{number % 1000 // 10}"


class NvmlSource:
    """All GPUs of this machine. `procfs` and `sysfs` are where /proc and /sys are found."""

    name = "nvml"

    def __init__(self, procfs: Path, sysfs: Path, progress: Progress) -> None:
        self._procfs = procfs
        self._sysfs = sysfs
        self._progress = progress
        self._driver = Driver(progress)
        self._groups = nvml_groups.Groups(self._driver)
        self._versions = ("", "")

    def open(self) -> None:
        self._versions = connect()

    def refresh(self) -> None:
        """Reconnect, since a GPU once lost stays lost to this connection."""
        self._driver.forget()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass  # the connection is being given up either way
        self.open()

    def slots(self) -> tuple[int, ...]:
        self._progress()
        try:
            return tuple(range(pynvml.nvmlDeviceGetCount()))
        except pynvml.NVMLError as error:
            raise failure(error) from None

    def bus(self) -> tuple[BusGpu, ...]:
        return bus_gpus(self._procfs, self._sysfs)

    def identify(self, slot: int) -> Device:
        ask = self._driver.ask
        uuid = ask(slot, "nvmlDeviceGetUUID")
        pci = ask(slot, "nvmlDeviceGetPciInfo")
        if uuid is None or pci is None:
            raise SourceLost(slot)  # a device without identity cannot be told from another
        minor = ask(slot, "nvmlDeviceGetMinorNumber")
        architecture = ask(slot, "nvmlDeviceGetArchitecture")
        return Device(
            slot, _text(uuid), _text(pci.busId),
            name=_text(ask(slot, "nvmlDeviceGetName")),
            serial=_text(ask(slot, "nvmlDeviceGetSerial")),
            driver=self._versions[0], cuda=self._versions[1],
            vbios=_text(ask(slot, "nvmlDeviceGetVbiosVersion")),
            architecture=_ARCHITECTURES.get(architecture, ""),
            minor="" if minor is None else str(minor),
        )  # fmt: skip

    def presence(self, slot: int) -> None:
        # The temperature comes from the chip: the cheapest call that the driver cannot answer alone.
        self._groups.temperature(slot)

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        return self._groups.read(slot, group, now)

    def errors(self) -> dict[str, int]:
        counted, self._driver.errors = self._driver.errors, {}
        return counted


def events(log: Callable[..., None]) -> Iterator[GpuEvent | None]:
    """What the driver tells of its own accord, as it comes; None each second in which it tells
    nothing. Raises SourceFailed when the library does not answer."""
    connect()
    event_set, uuids = _register(log)
    while True:
        try:
            data = pynvml.nvmlEventSetWait_v2(event_set, _EVENT_WAIT_MS)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:
                raise failure(error) from None
            yield None
            continue
        kind = _EVENTS.get(data.eventType)
        uuid, bus = uuids.get(_address(data.device), ("", ""))
        if kind is not None:
            code = data.eventData if kind == "xid" else data.eventType
            yield GpuEvent(uuid, bus, kind, int(code))  # type: ignore[arg-type]


def _address(handle: Any) -> int | None:
    return pynvml.cast(handle, pynvml.c_void_p).value  # type: ignore[no-any-return]


def _register(log: Callable[..., None]) -> tuple[Any, dict[int | None, tuple[str, str]]]:
    """An event set that hears every GPU, and who each handle is. A GPU that cannot be registered is
    left to the kernel log."""
    uuids: dict[int | None, tuple[str, str]] = {}
    try:
        event_set = pynvml.nvmlEventSetCreate()
        for slot in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(slot)
                bus = _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
                uuids[_address(handle)] = (_text(pynvml.nvmlDeviceGetUUID(handle)), bus)
                kinds = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & sum(_EVENTS)
                if kinds:
                    pynvml.nvmlDeviceRegisterEvents(handle, kinds, event_set)
            except pynvml.NVMLError as error:
                log("gpu_without_events", slot=slot, why=str(error))
    except pynvml.NVMLError as error:
        raise failure(error) from None
    return event_set, uuids
