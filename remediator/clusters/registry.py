"""The cluster adapters. Only the composition root reads this registry.

A new adapter is one file in this folder and one line here.
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
    """A kind of cluster: its name, the type of its settings, and its constructor.

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
    """The cluster that the settings describe.

    `settings` is the unchecked content of `cluster.ADAPTER`, and `where` names the file. Raises UserError
    for an unknown adapter and for invalid settings.
    """
    try:
        chosen = ADAPTERS.get(adapter)
    except LookupError as error:
        raise UserError(f"{where}: at $.cluster.adapter: {error}.") from None
    checked = convert(settings, chosen.settings, f"{where}, cluster.{chosen.name}")
    return chosen.build(name, checked)
