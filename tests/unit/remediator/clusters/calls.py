"""Calls of any method of the cluster interface, with an example value for each parameter."""

from __future__ import annotations

import inspect
from typing import Any

from fleetmedic.kernel.labels import Target
from remediator.clusters.base import Cluster

GPU = Target.parse("node1/0")
NODE = Target.parse("node1")
# A new parameter of a cluster's operation needs an example value here.
EXAMPLES: dict[str, Any] = {
    "target": GPU,
    "job_id": "train",
    "name": "serve",
    "workload": "serve",
    "replicas": 3,
    "owner": "me",
    "reason": "sick",
    "exclude": (),
    "installation": "me",
    "ttl": 60.0,
    "host": "here",
}


async def call(cluster: Cluster, verb: str) -> Any:
    """Call a method with the example values of its required parameters. Each has an op_id of its own."""
    known = EXAMPLES | {"op_id": f"op-{verb}"}
    known |= {"target": NODE} if verb.endswith(("_node", "reboot_seen")) else {}
    method = getattr(cluster, verb)
    required = [
        one.name
        for one in inspect.signature(method).parameters.values()
        if one.default is inspect.Parameter.empty
    ]
    positional = [
        name
        for name in required
        if inspect.signature(method).parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    named = {name: known[name] for name in required if name not in positional}
    return await method(*(known[name] for name in positional), **named)
