"""Which calls of NVML make up each group of readings, and in which unit each answer comes.

Field values are read many at a time: one call of the driver instead of one each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from exporter.sources.base import CLOCK_REASONS, Group, Reading

Field = tuple[int, int]  # id and scope
Row = tuple[str, tuple[str, ...], float | None]

_MEMORY_TEMPERATURE: Field = (82, 0)
_POWER: dict[str, Field] = {"gpu": (186, 0), "module": (186, 1), "memory": (186, 2)}
REASON_SECONDS: dict[str, Field] = {
    "sw_power_cap": (74, 0),
    "sync_boost": (76, 0),
    "sw_thermal_slowdown": (269, 0),
    "hw_thermal_slowdown": (270, 0),
    "hw_power_brake_slowdown": (271, 0),
}
_LOAD_FIELDS = (_MEMORY_TEMPERATURE, *_POWER.values(), *REASON_SECONDS.values())
_CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
_ENGINES = {
    "encoder": "nvmlDeviceGetEncoderUtilization",
    "decoder": "nvmlDeviceGetDecoderUtilization",
    "jpeg": "nvmlDeviceGetJpgUtilization",
    "ofa": "nvmlDeviceGetOfaUtilization",
}
_GPM_RATIOS: dict[int, tuple[str, tuple[str, ...]]] = {
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
_GPM_RATES = {  # MiB a second
    20: "gpu_pcie_transmit_bytes_per_second",
    21: "gpu_pcie_receive_bytes_per_second",
    60: "gpu_nvlink_receive_bytes_per_second",
    61: "gpu_nvlink_transmit_bytes_per_second",
}
_ERRORS = {"corrected": 0, "uncorrected": 1}
_SCOPES = {"volatile": 0, "aggregate": 1}
_LOCATIONS = {"l1": 0, "l2": 1, "dram": 2, "reg": 3, "tex": 4, "cbu": 6, "sram": 7}
_NO_COUNT = 0xFFFFFFFFFFFFFFFF
_RECOVERY: Field = (230, 0)
RECOVERY_ACTIONS = (
    "none", "gpu_reset", "node_reboot", "drain_p2p", "drain_reset", "recover_imex",
)  # fmt: skip
FABRIC_STATES = ("not_supported", "not_started", "in_progress", "completed")
# Condition: shift of two bits that are 1 when it is unhealthy and 2 when it is healthy.
FABRIC_BITS = {"bandwidth": 0, "route_recovery": 2, "route": 4, "access_timeout": 6}
_FABRIC_CONFIGURATION = 8  # four bits: 1 is right, above that wrong
MAX_LINKS = 18
_LINK_TOTALS: Field = (0, 0xFFFFFFFF)
LINK_ERRORS = {"replay": 161, "recovery": 162, "crc": 163}
_LINK_ERRORS_5 = {
    "malformed": 206,
    "buffer_overrun": 207,
    "rx": 208,
    "integrity": 211,
    "symbol": 221,
}
_LINK_BYTES = {"gpu_nvlink_transmit_bytes_total": 138, "gpu_nvlink_receive_bytes_total": 139}
_LINK_BYTES_5 = {"gpu_nvlink_transmit_bytes_total": 202, "gpu_nvlink_receive_bytes_total": 204}
ALL_LINKS = 0xFFFFFFFF
PCIE_ERRORS = {
    "replay_rollover": 95, "l0_to_recovery": 169, "correctable": 173, "nak_received": 174,
    "receiver": 175, "bad_tlp": 176, "nak_sent": 177, "bad_dllp": 178, "non_fatal": 179, "fatal": 180,
}  # fmt: skip
_PCIE_REPLAY: Field = (94, 0)
_PCIE_BYTES: dict[str, Field] = {
    "gpu_pcie_transmit_bytes_total": (197, 0),
    "gpu_pcie_receive_bytes_total": (198, 0),
}
_RETIRED = {"single_bit": (29, 0), "double_bit": (30, 0)}
_POWER_LIMITS: dict[str, Field] = {
    "min": (187, 0), "max": (188, 0), "default": (189, 0), "enforced": (190, 0), "requested": (192, 0),
}  # fmt: skip
_THRESHOLDS = {"shutdown": 0, "slowdown": 1, "memory_max": 2, "gpu_max": 3}


class Driver(Protocol):
    """What the groups need of the library; each method may raise SourceLost and SourceFailed."""

    def ask(self, slot: int, name: str, *arguments: Any, of: Any = None) -> Any: ...
    def fields(self, slot: int, wanted: Sequence[Field]) -> dict[Field, int]: ...
    def memory(self, slot: int) -> Any: ...
    def fabric(self, slot: int) -> Any: ...
    def sram(self, slot: int) -> Any: ...
    def gpm(
        self, slot: int, metrics: Sequence[int], instance: int | None = None
    ) -> dict[int, float]: ...


def scaled(value: float | None, divisor: float) -> float | None:
    """The value in base units, of one that comes in so many parts of them."""
    return None if value is None else value / divisor


class Unwrapped:
    """A counter of 32 bits made one that does not fall; it begins at 0, so that a start of the
    exporter is no jump."""

    def __init__(self) -> None:
        self._last: int | None = None
        self.total = 0

    def add(self, raw: int) -> int:
        """The total after the hardware's counter reads `raw`."""
        if self._last is not None:
            step = raw - self._last
            # A fall from the upper half is a wrap; any other means that the card was reset.
            wrapped = step < 0 and self._last >= 1 << 31 and self._last < 1 << 32
            self.total += step + (1 << 32) if wrapped else raw if step < 0 else step
        self._last = raw
        return self.total


class Groups:
    """Reads the groups of each GPU through a driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._bytes: dict[tuple[int, str], Unwrapped] = {}
        self._readers = {
            "load": self._load, "gpm": self._gpm, "health": self._health, "links": self._links,
            "mig": self._mig, "processes": self._processes, "limits": self._limits,
        }  # fmt: skip

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        """The readings that the card gives. Raises SourceLost and SourceFailed."""
        rows = self._readers[group](slot)
        return tuple(
            Reading(name, labels, value) for name, labels, value in rows if value is not None
        )

    def temperature(self, slot: int) -> float | None:
        """Of the die, by the call that replaces the older one where that is gone."""
        found = self._driver.ask(slot, "nvmlDeviceGetTemperature", 0)
        if found is None:
            found = self._driver.ask(slot, "nvmlDeviceGetTemperatureV", 0)
        return None if found is None else float(found)

    def _load(self, slot: int) -> Iterator[Row]:
        ask = self._driver.ask
        if (use := ask(slot, "nvmlDeviceGetUtilizationRates")) is not None:
            yield "gpu_utilization_ratio", (), use.gpu / 100
            yield "gpu_memory_activity_ratio", (), use.memory / 100
        for engine, name in _ENGINES.items():
            if (share := ask(slot, name)) is not None:
                yield f"gpu_{engine}_utilization_ratio", (), share[0] / 100
        if (memory := self._driver.memory(slot)) is not None:
            for what in ("total", "used", "free", "reserved"):
                yield f"gpu_memory_{what}_bytes", (), getattr(memory, what, None)
        if (window := ask(slot, "nvmlDeviceGetBAR1MemoryInfo")) is not None:
            yield "gpu_bar1_total_bytes", (), window.bar1Total
            yield "gpu_bar1_used_bytes", (), window.bar1Used
        fields = self._driver.fields(slot, _LOAD_FIELDS)
        yield "gpu_temperature_celsius", ("gpu",), self.temperature(slot)
        yield "gpu_temperature_celsius", ("memory",), fields.get(_MEMORY_TEMPERATURE)
        margin = ask(slot, "nvmlDeviceGetMarginTemperature")
        # A margin of 0 or less is reported by healthy cards too.
        yield "gpu_thermal_margin_celsius", (), margin if margin and margin > 0 else None
        yield from self._power(slot, fields)
        for domain, number in _CLOCKS.items():
            clock = ask(slot, "nvmlDeviceGetClockInfo", number)
            yield "gpu_clock_hertz", (domain,), None if clock is None else clock * 1_000_000
        yield "gpu_performance_state", (), ask(slot, "nvmlDeviceGetPerformanceState")
        yield from self._clock_events(slot, fields)
        for fan in range(ask(slot, "nvmlDeviceGetNumFans") or 0):
            speed = ask(slot, "nvmlDeviceGetFanSpeed_v2", fan)
            yield "gpu_fan_speed_ratio", (str(fan),), scaled(speed, 100)

    def _power(self, slot: int, fields: dict[Field, int]) -> Iterator[Row]:
        for scope, field in _POWER.items():
            watts = fields.get(field)
            if watts is None and scope == "gpu":
                watts = self._driver.ask(slot, "nvmlDeviceGetPowerUsage")
            yield "gpu_power_watts", (scope,), scaled(watts, 1000)
        energy = self._driver.ask(slot, "nvmlDeviceGetTotalEnergyConsumption")
        yield "gpu_energy_joules_total", (), scaled(energy, 1000)

    def _clock_events(self, slot: int, fields: dict[Field, int]) -> Iterator[Row]:
        bits = self._driver.ask(slot, "nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._driver.ask(slot, "nvmlDeviceGetCurrentClocksThrottleReasons")
        for place, reason in enumerate(CLOCK_REASONS if bits is not None else ()):
            yield "gpu_clock_event_active", (reason,), bits >> place & 1
        for reason, field in REASON_SECONDS.items():
            yield "gpu_clock_event_seconds_total", (reason,), scaled(fields.get(field), 1e9)

    def _gpm(self, slot: int) -> Iterator[Row]:
        found = self._driver.gpm(slot, (*_GPM_RATIOS, *_GPM_RATES))
        for metric, (name, labels) in _GPM_RATIOS.items():
            yield name, labels, scaled(found.get(metric), 100)
        for metric, name in _GPM_RATES.items():
            rate = found.get(metric)
            yield name, (), None if rate is None else rate * (1 << 20)

    def _health(self, slot: int) -> Iterator[Row]:
        ask = self._driver.ask
        yield from self._ecc(slot)
        if (rows := ask(slot, "nvmlDeviceGetRemappedRows")) is not None:
            yield "gpu_row_remap_total", ("correctable",), rows[0]
            yield "gpu_row_remap_total", ("uncorrectable",), rows[1]
            yield "gpu_row_remap_pending", (), rows[2]
            yield "gpu_row_remap_failure", (), rows[3]
        if (banks := ask(slot, "nvmlDeviceGetRowRemapperHistogram")) is not None:
            for left in ("max", "high", "partial", "low", "none"):
                yield "gpu_row_remap_banks", (left,), getattr(banks, left)
        yield "gpu_unrepairable_memory", (), ask(slot, "nvmlDeviceGetUnrepairableMemoryFlag_v1")
        pending = ask(slot, "nvmlDeviceGetRetiredPagesPendingStatus")
        yield "gpu_retired_pages_pending", (), pending
        fields = self._driver.fields(slot, (_RECOVERY, *_RETIRED.values()))
        if pending is not None:
            for cause, field in _RETIRED.items():
                yield "gpu_retired_pages_total", (cause,), fields.get(field)
        if (action := fields.get(_RECOVERY)) is not None:
            for number, name in enumerate(RECOVERY_ACTIONS):
                yield "gpu_recovery_action", (name,), int(number == action)
        yield from self._fabric(slot)

    def _ecc(self, slot: int) -> Iterator[Row]:
        for error, error_code in _ERRORS.items():
            for scope, scope_code in _SCOPES.items():
                for location, place in _LOCATIONS.items():
                    count = self._driver.ask(
                        slot, "nvmlDeviceGetMemoryErrorCounter", error_code, scope_code, place
                    )
                    if count != _NO_COUNT:
                        yield "gpu_ecc_errors_total", (error, scope, location), count
        if (sram := self._driver.sram(slot)) is not None:
            for source, name in (
                ("l2", "L2"), ("sm", "Sm"), ("microcontroller", "Mcu"), ("pcie", "Pcie"), ("other", "Other"),
            ):  # fmt: skip
                count = getattr(sram, f"aggregateUncBucket{name}")
                yield "gpu_sram_ecc_uncorrectable_source_total", (source,), count
            yield "gpu_sram_ecc_threshold_exceeded", (), int(bool(sram.bThresholdExceeded))

    def _fabric(self, slot: int) -> Iterator[Row]:
        info = self._driver.fabric(slot)
        if info is None:
            return
        for number, state in enumerate(FABRIC_STATES):
            yield "gpu_fabric_state", (state,), int(info.state == number)
        if FABRIC_STATES[info.state : info.state + 1] != ("completed",):
            return
        yield "gpu_fabric_status", (), info.status
        for condition, shift in FABRIC_BITS.items():
            bits = info.healthMask >> shift & 3
            yield "gpu_fabric_health", (condition,), {1: 0, 2: 1}.get(bits)
        configuration = info.healthMask >> _FABRIC_CONFIGURATION & 15
        known = int(configuration == 1) if configuration else None
        yield "gpu_fabric_health", ("configuration",), known
        uuid = bytes(info.clusterUuid).hex()
        yield "gpu_fabric_info", (uuid, str(info.cliqueId)), 1

    def _links(self, slot: int) -> Iterator[Row]:
        ask = self._driver.ask
        states = {link: ask(slot, "nvmlDeviceGetNvLinkState", link) for link in range(MAX_LINKS)}
        links = [link for link, state in states.items() if state is not None]
        for link in links:
            yield "gpu_nvlink_up", (str(link),), states[link]
        if links:
            yield from self._nvlink(slot, links)
        for which, generation, width in (
            ("current", "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth"),
            ("max", "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkWidth"),
        ):
            yield "gpu_pcie_link_generation", (which,), ask(slot, generation)
            yield "gpu_pcie_link_width", (which,), ask(slot, width)
        errors: dict[str, Field] = {kind: (number, 0) for kind, number in PCIE_ERRORS.items()}
        fields = self._driver.fields(slot, (_PCIE_REPLAY, *errors.values(), *_PCIE_BYTES.values()))
        yield "gpu_pcie_replay_total", (), fields.get(_PCIE_REPLAY)
        for kind, field in errors.items():
            yield "gpu_pcie_errors_total", (kind,), fields.get(field)
        for name, field in _PCIE_BYTES.items():
            if field in fields:
                counter = self._bytes.setdefault((slot, name), Unwrapped())
                yield name, (), counter.add(fields[field])

    def _nvlink(self, slot: int, links: list[int]) -> Iterator[Row]:
        kinds = LINK_ERRORS | _LINK_ERRORS_5
        errors = {(kind, link): (field, link) for kind, field in kinds.items() for link in links}
        totals = {(name, ALL_LINKS): field for name, field in _LINK_BYTES.items()}
        newer = {(name, link): field for name, field in _LINK_BYTES_5.items() for link in links}
        wanted = (
            *errors.values(),
            *((field, link) for (_, link), field in totals.items()),
            *((field, link) for (_, link), field in newer.items()),
        )
        fields = self._driver.fields(slot, wanted)
        for (kind, link), field in errors.items():
            yield "gpu_nvlink_errors_total", (str(link), kind), fields.get(field)
        for name, older in _LINK_BYTES.items():
            kibibytes = fields.get((older, ALL_LINKS))
            per_link = [fields[n] for link in links if (n := (_LINK_BYTES_5[name], link)) in fields]
            if kibibytes is not None:
                yield name, (), kibibytes * 1024
            elif per_link:
                yield name, (), sum(per_link)

    def _mig(self, slot: int) -> Iterator[Row]:
        ask = self._driver.ask
        mode = ask(slot, "nvmlDeviceGetMigMode")
        if not mode or not mode[0]:
            return
        seen: set[int] = set()
        for place in range(ask(slot, "nvmlDeviceGetMaxMigDeviceCount") or 0):
            part = ask(slot, "nvmlDeviceGetMigDeviceHandleByIndex", place)
            if part is None:
                continue
            instance = ask(slot, "nvmlDeviceGetGpuInstanceId", of=part)
            compute = ask(slot, "nvmlDeviceGetComputeInstanceId", of=part)
            key = (str(instance), str(compute))
            uuid, name = (
                ask(slot, "nvmlDeviceGetUUID", of=part),
                ask(slot, "nvmlDeviceGetName", of=part),
            )
            yield "gpu_mig_info", (*key, _text(uuid), _text(name).rpartition("MIG ")[2]), 1
            if (memory := ask(slot, "nvmlDeviceGetMemoryInfo", of=part)) is not None:
                yield "gpu_mig_memory_total_bytes", key, memory.total
                yield "gpu_mig_memory_used_bytes", key, memory.used
            if instance is not None and instance not in seen:
                seen.add(instance)
                active = self._driver.gpm(slot, (2,), instance).get(2)
                yield "gpu_mig_sm_active_ratio", (str(instance),), scaled(active, 100)

    def _processes(self, slot: int) -> Iterator[Row]:
        kinds = {
            "compute": self._driver.ask(slot, "nvmlDeviceGetComputeRunningProcesses"),
            "graphics": self._driver.ask(slot, "nvmlDeviceGetGraphicsRunningProcesses"),
        }
        for kind, processes in kinds.items():
            yield "gpu_processes", (kind,), None if processes is None else len(processes)
        memory = {
            process.pid: process.usedGpuMemory
            for found in kinds.values()
            for process in found or ()
        }
        for pid, used in memory.items():
            yield "gpu_process_memory_bytes", (str(pid), ""), used or 0

    def _limits(self, slot: int) -> Iterator[Row]:
        ask = self._driver.ask
        fields = self._driver.fields(slot, tuple(_POWER_LIMITS.values()))
        for kind, field in _POWER_LIMITS.items():
            limit = fields.get(field)
            if limit is None and kind == "enforced":
                limit = ask(slot, "nvmlDeviceGetEnforcedPowerLimit")
            yield "gpu_power_limit_watts", (kind,), scaled(limit, 1000)
        for threshold, number in _THRESHOLDS.items():
            degrees = ask(slot, "nvmlDeviceGetTemperatureThreshold", number)
            yield "gpu_temperature_threshold_celsius", (threshold,), degrees
        for domain, number in _CLOCKS.items():
            clock = ask(slot, "nvmlDeviceGetMaxClockInfo", number)
            yield "gpu_clock_max_hertz", (domain,), None if clock is None else clock * 1_000_000
        for name, call in (("ecc", "nvmlDeviceGetEccMode"), ("mig", "nvmlDeviceGetMigMode")):
            if (mode := ask(slot, call)) is not None:
                yield f"gpu_{name}_mode", ("current",), mode[0]
                yield f"gpu_{name}_mode", ("pending",), mode[1]
        yield "gpu_persistence_mode", (), ask(slot, "nvmlDeviceGetPersistenceMode")
        yield "gpu_accounting_mode", (), ask(slot, "nvmlDeviceGetAccountingMode")
        yield "gpu_compute_mode", (), ask(slot, "nvmlDeviceGetComputeMode")


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
