"""Calls, for each group of readings, the NVML module that reads the group."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.sources.base import Group, Reading
from exporter.sources.nvml_driver import NvmlApi, Row
from exporter.sources.nvml_gpm import gpm
from exporter.sources.nvml_health import health
from exporter.sources.nvml_limits import limits
from exporter.sources.nvml_links import LinkGroupReader
from exporter.sources.nvml_load import load
from exporter.sources.nvml_mig import MigGroupReader
from exporter.sources.nvml_processes import ProcessGroupReader


class GroupReader:
    """Reads the groups of each GPU through an NVML driver."""

    def __init__(self, driver: NvmlApi) -> None:
        self._driver = driver
        self._uuids: dict[int, str] = {}
        self._links, self._mig, self._processes = (
            LinkGroupReader(),
            MigGroupReader(),
            ProcessGroupReader(),
        )

    def set_uuid(self, slot: int, uuid: str) -> None:
        """Set the UUID of the GPU that has this number now."""
        self._uuids[slot] = uuid

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        """Return the available readings of a group. Raises SourceLost and SourceFailed."""
        return tuple(
            Reading(name, labels, value)
            for name, labels, value in self._rows(slot, group, now)
            if value is not None
        )

    def _rows(self, slot: int, group: Group, now: float) -> Iterator[Row]:
        match group:
            case "load":
                return load(self._driver, slot)
            case "gpm":
                return gpm(self._driver, slot)
            case "health":
                return health(self._driver, slot)
            case "links":
                return self._links.rows(self._driver, slot, self._uuids.get(slot, str(slot)))
            case "mig":
                return self._mig.rows(self._driver, slot)
            case "processes":
                return self._processes.rows(self._driver, slot, now)
            case "limits":
                return limits(self._driver, slot)
            case _:
                return iter(())
