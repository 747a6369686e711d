"""Simulate a job's use of GPUs: it fails or slows down according to the hardware directory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fleetmedic.hardware.state import Hardware


class GpuLostError(RuntimeError):
    """The simulated CUDA error that the device is lost (the GPU has fallen off the bus)."""


class GpuGroup:
    """The GPUs of one job on one node, used in lockstep as in data-parallel training."""

    def __init__(self, root: Path, node: str, indices: list[int]) -> None:
        self._hardware = Hardware(root)
        self._node = node
        self._indices = indices
        self._reported_at = 0.0

    @classmethod
    def of_job(cls) -> GpuGroup | None:
        """Return the GPUs of this process's job, from its environment; None if none are simulated."""
        root = os.environ.get("FLEETMEDIC_HARDWARE_DIR", "")
        indices = [int(word) for word in os.environ.get("FLEETMEDIC_GPUS", "").split(",") if word]
        return cls(Path(root), os.environ["FLEETMEDIC_NODE"], indices) if root and indices else None

    def step(self, seconds: float, utilization: float = 0.96, memory: float = 0.72) -> float:
        """Run one step that takes `seconds` on healthy GPUs; returns the actual duration in seconds.

        The slowest GPU determines the speed; the others wait. A hung GPU blocks the step until it responds.
        Raises GpuLostError if a GPU is lost.
        """
        began = time.monotonic()
        speeds = self._speeds()
        slowest = min(speeds)
        if began - self._reported_at >= 1.0:
            self._reported_at = began
            for index, speed in zip(self._indices, speeds, strict=True):
                self._hardware.set_load(self._node, index, utilization * slowest / speed, memory)
        left = seconds / slowest - (time.monotonic() - began)
        time.sleep(max(0.0, left))
        return time.monotonic() - began

    def _speeds(self) -> list[float]:
        while True:
            states = [self._hardware.gpu(self._node, index) for index in self._indices]
            lost = [str(i) for i, state in zip(self._indices, states, strict=True) if state.lost]
            if lost:
                raise GpuLostError(f"CUDA error: device {', '.join(lost)} of {self._node} is lost")
            if not any(state.hung for state in states):
                return [state.speed for state in states]
            time.sleep(0.2)
