"""The clusters that the remediator can work on. Read by the composition root only.

A new cluster is one file beside this one and one line here.
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
from remediator.clusters.local import LocalCluster, LocalSettings
from remediator.clusters.memory import MemoryCluster, MemorySettings


@dataclass(frozen=True, slots=True)
class Adapter:
    """A kind of cluster: its name, the shape of its settings, and how one is made of them.

    `build` takes the cluster's own name and the settings, and touches nothing of the world.
    """

    name: str
    settings: type[msgspec.Struct]
    build: Callable[[str, Any], Cluster]


ADAPTERS = Registry(
    "cluster adapter",
    (
        Adapter("local", LocalSettings, LocalCluster),
        Adapter("memory", MemorySettings, MemoryCluster.of),
    ),
)


def open_cluster(adapter: str, name: str, settings: object, where: str) -> Cluster:
    """The cluster that the settings describe.

    `settings` is what stands below `cluster.ADAPTER`, still unchecked, and `where` names the file.
    Raises UserError for an unknown adapter and for settings that do not fit it.
    """
    try:
        chosen = ADAPTERS.get(adapter)
    except LookupError as error:
        raise UserError(f"{where}: at $.cluster.adapter: {error}.") from None
    checked = convert(settings, chosen.settings, f"{where}, cluster.{chosen.name}")
    return chosen.build(name, checked)
