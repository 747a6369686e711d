"""What a Prometheus of the fleet scrapes. `cluster` and `node` come from here alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Scrape jobs by the names that the rules know, and the process behind each.
OWN = {
    "remediator": "remediator",
    "rules": "rules",
    "alertmanager": "alertmanager",
    "service": "pool",
}
Scrape = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A machine with its exporter."""

    name: str
    cluster: str
    port: int


def node_job(nodes: Iterable[Node], user: str, password: str) -> Scrape:
    """The exporters; who asks for no login does not mind one."""
    targets = [
        {
            "targets": [f"127.0.0.1:{node.port}"],
            "labels": {"cluster": node.cluster, "node": node.name},
        }
        for node in nodes
    ]
    login = {"username": user, "password": password}
    return {"job_name": "node", "basic_auth": login, "static_configs": targets}


def own_jobs(ports: Mapping[str, int], prometheis: list[str]) -> Iterator[Scrape]:
    """Our other processes and those that watch, in the rack; and the mill's remediator."""
    for job, name in OWN.items():
        found = _job(job, [f"127.0.0.1:{ports[name]}"], "rack")
        if job == "remediator":
            found["static_configs"] += _job(job, [f"127.0.0.1:{ports['mill']}"], "mill")[
                "static_configs"
            ]
        yield found
    yield _job("prometheus", prometheis, "rack")


def outside_jobs(address: str) -> Iterator[Scrape]:
    """What is somebody else's."""
    kube = {"metrics_path": "/kube", "honor_labels": True}
    yield _job("kube-state-metrics", [address], "barn") | kube
    yield _job("scheduler", [address], "hall") | {"metrics_path": "/scheduler"}
    yield _job("promises", [address], "hall") | {"metrics_path": "/objectives"}


def _job(job: str, targets: list[str], cluster: str) -> Scrape:
    return {
        "job_name": job,
        "static_configs": [{"targets": targets, "labels": {"cluster": cluster}}],
    }
