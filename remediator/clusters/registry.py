"""List the cluster adapters.

A new adapter needs one file in this folder and one line here. Only the composition root reads this list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.registry import Registry
from fleetmedic.kernel.settings import convert
from remediator.clusters.base import Cluster
from remediator.clusters.local import LocalClusterAdapter, LocalSettings
from remediator.clusters.memory import MemoryCluster, MemorySettings


@dataclass(frozen=True, slots=True)
class Adapter:
    """A type of cluster: its name, the type of its settings, and its constructor.

    `build` takes the cluster's name and the settings, and has no side effects.
    """

    name: str
    settings: type[msgspec.Struct]
    build: Callable[[str, Any], Cluster]


ADAPTERS = Registry(
    "cluster adapter",
    (
        Adapter("local", LocalSettings, LocalClusterAdapter),
        Adapter("memory", MemorySettings, MemoryCluster.of),
    ),
)


def open_cluster(adapter: str, name: str, settings: object, where: str) -> Cluster:
    """Create the cluster that the settings describe.

    `settings` is the unvalidated section `cluster.ADAPTER`; `where` is the file's name for errors.
    Raises UserError for an unknown adapter or invalid settings.
    """
    try:
        chosen = ADAPTERS.get(adapter)
    except LookupError as error:
        raise UserError(f"{where}: at $.cluster.adapter: {error}.") from None
    checked = convert(settings, chosen.settings, f"{where}, cluster.{chosen.name}")
    return chosen.build(name, checked)
