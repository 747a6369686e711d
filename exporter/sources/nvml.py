"""Reads GPUs through NVML, the driver's library. Only this module imports NVML's Python binding.

An error of one GPU affects only this GPU; an error of the library affects all GPUs. Unsupported
values are skipped until the GPU is identified again. Other failed calls are counted by their error
code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pynvml

from exporter.sources import nvml_codes
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
from exporter.sources.nvml_codes import INVALID_ARGUMENT, NO_PERMISSION, TIMEOUT, meaning, number_of
from exporter.sources.nvml_driver import Field, Share, text
from exporter.sources.nvml_groups import GroupReader
from exporter.sources.nvml_load import temperature
from exporter.sources.nvml_symbols import SYMBOLS

_BATCH = 64  # field values in one call
_FIELDS, _GPM = "nvmlDeviceGetFieldValues", "nvmlGpmQueryDeviceSupport"
_EVENT_WAIT_MS = 1000


def failure(error: Any) -> SourceFailed:
    """Convert an error of the NVML library to SourceFailed."""
    return nvml_codes.failure(error.value, str(error))


class NvmlDriver:
    """Calls NVML functions for GPUs by number. `progress` is called before each call."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._handles: dict[int, Any] = {}
        self._unsupported: dict[int, set[Hashable]] = {}
        self._answered: dict[int, set[Hashable]] = {}
        self._samples: dict[tuple[int, int | None], Any] = {}
        self.forbidden: set[int] = set()
        self.errors: dict[str, int] = {}

    def forget(self) -> None:
        """Discard cached handles, GPM samples and unsupported values. They are invalid after a reconnect."""
        for key in list(self._samples):
            _free(self._samples.pop(key, None))
        self._handles.clear()
        self._unsupported.clear()
        self._answered.clear()
        self.forbidden.clear()

    def relearn(self, slot: int) -> None:
        self._unsupported.pop(slot, None)
        self._answered.pop(slot, None)

    def handle(self, slot: int) -> Any:
        """Return the GPU's handle, cached because it is expensive. Raises SourceLost and
        SourceFailed."""
        if slot not in self._handles:
            self._progress()
            try:
                self._handles[slot] = pynvml.nvmlDeviceGetHandleByIndex(slot)
            except pynvml.NVMLError as error:
                if meaning(error.value) == "failed":
                    raise failure(error) from None
                if error.value == NO_PERMISSION:
                    self.forbidden.add(slot)  # not accessible to this process, so it is not lost
                raise SourceLost(slot) from None
        return self._handles[slot]

    def verify(self, slot: int) -> None:
        """Check that the library still lists the GPU. Raises SourceLost if it does not."""
        self._handles.pop(slot, None)
        self.handle(slot)

    def ask(self, slot: int, name: str, *arguments: int, of: Any = None) -> Any:
        return self.call(slot, (name, *arguments), _function(name), *arguments, of=of)

    def first(self, slot: int, *names: str, arguments: tuple[int, ...] = ()) -> Any:
        for name in names:
            answer = self.ask(slot, name, *arguments)
            if answer is not None or not self._lacks(slot, (False, (name, *arguments))):
                return answer
        return None

    def call(
        self,
        slot: int,
        key: Hashable,
        function: Callable[..., Any],
        *arguments: Any,
        of: Any = None,
    ) -> Any:
        """Call any function as `ask` does. `key` identifies it in the record of unsupported
        functions."""
        known = (of is not None, key)
        if self._lacks(slot, known):
            return None
        handle = self.handle(slot) if of is None else of
        self._progress()
        try:
            answer = function(handle, *arguments)
        except pynvml.NVMLError as error:
            self._handle_error(slot, known, error, whole=of is None)
            return None
        self._answered.setdefault(slot, set()).add(known)
        return answer

    def fields(self, slot: int, wanted: Iterable[Field]) -> dict[Field, int]:
        asked = [field for field in wanted if not self.lacks(slot, field)]
        found: dict[Field, int] = {}
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            values = self.call(slot, _FIELDS, _function(_FIELDS), batch)
            for field, value in zip(batch, values or (), strict=False):
                if value.nvmlReturn != pynvml.NVML_SUCCESS:
                    self._handle_error(slot, (False, field), pynvml.NVMLError(value.nvmlReturn))
                    continue
                self._answered.setdefault(slot, set()).add((False, field))
                if (number := number_of(value)) is not None:
                    found[field] = number
        return found

    def lacks(self, slot: int, field: Field) -> bool:
        return self._lacks(slot, (False, field)) or self._lacks(slot, (False, _FIELDS))

    def memory(self, slot: int, of: Any = None) -> Any:
        function, version = pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2
        found = self.call(slot, "memory 2", function, version, of=of)
        if found is None and self._lacks(slot, (of is not None, "memory 2")):
            found = self.call(slot, "memory 1", function, of=of)
        return found

    def fabric(self, slot: int) -> Any:
        for shape, name in (
            (pynvml.c_nvmlGpuFabricInfo_v3_t, "nvmlDeviceGetGpuFabricInfoV"),
            (pynvml.c_nvmlGpuFabricInfo_v2_t, "nvmlDeviceGetGpuFabricInfoV"),
            (pynvml.c_nvmlGpuFabricInfo_t, "nvmlDeviceGetGpuFabricInfo"),
        ):
            answer = self._filled(slot, shape.__name__, shape(), name)
            if answer is not None or not self._lacks(slot, (False, shape.__name__)):
                return answer
        return None

    def sram(self, slot: int) -> Any:
        status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
        return self._filled(slot, "sram", status, "nvmlDeviceGetSramEccErrorStatus")

    def _filled(self, slot: int, key: str, answer: Any, name: str) -> Any:
        """Call an NVML function that fills a structure. Returns the structure; None if the call failed."""
        done = self.call(slot, key, _function(name), pynvml.byref(answer))
        return answer if done is not None else None

    def gpm(
        self, slot: int, metrics: Sequence[int], instance: int | None = None
    ) -> dict[int, float]:
        """Return the GPM metrics for the time between the previous call and this call."""
        support = self.ask(slot, _GPM)
        if support is None or not support.isSupportedDevice:
            if support is not None:
                self._unsupported.setdefault(slot, set()).add((False, (_GPM,)))
            return {}
        sample = self.call(slot, ("gpm", instance), _gpm_sample, instance)
        if sample is None:
            return {}
        before = self._samples.pop((slot, instance), None)
        self._samples[slot, instance] = sample
        if before is None:
            return {}
        try:
            found = self.call(
                slot, ("gpm metrics", instance), _gpm_metrics, before, sample, metrics
            )
            return found or {}
        finally:
            _free(before)

    def shares(self, slot: int, since: int) -> list[Share] | None:
        name = "nvmlDeviceGetProcessesUtilizationInfo"
        found = self.call(slot, name, _function(name), since)
        return [Share(s.pid, s.smUtil, s.timeStamp) for s in found] if found is not None else None

    def _lacks(self, slot: int, known: Hashable) -> bool:
        return known in self._unsupported.get(slot, ())

    def _handle_error(self, slot: int, known: Hashable, error: Any, *, whole: bool = True) -> None:
        """Handle an NVML error of a call for a GPU or a part of a GPU. Raises SourceLost and SourceFailed."""
        kind_of_error = meaning(error.value)
        if kind_of_error == "failed":
            raise failure(error)
        if kind_of_error == "lost" and whole:
            raise SourceLost(slot)
        if error.value == INVALID_ARGUMENT and known in self._answered.get(slot, ()):
            kind_of_error = "error"  # the arguments were valid before, so the handle is invalid
        if kind_of_error == "unsupported":
            self._unsupported.setdefault(slot, set()).add(known)
        if kind_of_error == "error" or error.value == NO_PERMISSION:
            code = str(error.value)
            self.errors[code] = self.errors.get(code, 0) + 1


def _function(name: str) -> Callable[..., Any]:
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
        _free(sample)
        raise
    return sample


def _gpm_metrics(_: Any, before: Any, after: Any, metrics: Sequence[int]) -> dict[int, float]:
    wanted = pynvml.c_nvmlGpmMetricsGet_t()
    wanted.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    wanted.numMetrics = len(metrics)
    wanted.sample1, wanted.sample2 = before, after
    for place, metric in enumerate(metrics):
        wanted.metrics[place].metricId = metric
    pynvml.nvmlGpmMetricsGet(wanted)
    given = (wanted.metrics[place] for place in range(len(metrics)))
    return {
        m.metricId: float(m.value)
        for m in given
        if m.nvmlReturn == pynvml.NVML_SUCCESS and 0 <= m.value < math.inf
    }


def _free(sample: Any) -> None:
    if sample is not None:
        try:
            pynvml.nvmlGpmSampleFree(sample)
        except pynvml.NVMLError:
            pass  # the connection of the sample is closed


def _connect() -> None:
    """Initialise the library, even without any GPU (all GPUs are then lost). Raises SourceFailed."""
    try:
        pynvml.nvmlInitWithFlags(pynvml.NVML_INIT_FLAG_NO_GPUS)
    except pynvml.NVMLError as error:
        raise failure(error) from None


class NvmlSource:
    """The NVML source. `procfs` and `sysfs` are the mount points of /proc and /sys."""

    name = "nvml"

    def __init__(self, procfs: Path, sysfs: Path, progress: Progress) -> None:
        self._procfs = procfs
        self._sysfs = sysfs
        self._progress = progress
        self._driver = NvmlDriver(progress)
        self._groups = GroupReader(self._driver)
        self._versions = ("", "")

    def open(self) -> None:
        self._progress()
        _connect()
        self._progress()
        try:
            driver = text(pynvml.nvmlSystemGetDriverVersion())
            cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        except pynvml.NVMLError as error:
            raise failure(error) from None
        self._versions = (driver, f"{cuda // 1000}.{cuda % 1000 // 10}")

    def refresh(self) -> None:
        """Reconnect, because a lost GPU stays lost for an existing connection."""
        self._driver.forget()
        self._progress()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass  # the connection is closed in any case
        self.open()

    def slots(self) -> tuple[int, ...]:
        self._progress()
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise failure(error) from None
        return tuple(slot for slot in range(count) if slot not in self._driver.forbidden)

    def bus(self) -> tuple[BusGpu, ...]:
        return bus_gpus(self._procfs, self._sysfs)

    def identify(self, slot: int) -> Device:
        self._driver.relearn(slot)
        ask = self._driver.ask
        uuid = ask(slot, "nvmlDeviceGetUUID")
        pci = ask(slot, "nvmlDeviceGetPciInfo")
        if uuid is None or pci is None:
            raise SourceLost(slot)  # a device without identity cannot be distinguished from others
        self._groups.set_uuid(slot, text(uuid))
        minor = ask(slot, "nvmlDeviceGetMinorNumber")
        architecture = ask(slot, "nvmlDeviceGetArchitecture")
        return Device(
            slot,
            text(uuid),
            text(pci.busId),
            name=text(ask(slot, "nvmlDeviceGetName")),
            serial=text(ask(slot, "nvmlDeviceGetSerial")),
            driver=self._versions[0],
            cuda=self._versions[1],
            vbios=text(ask(slot, "nvmlDeviceGetVbiosVersion")),
            architecture=nvml_codes.ARCHITECTURES.get(architecture, ""),
            minor="" if minor is None else str(minor),
        )

    def presence(self, slot: int) -> None:
        # The temperature is the cheapest value that the driver must read from the chip.
        if temperature(self._driver, slot) is None:
            self._driver.verify(slot)

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        return self._groups.read(slot, group, now)

    def errors(self) -> dict[str, int]:
        counted, self._driver.errors = self._driver.errors, {}
        return counted


def events(log: Callable[..., None]) -> Iterator[GpuEvent | None]:
    """Yield the driver's events as they occur, and None for each second without an event.

    Raises SourceFailed if the library fails or has lost a registered GPU.
    """
    _connect()
    event_set, known = _register(log)
    while True:
        try:
            data = pynvml.nvmlEventSetWait_v2(event_set, _EVENT_WAIT_MS)
        except pynvml.NVMLError as error:
            if error.value == TIMEOUT:
                yield None
                continue
            if meaning(error.value) == "lost":
                yield GpuEvent("", "", "unavailable", nvml_codes.UNAVAILABLE)
            raise failure(error) from None
        kind = nvml_codes.EVENTS.get(data.eventType)
        if kind is not None:
            address = pynvml.cast(data.device, pynvml.c_void_p).value
            uuid, bus = known.get(address, ("", ""))
            code = data.eventData if kind == "xid" else data.eventType
            yield GpuEvent(uuid, bus, kind, int(code))


def _register(log: Callable[..., None]) -> tuple[Any, dict[int | None, tuple[str, str]]]:
    """Return an event set for all GPUs that can be registered, and the identity of each handle."""
    known: dict[int | None, tuple[str, str]] = {}
    try:
        event_set = pynvml.nvmlEventSetCreate()
        for slot in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(slot)
                bus = text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
                address = pynvml.cast(handle, pynvml.c_void_p).value
                known[address] = (text(pynvml.nvmlDeviceGetUUID(handle)), bus)
                kinds = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & sum(nvml_codes.EVENTS)
                if kinds:
                    pynvml.nvmlDeviceRegisterEvents(handle, kinds, event_set)
            except pynvml.NVMLError as error:
                log("gpu_without_events", slot=slot, why=str(error))
    except pynvml.NVMLError as error:
        raise failure(error) from None
    return event_set, known
