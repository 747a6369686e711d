"""The scrape configuration. Only it sets the labels `cluster` and `node`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Scrape jobs of the shipped rules, with the process of each.
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
    """The exporters; those without authentication ignore the credentials."""
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
    """Our other processes and the monitoring in the rack, and the remediator of the mill."""
    for job, name in OWN.items():
        found = _job(job, [f"127.0.0.1:{ports[name]}"], "rack")
        if job == "remediator":
            found["static_configs"] += _job(job, [f"127.0.0.1:{ports['mill']}"], "mill")[
                "static_configs"
            ]
        yield found
    yield _job("prometheus", prometheis, "rack")


def outside_jobs(address: str) -> Iterator[Scrape]:
    """The fakes of external systems."""
    kube = {"metrics_path": "/kube", "honor_labels": True}
    yield _job("kube-state-metrics", [address], "barn") | kube
    yield _job("scheduler", [address], "hall") | {"metrics_path": "/scheduler"}
    yield _job("promises", [address], "hall") | {"metrics_path": "/objectives"}


def _job(job: str, targets: list[str], cluster: str) -> Scrape:
    return {
        "job_name": job,
        "static_configs": [{"targets": targets, "labels": {"cluster": cluster}}],
    }
