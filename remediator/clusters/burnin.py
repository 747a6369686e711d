"""Test a simulated GPU: put load on the GPU for some time, and read its sensors during this time."""

from __future__ import annotations

import asyncio
import time

from fleetmedic.hardware.physics import sensor_values
from fleetmedic.hardware.state import GpuLoad, GpuState, Hardware
from fleetmedic.kernel.errors import UserError
from remediator.clusters.base import ProbeResult

LOOK_EVERY = 0.1


async def burn_in(hardware: Hardware, node: str, index: int, seconds: float) -> ProbeResult:
    """Run a GPU under full load for `seconds`. Returns whether the GPU passed the test.

    A GPU that cannot be read has not passed.
    """
    name = f"gpu/{node}/{index}"
    deadline = time.monotonic() + seconds
    hottest = 0.0
    slowest = float("inf")
    try:
        while True:
            state = await asyncio.to_thread(hardware.gpu, node, index)
            if complaint := _complaint(state):
                return ProbeResult(False, f"{name} failed its test: {complaint}.")
            sensors = sensor_values(state, GpuLoad(1.0, 0.9), time.time())
            hottest, slowest = max(hottest, sensors.temperature), min(slowest, sensors.sm_clock)
            if time.monotonic() >= deadline:
                break
            await asyncio.to_thread(hardware.set_load, node, index, 1.0, 0.9)
            await asyncio.sleep(LOOK_EVERY)
        await asyncio.to_thread(hardware.set_load, node, index, 0.0, 0.0)
    except (UserError, OSError) as error:
        return ProbeResult(False, f"{name} could not be tested: {error}")
    return ProbeResult(
        True,
        f"{name} passed {seconds:g} s under full load: at least {slowest / 1e6:.0f} MHz, "
        f"at most {hottest:.0f} °C.",
    )


def _complaint(state: GpuState) -> str:
    """Return a description of the GPU's fault; empty if the GPU is healthy."""
    if state.healthy:
        return ""
    if state.lost:
        return "the GPU is lost from the bus"
    if state.hung:
        return "the driver does not respond for this GPU"
    if state.remap_failure:
        return "row remapping has failed"
    if state.speed < 0.95:
        return f"the GPU reaches only {state.speed:.0%} of its clock frequency under load"
    return f"the GPU is {state.heat:.0f} °C too hot"
