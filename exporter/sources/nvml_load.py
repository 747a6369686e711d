"""Reads GPU load: utilization, memory, temperature, power, clocks.

A read consists of one batch of field values and about fifteen cheap calls.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.sources.base import CLOCK_REASONS
from exporter.sources.nvml_driver import Field, NvmlApi, Row, choose, positive, scaled, signed

ENGINES = {
    "encoder": "nvmlDeviceGetEncoderUtilization",
    "decoder": "nvmlDeviceGetDecoderUtilization",
    "jpeg": "nvmlDeviceGetJpgUtilization",
    "ofa": "nvmlDeviceGetOfaUtilization",
}
CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
MEMORY_TEMPERATURE: Field = (82, 0)
ENERGY: Field = (83, 0)
# Instantaneous power; the fallback is the average over a second, which takes milliseconds to read.
POWER: dict[str, tuple[Field, ...]] = {
    "gpu": ((186, 0), (185, 0)),
    "module": ((186, 1), (185, 1)),
    "memory": ((186, 2), (185, 2)),
}
REASON_SECONDS: dict[str, Field] = {  # nanoseconds
    "sw_power_cap": (74, 0),
    "sync_boost": (76, 0),
    "sw_thermal_slowdown": (269, 0),
    "hw_thermal_slowdown": (270, 0),
    "hw_power_brake_slowdown": (271, 0),
}
# Drivers before 570 report instead: thermal slowdown of both kinds together.
THERMAL: Field = (75, 0)
VIOLATIONS = {"sw_power_cap": 0, "thermal_slowdown": 1, "sync_boost": 2}
_WANTED: dict[str, tuple[Field, ...]] = {
    "memory temperature": (MEMORY_TEMPERATURE,),
    "energy": (ENERGY,),
    **POWER,
    **{reason: (field,) for reason, field in REASON_SECONDS.items()},
}


def load(driver: NvmlApi, slot: int) -> Iterator[Row]:
    """Yield the readings of the group `load`."""
    ask = driver.ask
    if (use := ask(slot, "nvmlDeviceGetUtilizationRates")) is not None:
        yield "gpu_utilization_ratio", (), use.gpu / 100
        yield "gpu_memory_activity_ratio", (), use.memory / 100
    for engine, name in ENGINES.items():
        if (share := ask(slot, name)) is not None:
            yield f"gpu_{engine}_utilization_ratio", (), share[0] / 100
    if (memory := driver.memory(slot)) is not None:
        for what in ("total", "used", "free", "reserved"):
            yield f"gpu_memory_{what}_bytes", (), getattr(memory, what, None)
    if (window := ask(slot, "nvmlDeviceGetBAR1MemoryInfo")) is not None:
        yield "gpu_bar1_total_bytes", (), window.bar1Total
        yield "gpu_bar1_used_bytes", (), window.bar1Used
    fields = choose(driver, slot, _WANTED)
    yield "gpu_temperature_celsius", ("gpu",), temperature(driver, slot)
    yield "gpu_temperature_celsius", ("memory",), positive(fields.get("memory temperature"))
    # Some healthy GPUs report a margin of 0 or less.
    margin = positive(ask(slot, "nvmlDeviceGetMarginTemperature"))
    yield "gpu_thermal_margin_celsius", (), margin
    yield from _power(driver, slot, fields)
    for domain, number in CLOCKS.items():
        clock = ask(slot, "nvmlDeviceGetClockInfo", number)
        yield "gpu_clock_hertz", (domain,), None if clock is None else clock * 1_000_000
    state = ask(slot, "nvmlDeviceGetPerformanceState")
    yield "gpu_performance_state", (), state if state is not None and state < 16 else None
    yield from _clock_events(driver, slot, fields)
    for fan in range(ask(slot, "nvmlDeviceGetNumFans") or 0):
        yield (
            "gpu_fan_speed_ratio",
            (str(fan),),
            scaled(ask(slot, "nvmlDeviceGetFanSpeed_v2", fan), 100),
        )


def temperature(driver: NvmlApi, slot: int) -> int | None:
    """Return the temperature of the GPU die in degrees Celsius."""
    names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
    return signed(driver.first(slot, *names, arguments=(0,)))


def _power(driver: NvmlApi, slot: int, fields: dict[str, int]) -> Iterator[Row]:
    watts = fields.get("gpu")
    if watts is None:
        watts = driver.ask(slot, "nvmlDeviceGetPowerUsage")
    yield "gpu_power_watts", ("gpu",), scaled(watts, 1000)
    for scope in ("module", "memory"):
        yield "gpu_power_watts", (scope,), scaled(positive(fields.get(scope)), 1000)
    energy = fields.get("energy")
    if energy is None:
        energy = driver.ask(slot, "nvmlDeviceGetTotalEnergyConsumption")
    yield "gpu_energy_joules_total", (), scaled(energy, 1000)


def _clock_events(driver: NvmlApi, slot: int, fields: dict[str, int]) -> Iterator[Row]:
    names = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    bits = driver.first(slot, *names)
    for place, reason in enumerate(CLOCK_REASONS if bits is not None else ()):
        yield "gpu_clock_event_active", (reason,), bits >> place & 1
    seconds = {reason: fields[reason] for reason in REASON_SECONDS if reason in fields}
    if not {"sw_thermal_slowdown", "hw_thermal_slowdown"} & seconds.keys():
        seconds |= _older_seconds(driver, slot, seconds)
    for reason, nanoseconds in seconds.items():
        yield "gpu_clock_event_seconds_total", (reason,), nanoseconds / 1e9


def _older_seconds(driver: NvmlApi, slot: int, seconds: dict[str, int]) -> dict[str, int]:
    found = choose(driver, slot, {"thermal_slowdown": (THERMAL,)})
    for reason, policy in VIOLATIONS.items():
        if reason in found or reason in seconds:
            continue
        if (spent := driver.ask(slot, "nvmlDeviceGetViolationStatus", policy)) is not None:
            found[reason] = spent.violationTime
    return found
