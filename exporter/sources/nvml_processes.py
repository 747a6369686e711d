"""Reads the processes on a GPU: their number, and the memory and GPU time of each."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.sources.nvml_driver import NvmlApi, Row, Share

KINDS = {
    "compute": "nvmlDeviceGetComputeRunningProcesses_v3",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses_v3",
}
_FIRST_LOOK = 10_000_000  # microseconds


class ProcessGroupReader:
    """Reads the group `processes`. Remembers the latest GPU use of processes of each GPU."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def rows(self, driver: NvmlApi, slot: int, now: float) -> Iterator[Row]:
        """Yield the readings of the group `processes` at Unix time `now`. Process names are not read."""
        memory: dict[int, int] = {}
        for kind, name in KINDS.items():
            processes = driver.ask(slot, name)
            yield "gpu_processes", (kind,), None if processes is None else len(processes)
            for process in processes or ():
                if process.usedGpuMemory is not None:
                    used = memory.get(process.pid, 0)
                    memory[process.pid] = max(used, process.usedGpuMemory)
        for pid, used in memory.items():
            yield "gpu_process_memory_bytes", (str(pid), ""), used
        present = int(now * 1e6)
        since = min(self._seen.get(slot, present - _FIRST_LOOK), present)
        shares = driver.shares(slot, since)
        newest = latest(shares or (), since)
        self._seen[slot] = max((share.at for share in newest.values()), default=since)
        for pid, share in newest.items():
            yield "gpu_process_sm_ratio", (str(pid), ""), share.sm / 100


def latest(
    shares: Iterator[Share] | list[Share] | tuple[Share, ...], since: int
) -> dict[int, Share]:
    """Return the newest valid GPU use of each process after `since` (Unix time in microseconds).

    The driver returns its whole buffer, most of which is empty.
    """
    found: dict[int, Share] = {}
    for share in sorted(shares, key=lambda share: share.at):
        if share.pid and share.at > since and share.sm <= 100:
            found[share.pid] = share
    return found
