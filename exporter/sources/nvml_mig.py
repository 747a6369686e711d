"""Reads the MIG devices of a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.sources.nvml_driver import NvmlApi, Row, scaled, text
from exporter.sources.nvml_gpm import SM_ACTIVE


class MigGroupReader:
    """Reads the group `mig`. Detects when MIG is enabled or disabled, because other values are then
    supported."""

    def __init__(self) -> None:
        self._partitioned: dict[int, bool] = {}

    def rows(self, driver: NvmlApi, slot: int) -> Iterator[Row]:
        """Yield the readings of the group `mig`; nothing for a GPU without MIG."""
        mode = driver.ask(slot, "nvmlDeviceGetMigMode")
        partitioned = bool(mode and mode[0])
        if self._partitioned.setdefault(slot, partitioned) != partitioned:
            self._partitioned[slot] = partitioned
            driver.relearn(slot)
        if not partitioned:
            return
        measured: set[int] = set()
        for place in range(driver.ask(slot, "nvmlDeviceGetMaxMigDeviceCount") or 0):
            part = driver.ask(slot, "nvmlDeviceGetMigDeviceHandleByIndex", place)
            if part is None:
                continue
            instance = driver.ask(slot, "nvmlDeviceGetGpuInstanceId", of=part)
            compute = driver.ask(slot, "nvmlDeviceGetComputeInstanceId", of=part)
            if instance is None or compute is None:
                continue
            key = (str(instance), str(compute))
            uuid = text(driver.ask(slot, "nvmlDeviceGetUUID", of=part))
            name = text(driver.ask(slot, "nvmlDeviceGetName", of=part))
            yield "gpu_mig_info", (*key, uuid, profile(name)), 1
            if (memory := driver.memory(slot, of=part)) is not None:
                yield "gpu_mig_memory_total_bytes", key, memory.total
                yield "gpu_mig_memory_used_bytes", key, memory.used
            if instance not in measured:
                measured.add(instance)
                active = driver.gpm(slot, (SM_ACTIVE,), instance).get(SM_ACTIVE)
                yield "gpu_mig_sm_active_ratio", (str(instance),), scaled(active, 100)


def profile(name: str) -> str:
    """Return the MIG profile in a device name, such as `3g.40gb`, or an empty string.

    Example of a name: `NVIDIA H100 80GB HBM3 MIG 3g.40gb`.
    """
    _, found, shape = name.partition("MIG ")
    return shape if found else ""
