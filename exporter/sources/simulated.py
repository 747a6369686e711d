"""The simulated source: the hardware folder, read as a driver would be.

A lost GPU raises SourceLost and a hung one really blocks, so that the code which guards against
both is the code that runs on a real machine. Energy and throttled time are integrated here.
"""

from __future__ import annotations

import time
from pathlib import Path

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
from fleetmedic.hardware.physics import (
    MAX_MEMORY_CLOCK,
    MAX_SM_CLOCK,
    POWER_LIMIT,
    SHUTDOWN_CELSIUS,
    SLOWDOWN_CELSIUS,
    Reading,
    reading,
)
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

    def add(self, now: float, seen: Reading) -> None:
        elapsed = max(0.0, now - self.at) if self.at is not None else 0.0
        self.at = now
        self.joules += elapsed * seen.power
        self.throttled += elapsed if seen.thermal_slowdown else 0.0


class SimulatedSource:
    """One node of a hardware folder."""

    name = "simulated"

    def __init__(self, root: Path, node: str) -> None:
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

    def expected(self) -> int:
        return len(self._hardware.gpus(self._node))

    def identify(self, slot: int) -> Device:
        state = self._state(slot)
        if state.lost:
            raise SourceLost(slot)
        return Device(slot, state.uuid, state.pci_bus_id, state.name, state.serial, DRIVER)

    def presence(self, slot: int) -> None:
        self._answering(slot)

    def load(self, slot: int, now: float) -> Load:
        state = self._answering(slot)
        seen = reading(state, self._hardware.load(self._node, slot, now), now)
        integral = self._integrals.setdefault(slot, _Integral())
        integral.add(now, seen)
        active = dict.fromkeys(CLOCK_REASONS, False)
        active["gpu_idle"] = seen.utilization <= 0.02
        active["hw_thermal_slowdown"] = active["hw_slowdown"] = seen.thermal_slowdown
        throttled = round(integral.throttled, 3)
        return Load(
            utilization=seen.utilization,
            memory_activity=seen.memory_activity,
            memory_total=state.memory_total,
            memory_used=seen.memory_used,
            memory_free=state.memory_total - seen.memory_used,
            temperature=seen.temperature,
            memory_temperature=seen.memory_temperature,
            power=seen.power,
            energy=round(integral.joules, 3),
            sm_clock=seen.sm_clock,
            memory_clock=seen.memory_clock,
            clock_events=active,
            clock_event_seconds={
                "sw_power_cap": 0.0,
                "sw_thermal_slowdown": 0.0,
                "hw_slowdown": throttled,
                "hw_thermal_slowdown": throttled,
                "hw_power_brake_slowdown": 0.0,
            },
        )

    def health(self, slot: int) -> Health:
        state = self._answering(slot)
        return Health(
            ecc=(
                EccCount("corrected", "volatile", "dram", state.ecc_corrected),
                EccCount("uncorrected", "volatile", "dram", state.ecc_uncorrected),
            ),
            remap_correctable=state.remap_correctable,
            remap_uncorrectable=state.remap_uncorrectable,
            remap_pending=state.remap_pending,
            remap_failure=state.remap_failure,
        )

    def limits(self, slot: int) -> Limits:
        self._answering(slot)
        return Limits(
            POWER_LIMIT, SLOWDOWN_CELSIUS, SHUTDOWN_CELSIUS, MAX_SM_CLOCK, MAX_MEMORY_CLOCK
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
