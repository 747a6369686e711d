"""The simulated source: the hardware folder, read as a driver would be.

A lost GPU raises SourceLost and a hung one really blocks, so that the code which guards against
both is the code that runs on a real machine. Energy and throttled time are integrated here.
"""

from __future__ import annotations

import time
from pathlib import Path

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
from fleetmedic.hardware.physics import (
    MAX_MEMORY_CLOCK,
    MAX_SM_CLOCK,
    POWER_LIMIT,
    SHUTDOWN_CELSIUS,
    SLOWDOWN_CELSIUS,
    reading,
)
from fleetmedic.hardware.physics import Reading as Sensors
from fleetmedic.hardware.state import GpuState, Hardware
from fleetmedic.kernel.errors import UserError

DRIVER = "simulated"
HANG_POLL = 0.1


class _Integral:
    """Joules and throttled seconds of one GPU, by the rectangle rule between two reads."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.joules = 0.0
        self.throttled = 0.0

    def add(self, now: float, seen: Sensors) -> None:
        elapsed = max(0.0, now - self.at) if self.at is not None else 0.0
        self.at = now
        self.joules += elapsed * seen.power
        self.throttled += elapsed if seen.thermal_slowdown else 0.0


class SimulatedSource:
    """One node of a hardware folder."""

    name = "simulated"

    def __init__(self, root: Path, node: str, progress: Progress) -> None:
        self._progress = progress
        self._hardware = Hardware(root)
        self._node = node
        self._integrals: dict[int, _Integral] = {}

    def open(self) -> None:
        try:
            self._hardware.boot(self._node)
        except (OSError, UserError) as error:
            raise SourceFailed(str(error)) from None

    def refresh(self) -> None:
        """Nothing to do: every read opens the folder anew."""

    def slots(self) -> tuple[int, ...]:
        return tuple(self._hardware.gpus(self._node))

    def bus(self) -> tuple[BusGpu, ...]:
        gpus = (self._hardware.gpu(self._node, slot) for slot in self.slots())
        return tuple(BusGpu(gpu.pci_bus_id, gpu.uuid) for gpu in gpus)

    def errors(self) -> dict[str, int]:
        return {}

    def identify(self, slot: int) -> Device:
        state = self._state(slot)
        if state.lost:
            raise SourceLost(slot)
        return Device(slot, state.uuid, state.pci_bus_id, state.name, state.serial, DRIVER)

    def presence(self, slot: int) -> None:
        self._answering(slot)

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        state = self._answering(slot)
        if group == "load":
            return self._load(slot, state, now)
        if group == "health":
            return _health(state)
        return _LIMITS if group == "limits" else ()

    def _load(self, slot: int, state: GpuState, now: float) -> tuple[Reading, ...]:
        seen = reading(state, self._hardware.load(self._node, slot, now), now)
        integral = self._integrals.setdefault(slot, _Integral())
        integral.add(now, seen)
        active = dict.fromkeys(CLOCK_REASONS, False)
        active["gpu_idle"] = seen.utilization <= 0.02
        active["hw_thermal_slowdown"] = active["hw_slowdown"] = seen.thermal_slowdown
        throttled = round(integral.throttled, 3)
        seconds = {
            "sw_power_cap": 0.0,
            "sw_thermal_slowdown": 0.0,
            "hw_slowdown": throttled,
            "hw_thermal_slowdown": throttled,
            "hw_power_brake_slowdown": 0.0,
        }
        return (
            Reading("gpu_utilization_ratio", (), seen.utilization),
            Reading("gpu_memory_activity_ratio", (), seen.memory_activity),
            Reading("gpu_memory_total_bytes", (), state.memory_total),
            Reading("gpu_memory_used_bytes", (), seen.memory_used),
            Reading("gpu_memory_free_bytes", (), state.memory_total - seen.memory_used),
            Reading("gpu_temperature_celsius", ("gpu",), seen.temperature),
            Reading("gpu_temperature_celsius", ("memory",), seen.memory_temperature),
            Reading("gpu_power_watts", ("gpu",), seen.power),
            Reading("gpu_energy_joules_total", (), round(integral.joules, 3)),
            Reading("gpu_clock_hertz", ("sm",), seen.sm_clock),
            Reading("gpu_clock_hertz", ("memory",), seen.memory_clock),
            *(Reading("gpu_clock_event_active", (r,), int(on)) for r, on in active.items()),
            *(Reading("gpu_clock_event_seconds_total", (r,), s) for r, s in seconds.items()),
        )

    def _state(self, slot: int) -> GpuState:
        try:
            return self._hardware.gpu(self._node, slot)
        except UserError as error:
            raise SourceFailed(str(error)) from None

    def _answering(self, slot: int) -> GpuState:
        """The GPU's state; blocks for as long as it hangs. Raises SourceLost."""
        state = self._state(slot)
        while state.hung:
            time.sleep(HANG_POLL)
            state = self._state(slot)
        if state.lost:
            raise SourceLost(slot)
        return state


_LIMITS = (
    Reading("gpu_power_limit_watts", ("enforced",), POWER_LIMIT),
    Reading("gpu_temperature_threshold_celsius", ("slowdown",), SLOWDOWN_CELSIUS),
    Reading("gpu_temperature_threshold_celsius", ("shutdown",), SHUTDOWN_CELSIUS),
    Reading("gpu_clock_max_hertz", ("sm",), MAX_SM_CLOCK),
    Reading("gpu_clock_max_hertz", ("memory",), MAX_MEMORY_CLOCK),
)


def _health(state: GpuState) -> tuple[Reading, ...]:
    return (
        Reading("gpu_ecc_errors_total", ("corrected", "volatile", "dram"), state.ecc_corrected),
        Reading("gpu_ecc_errors_total", ("uncorrected", "volatile", "dram"), state.ecc_uncorrected),
        Reading("gpu_row_remap_total", ("correctable",), state.remap_correctable),
        Reading("gpu_row_remap_total", ("uncorrectable",), state.remap_uncorrectable),
        Reading("gpu_row_remap_pending", (), int(state.remap_pending)),
        Reading("gpu_row_remap_failure", (), int(state.remap_failure)),
    )
