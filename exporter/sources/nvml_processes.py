"""Who uses the GPU: how many processes, and what each has of it."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.sources.nvml_driver import Driver, Row, Share

KINDS = {
    "compute": "nvmlDeviceGetComputeRunningProcesses_v3",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses_v3",
}
_FIRST_LOOK = 10_000_000  # microseconds


class Processes:
    """Reads the group `processes`, and knows what it has seen of each GPU."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def rows(self, driver: Driver, slot: int, now: float) -> Iterator[Row]:
        """The rows of the group at Unix time `now`. The names of processes are not looked up here."""
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
    """The newest share of each process that is newer than `since` and makes sense. The driver hands
    out the whole of its buffer, most of it empty."""
    found: dict[int, Share] = {}
    for share in sorted(shares, key=lambda share: share.at):
        if share.pid and share.at > since and share.sm <= 100:
            found[share.pid] = share
    return found
