"""What the registry holds of a collector: how it is made, from which parts, with which flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.board import Board
from exporter.boot import BootReader
from exporter.collectors.base import Collector
from exporter.sources.base import Group


@dataclass(frozen=True, slots=True)
class Flag:
    """A setting on the command line, `--NAME`. A default of None means that it need not be given;
    `many` that it may be given again and again (the value is a tuple)."""

    name: str
    help: str
    type: type[str] | type[int] | type[float] | type[Path] | type[bool] = str
    default: Any = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What collectors are made of. A folder that is None was not given."""

    board: Board
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
    """What several collectors use together, made by the first that asks for it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How a collector is made; None when this exporter was given nothing for it to read.

    `flags` are its own settings on the command line; the values are in `Parts.flags` by name.
    """

    name: str
    summary: str
    make: Callable[[Parts], Collector | None]
    on: bool = True
    flags: tuple[Flag, ...] = ()
