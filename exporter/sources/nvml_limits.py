"""Reads the limits, thresholds and modes of a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.sources.nvml_driver import Field, NvmlApi, Row, positive, scaled, signed
from exporter.sources.nvml_load import CLOCKS, temperature

POWER_LIMITS: dict[str, Field] = {
    "min": (187, 0),
    "max": (188, 0),
    "default": (189, 0),
    "enforced": (190, 0),
    "requested": (192, 0),
}
THRESHOLDS = {"shutdown": 0, "slowdown": 1, "memory_max": 2, "gpu_max": 3}
# Ada and later report these as margins in degrees relative to the GPU's own limit: -5 is 5 above it.
T_LIMITS: dict[str, Field] = {"shutdown": (193, 0), "slowdown": (194, 0), "gpu_max": (196, 0)}
_DEGREES = range(30, 151)
_MARGINS = range(-50, 51)


def limits(driver: NvmlApi, slot: int) -> Iterator[Row]:
    """Yield the readings of the group `limits`."""
    ask = driver.ask
    for kind, limit in _power_limits(driver, slot).items():
        yield "gpu_power_limit_watts", (kind,), scaled(limit, 1000)
    for threshold, degrees in thresholds(driver, slot).items():
        yield "gpu_temperature_threshold_celsius", (threshold,), degrees
    for domain, number in CLOCKS.items():
        clock = ask(slot, "nvmlDeviceGetMaxClockInfo", number)
        yield "gpu_clock_max_hertz", (domain,), None if clock is None else clock * 1_000_000
    for name, call in (("ecc", "nvmlDeviceGetEccMode"), ("mig", "nvmlDeviceGetMigMode")):
        if (mode := ask(slot, call)) is not None:
            yield f"gpu_{name}_mode", ("current",), mode[0]
            yield f"gpu_{name}_mode", ("pending",), mode[1]
    yield "gpu_persistence_mode", (), ask(slot, "nvmlDeviceGetPersistenceMode")
    yield "gpu_accounting_mode", (), ask(slot, "nvmlDeviceGetAccountingMode")
    yield "gpu_compute_mode", (), ask(slot, "nvmlDeviceGetComputeMode")


def _power_limits(driver: NvmlApi, slot: int) -> dict[str, int]:
    fields = driver.fields(slot, POWER_LIMITS.values())
    found = {kind: fields[field] for kind, field in POWER_LIMITS.items() if field in fields}
    if "min" not in found or "max" not in found:
        both = driver.ask(slot, "nvmlDeviceGetPowerManagementLimitConstraints")
        found |= dict(zip(("min", "max"), both or (), strict=False))
    for kind, name in (
        ("default", "nvmlDeviceGetPowerManagementDefaultLimit"),
        ("enforced", "nvmlDeviceGetEnforcedPowerLimit"),
    ):
        if kind not in found and (limit := driver.ask(slot, name)) is not None:
            found[kind] = limit
    return found


def thresholds(driver: NvmlApi, slot: int) -> dict[str, int]:
    """Return temperature thresholds in degrees Celsius, by name.

    If the GPU only reports margins, the thresholds are computed from the current temperature.
    """
    found = {
        threshold: degrees
        for threshold, number in THRESHOLDS.items()
        if (degrees := driver.ask(slot, "nvmlDeviceGetTemperatureThreshold", number)) in _DEGREES
    }
    missing = {name: field for name, field in T_LIMITS.items() if name not in found}
    if missing:
        fields = driver.fields(slot, missing.values())
        margins = {name: fields[field] for name, field in missing.items() if field in fields}
        if margins:
            now = temperature(driver, slot)
            left = positive(driver.ask(slot, "nvmlDeviceGetMarginTemperature"))
            found |= from_margins(margins, now, left)
    return found


def from_margins(margins: Mapping[str, int], now: int | None, left: int | None) -> dict[str, int]:
    """Compute thresholds in degrees Celsius from margins relative to the limit.

    The limit is `left` degrees above the current temperature `now`.
    """
    if now is None or left is None:
        return {}
    return {
        name: now + left - known
        for name, margin in margins.items()
        if (known := signed(margin)) in _MARGINS and known is not None
    }
