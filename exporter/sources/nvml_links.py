"""Reads the GPU's NVLink and PCIe links. The counters of all links are read in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.sources.nvml_driver import Field, NvmlApi, Row, choose

MAX_LINKS = 36
ALL_LINKS = 0xFFFFFFFF
# The per-link field values of each kind: NVLink 3 and 4, or NVLink 5.
LINK_ERRORS: dict[str, tuple[int, ...]] = {
    "replay": (161,),
    "recovery": (162, 215),
    "crc": (163,),
    "malformed": (206,),
    "buffer_overrun": (207,),
    "rx": (208,),
    "integrity": (211,),
    "symbol": (221,),
}
# Older drivers have a separate field value for each link (0 to 11), and one for all links together.
OLDER = {
    "replay": (*range(46, 52), *range(108, 114)),
    "recovery": (*range(53, 59), *range(114, 120)),
    "crc": (*range(32, 38), *range(96, 102)),
    "ecc": tuple(range(148, 160)),
}
OLDER_TOTAL: dict[str, Field] = {
    "replay": (52, 0),
    "recovery": (59, 0),
    "crc": (38, 0),
    "ecc": (160, 0),
}
FAULTS = ("crc", "replay", "recovery")  # the first symptoms of a bad link or cable
LINK_BYTES: dict[str, tuple[Field, int]] = {  # all links, in KiB; NVLink 5: per link, in bytes
    "gpu_nvlink_transmit_bytes_total": ((138, ALL_LINKS), 202),
    "gpu_nvlink_receive_bytes_total": ((139, ALL_LINKS), 204),
}
PCIE_ERRORS: dict[str, Field] = {
    "replay_rollover": (95, 0),
    "l0_to_recovery": (169, 0),
    "correctable": (173, 0),
    "nak_received": (174, 0),
    "receiver": (175, 0),
    "bad_tlp": (176, 0),
    "nak_sent": (177, 0),
    "bad_dllp": (178, 0),
    "non_fatal": (179, 0),
    "fatal": (180, 0),
}
PCIE_REPLAY: Field = (94, 0)
PCIE_BYTES: dict[str, Field] = {
    "gpu_pcie_transmit_bytes_total": (197, 0),
    "gpu_pcie_receive_bytes_total": (198, 0),
}
_PCIE_LINK = (
    ("current", "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth"),
    ("max", "nvmlDeviceGetMaxPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkWidth"),
)


class Unwrapped:
    """Extends a 32-bit hardware counter to a counter that never decreases.

    It starts at 0, so that a restart of the exporter does not look like an increase.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self.total = 0

    def add(self, raw: int) -> int:
        """Return the extended count for the hardware counter's value `raw`."""
        if self._last is not None:
            step = raw - self._last
            # A decrease from the upper half is a wraparound; any other decrease is a reset of the GPU.
            wrapped = step < 0 and self._last >= 1 << 31 and self._last < 1 << 32
            self.total += step + (1 << 32) if wrapped else raw if step < 0 else step
        self._last = raw
        return self.total


class LinkGroupReader:
    """Reads the group `links`. Keeps the extended counters by UUID, because a GPU's number may
    change."""

    def __init__(self) -> None:
        self._pcie: dict[tuple[str, str], Unwrapped] = {}
        self._nvlink: dict[tuple[str, str], dict[int, int]] = {}
        self._faults: dict[str, dict[tuple[str, str], int]] = {}

    def rows(self, driver: NvmlApi, slot: int, uuid: str) -> Iterator[Row]:
        """Yield the readings of the group `links`."""
        states = {
            link: driver.ask(slot, "nvmlDeviceGetNvLinkState", link) for link in range(MAX_LINKS)
        }
        links = [link for link, state in states.items() if state is not None]
        for link in links:
            yield "gpu_nvlink_up", (str(link),), states[link]
        if links:
            yield "gpu_nvlink_active_links", (), sum(states[link] or 0 for link in links)
            yield from self._link_errors(driver, slot, uuid, links)
            yield from self._link_bytes(driver, slot, uuid, links)
        for which, generation, width in _PCIE_LINK:
            yield "gpu_pcie_link_generation", (which,), driver.ask(slot, generation)
            yield "gpu_pcie_link_width", (which,), driver.ask(slot, width)
        fields = driver.fields(slot, (PCIE_REPLAY, *PCIE_ERRORS.values(), *PCIE_BYTES.values()))
        replays = fields.get(PCIE_REPLAY)
        if replays is None:
            replays = driver.ask(slot, "nvmlDeviceGetPcieReplayCounter")
        yield "gpu_pcie_replay_total", (), replays
        for kind, field in PCIE_ERRORS.items():
            yield "gpu_pcie_errors_total", (kind,), fields.get(field)
        for name, field in PCIE_BYTES.items():
            if field in fields:
                yield name, (), self._pcie.setdefault((uuid, name), Unwrapped()).add(fields[field])

    def _link_errors(
        self, driver: NvmlApi, slot: int, uuid: str, links: list[int]
    ) -> Iterator[Row]:
        # A link that does not respond keeps its count, because the sum must not decrease.
        faults = self._faults.setdefault(uuid, {})
        for link, kind, count in _errors(driver, slot, links):
            yield "gpu_nvlink_errors_total", (link, kind), count
            if kind in FAULTS:
                faults[link, kind] = count
        yield "gpu_nvlink_faults_total", (), sum(faults.values()) if faults else None

    def _link_bytes(self, driver: NvmlApi, slot: int, uuid: str, links: list[int]) -> Iterator[Row]:
        sums = driver.fields(slot, (field for field, _ in LINK_BYTES.values()))
        each = driver.fields(
            slot,
            (
                (one, link)
                for field, one in LINK_BYTES.values()
                if driver.lacks(slot, field)
                for link in links
            ),
        )
        for name, (field, one) in LINK_BYTES.items():
            if field in sums:
                yield name, (), sums[field] * 1024
                continue
            # A link that does not respond keeps its count, because the sum must not decrease.
            kept = self._nvlink.setdefault((uuid, name), {})
            kept |= {link: each[one, link] for link in links if (one, link) in each}
            yield name, (), sum(kept.values()) if kept else None


def _errors(driver: NvmlApi, slot: int, links: list[int]) -> Iterator[tuple[str, str, int]]:
    """Yield the errors of each link as (link, kind, count)."""
    found = choose(driver, slot, _link_fields(links))
    for (kind, link), count in found.items():
        yield str(link), kind, count
    counted = {kind for kind, _ in found}
    together: Mapping[str, tuple[Field, ...]] = {
        kind: (field,) for kind, field in OLDER_TOTAL.items() if kind not in counted
    }
    for kind, count in choose(driver, slot, together).items():
        yield "total", kind, count


def _link_fields(links: list[int]) -> dict[tuple[str, int], tuple[Field, ...]]:
    """Return the possible NVML fields for each error kind and link, newest first."""
    kinds: dict[str, tuple[int, ...]] = {**LINK_ERRORS, "ecc": ()}
    wanted: dict[tuple[str, int], tuple[Field, ...]] = {}
    for kind, fields in kinds.items():
        older = OLDER.get(kind, ())
        for link in links:
            own = ((older[link], 0),) if link < len(older) else ()
            wanted[kind, link] = (*((field, link) for field in fields), *own)
    return wanted
