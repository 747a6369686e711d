"""Compute the registers of a simulated GPU: integers in the units of NVIDIA's driver.

The simulated exporter and the tests' fake driver library both use them, so both report the same
values. The counters of energy, bytes and throttled time are stored in the hardware directory, so
that they survive a restart of the exporter.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fleetmedic.hardware.physics import (
    MAX_MEMORY_CLOCK,
    MAX_SM_CLOCK,
    POWER_LIMIT,
    SHUTDOWN_CELSIUS,
    SLOWDOWN_CELSIUS,
    SensorValues,
    sensor_values,
)
from fleetmedic.hardware.state import GpuLoad, GpuState, Hardware
from fleetmedic.kernel.files import write_atomic
from fleetmedic.progress.process import pid_namespace

Registers = dict[str, int]
LINKS = 18
RESERVED = 512 << 20
BAR1 = 128 << 30
LINK_KIB_PER_SECOND = 200 << 20  # per direction, all links together, at full utilization
PCIE_KIB_PER_SECOND = 20 << 20
BANKS = 192
REASONS = {
    "gpu_idle": 0,
    "hw_slowdown": 3,
    "sw_thermal_slowdown": 5,
    "hw_thermal_slowdown": 6,
    "hw_power_brake_slowdown": 7,
}


@dataclass(frozen=True, slots=True)
class SensorTotals:
    """Counters from the start of the driver to the Unix time `at`: millijoules, nanoseconds, KiB."""

    at: float = 0.0
    energy_mj: int = 0
    thermal_ns: int = 0
    software_ns: int = 0
    brake_ns: int = 0
    pcie_tx: int = 0
    pcie_rx: int = 0
    nvlink_tx: int = 0
    nvlink_rx: int = 0

    def after(self, now: float, state: GpuState, seen: SensorValues) -> SensorTotals:
        """Return the counters at the Unix time `now`, with constant sensor values since the last update."""
        elapsed = max(0.0, now - self.at) if self.at else 0.0
        links = elapsed * seen.utilization * LINK_KIB_PER_SECOND
        lanes = elapsed * seen.utilization * PCIE_KIB_PER_SECOND * state.pcie_width / 16
        return SensorTotals(
            at=max(now, self.at),
            energy_mj=self.energy_mj + round(elapsed * seen.power * 1000),
            thermal_ns=self.thermal_ns + round(elapsed * seen.thermal_slowdown * 1e9),
            software_ns=self.software_ns + round(elapsed * state.software_slowdown * 1e9),
            brake_ns=self.brake_ns + round(elapsed * state.power_brake * 1e9),
            pcie_tx=self.pcie_tx + round(lanes / 4),
            pcie_rx=self.pcie_rx + round(lanes),
            nvlink_tx=self.nvlink_tx + round(links),
            nvlink_rx=self.nvlink_rx + round(links),
        )


def totals_path(hardware: Hardware, node: str, index: int) -> Path:
    """Return the file with a GPU's counters."""
    return hardware.root / node / f"gpu{index}.totals"


def read_totals(path: Path) -> SensorTotals:
    """Read a GPU's counters from a file; all are zero if the file is missing or damaged."""
    try:
        raw = dict(line.split("=", 1) for line in path.read_text().splitlines())
        numbers = {f.name: int(raw[f.name]) for f in fields(SensorTotals) if f.name != "at"}
        return SensorTotals(at=float(raw["at"]), **numbers)
    except (OSError, ValueError, KeyError):
        return SensorTotals()


def sense(hardware: Hardware, node: str, index: int, now: float) -> Registers:
    """Read one GPU at the Unix time `now`, update its counters, and return its registers. Raises UserError."""
    state, load = hardware.gpu(node, index), hardware.load(node, index, now)
    path = totals_path(hardware, node, index)
    seen = sensor_values(state, load, now)
    totals = read_totals(path).after(now, state, seen)
    text = "".join(f"{key}={value}\n" for key, value in asdict(totals).items())
    write_atomic(path, text, sync=False)
    return registers(state, load, seen, totals)


def registers(
    state: GpuState, load: GpuLoad, seen: SensorValues, totals: SensorTotals
) -> Registers:
    """Return all registers of a simulated GPU. Pure function."""
    return {
        **_load(state, seen, totals),
        **_engines(seen),
        **_health(state),
        **_links(state, totals),
        **_limits(state),
        **_processes(state, load, seen),
    }


def _load(state: GpuState, seen: SensorValues, totals: SensorTotals) -> Registers:
    active = {
        "gpu_idle": seen.utilization <= 0.02,
        "hw_slowdown": seen.thermal_slowdown or state.power_brake,
        "sw_thermal_slowdown": state.software_slowdown,
        "hw_thermal_slowdown": seen.thermal_slowdown,
        "hw_power_brake_slowdown": state.power_brake,
    }
    sm = round(seen.sm_clock / 1e6)
    return {
        "utilization": round(seen.utilization * 100),
        "memory_activity": round(seen.memory_activity * 100),
        "memory_total": state.memory_total,
        "memory_reserved": RESERVED,
        "memory_used": seen.memory_used,
        "memory_free": max(0, state.memory_total - RESERVED - seen.memory_used),
        "bar1_total": BAR1,
        "bar1_used": 1 << 20,
        "temperature": round(seen.temperature),
        "memory_temperature": round(seen.memory_temperature),
        "margin": max(0, round(SLOWDOWN_CELSIUS - seen.temperature)),
        "power": round(seen.power * 1000),
        "energy": totals.energy_mj,
        "clock_sm": sm,
        "clock_video": round(sm * 0.9),
        "clock_memory": round(seen.memory_clock / 1e6),
        "performance_state": 0,
        "reasons": sum(1 << bit for reason, bit in REASONS.items() if active[reason]),
        "thermal_ns": totals.thermal_ns,
        "software_ns": totals.software_ns,
        "brake_ns": totals.brake_ns,
    }


def _engines(seen: SensorValues) -> Registers:
    """Return the GPM metrics: utilization in thousandths of a percent, rates in KiB per second."""
    busy = round(seen.utilization * 100_000)
    rate = seen.utilization * 1024
    return {
        "gpm_graphics": busy,
        "gpm_sm": busy * 92 // 100,
        "gpm_occupancy": busy * 45 // 100,
        "gpm_integer": busy * 12 // 100,
        "gpm_tensor": busy * 48 // 100,
        "gpm_dfma": 0,
        "gpm_hmma": busy * 48 // 100,
        "gpm_imma": 0,
        "gpm_dram": round(seen.memory_activity * 100_000),
        "gpm_fp64": 0,
        "gpm_fp32": busy * 9 // 100,
        "gpm_fp16": busy * 3 // 100,
        "gpm_pcie_tx": round(rate * 5 * 1024),
        "gpm_pcie_rx": round(rate * 20 * 1024),
        "gpm_nvlink_rx": round(rate * 200 * 1024),
        "gpm_nvlink_tx": round(rate * 200 * 1024),
    }


def _health(state: GpuState) -> Registers:
    exhausted = state.banks_exhausted
    return {
        "ecc_corrected": state.ecc_corrected,
        "ecc_uncorrected": state.ecc_uncorrected,
        "sram_uncorrected": state.sram_uncorrected,
        "sram_exceeded": int(state.sram_exceeded),
        "remap_correctable": state.remap_correctable,
        "remap_uncorrectable": state.remap_uncorrectable,
        "remap_pending": int(state.remap_pending),
        "remap_failure": int(state.remap_failure),
        "banks_max": BANKS - exhausted,
        "banks_none": exhausted,
        "unrepairable": int(state.remap_failure),
        "pages_retired": state.retired_pages,
        "pages_pending": -1 if state.retired_pages < 0 else int(state.pages_pending),
        "recovery": state.recovery,
        "fabric_unhealthy": int(state.fabric_unhealthy),
    }


def _links(state: GpuState, totals: SensorTotals) -> Registers:
    return {
        "links": LINKS,
        "links_down": state.links_down,
        "link_crc": state.link_errors,
        "nvlink_tx": totals.nvlink_tx,
        "nvlink_rx": totals.nvlink_rx,
        "pcie_generation": 5,
        "pcie_width": state.pcie_width,
        "pcie_replays": state.pcie_replays,
        "pcie_tx": totals.pcie_tx,
        "pcie_rx": totals.pcie_rx,
    }


def _limits(state: GpuState) -> Registers:
    return {
        "power_limit": round(POWER_LIMIT * 1000),
        "power_min": 200_000,
        "slowdown": round(SLOWDOWN_CELSIUS),
        "shutdown": round(SHUTDOWN_CELSIUS),
        "memory_max": 95,
        "gpu_max": 85,
        "clock_max_sm": round(MAX_SM_CLOCK / 1e6),
        "clock_max_video": 1_545,
        "clock_max_memory": round(MAX_MEMORY_CLOCK / 1e6),
        "mig": int(state.mig),
    }


def _processes(state: GpuState, load: GpuLoad, seen: SensorValues) -> Registers:
    """Return at most two processes on the GPU: the job's process and a stray process.

    `pid_elsewhere` is 1 if the pid belongs to another pid namespace (another container), where it
    can mean a different process.
    """
    found = {"pid": load.pid if load.at else 0, "pid_memory": 0, "stray_pid": state.stray_pid}
    found["pid_elsewhere"] = int(load.namespace not in (0, pid_namespace()))
    if found["pid"]:
        found["pid_memory"] = seen.memory_used
    return found
