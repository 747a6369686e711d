"""Compute sensor values from a GPU's state and load. Pure and deterministic.

The noise is a hash of the GPU, the quantity and the second, so the same second always gives the same value. The
values follow an SXM H100: 1980 MHz at most, 700 W, about 65 degrees C under full load.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from fleetmedic.hardware.state import GpuLoad, GpuState

MAX_SM_CLOCK = 1_980e6
MAX_MEMORY_CLOCK = 2_619e6
POWER_LIMIT = 700.0
SLOWDOWN_CELSIUS = 87.0
SHUTDOWN_CELSIUS = 92.0


@dataclass(frozen=True, slots=True)
class SensorValues:
    """The sensor values of one GPU at one time: ratios, bytes, degrees Celsius, watts, hertz."""

    utilization: float
    memory_activity: float
    memory_used: int
    temperature: float
    memory_temperature: float
    power: float
    sm_clock: float
    memory_clock: float
    thermal_slowdown: bool


def _noise(*key: object) -> float:
    """Return a deterministic pseudo-random number in [-1, 1], approximately normal around 0."""
    word = zlib.crc32(repr(key).encode())
    return ((word & 0x3FF) + ((word >> 10) & 0x3FF) + ((word >> 20) & 0x3FF)) / 1534.5 - 1.0


def sensor_values(state: GpuState, load: GpuLoad, at: float) -> SensorValues:
    """Compute the sensor values at the Unix time `at`. The GPU must not be lost or hung."""
    second = int(at)
    utilization = min(
        1.0, max(0.0, load.utilization * (1 + 0.015 * _noise(state.uuid, "util", second)))
    )
    slowdown_heat = state.heat > 0 and utilization > 0.5
    silicon = 0.005 * _noise(state.uuid, "silicon")
    busy = utilization > 0.02
    clock = (
        MAX_SM_CLOCK * (0.985 + silicon + 0.004 * _noise(state.uuid, "clock", second)) * state.speed
    )
    power = 72.0 + 500.0 * utilization * state.speed**2 * (
        1 + 0.02 * _noise(state.uuid, "power", second)
    )
    temperature = (
        31.0
        + 0.058 * power
        + 1.5 * _noise(state.uuid, "place")
        + 0.6 * _noise(state.uuid, "temp", second)
    )
    temperature += state.heat
    return SensorValues(
        utilization=round(utilization, 4),
        memory_activity=round(utilization * 0.55, 4),
        memory_used=int(state.memory_total * max(load.memory, 0.006)),
        temperature=round(temperature),
        memory_temperature=round(temperature + 6 * utilization + 2),
        power=round(power, 3),
        sm_clock=round((clock if busy else 345e6) / 15e6) * 15e6,
        memory_clock=MAX_MEMORY_CLOCK,
        thermal_slowdown=slowdown_heat and temperature >= SLOWDOWN_CELSIUS,
    )
