"""Sensors follow from state and load alone: the same moment always reads the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.hardware.physics import (
    MAX_SM_CLOCK,
    POWER_LIMIT,
    SHUTDOWN_CELSIUS,
    SLOWDOWN_CELSIUS,
    sensor_values,
)
from fleetmedic.hardware.state import GpuLoad, GpuState

GPU = GpuState("GPU-00000000-0000-0000-0000-000000000001", "0000:10:00.0", "1600010000")
BUSY = GpuLoad(utilization=0.96, memory=0.72)
IDLE = GpuLoad()
moments = st.floats(min_value=1.6e9, max_value=2.0e9)


@given(moments)
def test_the_same_moment_reads_the_same(at: float) -> None:
    assert sensor_values(GPU, BUSY, at) == sensor_values(replace(GPU), replace(BUSY), at)


@given(moments, st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 1))
def test_a_gpu_without_heat_stays_within_its_limits(
    at: float, utilization: float, memory: float, speed: float
) -> None:
    seen = sensor_values(replace(GPU, speed=speed), GpuLoad(utilization, memory), at)
    assert 0 <= seen.utilization <= 1
    assert 0 <= seen.memory_used <= GPU.memory_total
    assert 0 < seen.power <= POWER_LIMIT
    assert 20 < seen.temperature < SLOWDOWN_CELSIUS
    assert 0 < seen.sm_clock <= MAX_SM_CLOCK
    assert not seen.thermal_slowdown


@given(moments)
def test_load_shows_in_power_heat_and_clock(at: float) -> None:
    busy, idle = sensor_values(GPU, BUSY, at), sensor_values(GPU, IDLE, at)
    assert busy.power > idle.power + 300
    assert busy.temperature > idle.temperature
    assert busy.sm_clock > 3 * idle.sm_clock
    assert idle.utilization == 0


@given(moments)
def test_a_slow_gpu_shows_in_its_clock_and_not_in_its_utilization(at: float) -> None:
    slow, well = sensor_values(replace(GPU, speed=0.75), BUSY, at), sensor_values(GPU, BUSY, at)
    assert slow.sm_clock / well.sm_clock == pytest.approx(0.75, abs=0.02)
    assert slow.utilization == well.utilization


@given(moments)
def test_a_hot_gpu_slows_down_under_load_and_nears_its_shutdown(at: float) -> None:
    hot = sensor_values(replace(GPU, heat=40.0), BUSY, at)
    assert hot.thermal_slowdown
    assert hot.temperature > SHUTDOWN_CELSIUS
    assert not sensor_values(replace(GPU, heat=40.0), IDLE, at).thermal_slowdown


@given(moments)
def test_healthy_peers_stay_close(at: float) -> None:
    peers = [replace(GPU, uuid=f"GPU-{index}") for index in range(8)]
    clocks = [sensor_values(peer, BUSY, at).sm_clock for peer in peers]
    assert max(clocks) / min(clocks) < 1.04
