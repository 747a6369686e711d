"""The types of the collector registry: a collector's specification, its flags, and its
dependencies."""

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
    """A collector's own command line option, `--NAME`.

    An option without a default may be omitted. An option with `many` can be repeated; its value is
    a tuple.
    """

    name: str
    help: str
    type: type[str] | type[int] | type[float] | type[Path] | type[bool] = str
    default: Any = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class CollectorContext:
    """The objects and settings with which collectors are created. A directory is None if its flag
    is not set."""

    gpu_states: GpuStates
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
    """The specification of one collector. `make` returns None if the exporter has no data for the
    collector.

    `flags` are the collector's own command line options; `CollectorContext.flags` contains their
    values by name.
    """

    name: str
    summary: str
    make: Callable[[CollectorContext], Collector | None]
    on: bool = True
    flags: tuple[Flag, ...] = ()
