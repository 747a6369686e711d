"""The registry's types: a collector's entry, its flags, and the parts that it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.boot import BootReader
from exporter.collector import Collector
from exporter.gpu_states import GpuStates
from exporter.sources.base import Group


@dataclass(frozen=True, slots=True)
class Flag:
    """A command line option, `--NAME`. Without a default the option is optional; with `many` it can be
    repeated, and its value is a tuple."""

    name: str
    help: str
    type: type[str] | type[int] | type[float] | type[Path] | type[bool] = str
    default: Any = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class CollectorContext:
    """The parts that collectors are built from. A folder is None when its flag is not set."""

    board: GpuStates
    intervals: Mapping[Group, float]
    boot: BootReader
    procfs: Path
    kmsg: Path
    state_dir: Path
    node: str
    cluster_dir: Path | None
    progress_dir: Path | None
    has_gpus: bool
    log: Callable[..., None]
    flags: Mapping[str, Any] = field(default_factory=dict)
    sysfs: Path = Path("/sys")
    simulated: bool = False
    shared: dict[str, Any] = field(default_factory=dict)
    """Objects that several collectors share; the first collector that needs one creates it."""


@dataclass(frozen=True, slots=True)
class CollectorSpec:
    """A collector of the registry. `make` returns None when the exporter has nothing for it to read.

    `flags` are the collector's own command line options; `CollectorContext.flags` has their values by name.
    """

    name: str
    summary: str
    make: Callable[[CollectorContext], Collector | None]
    on: bool = True
    flags: tuple[Flag, ...] = ()
