"""The scrape jobs of fleetmedic's own processes, under the names that the rules expect."""

from __future__ import annotations

from typing import Any

# Scrape job: the process of the stack that it scrapes.
PROCESSES = {
    "remediator": "remediator",
    "rules": "rules",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "service": "pool",
}


def scrape_job(job: str, address: str, cluster: str) -> dict[str, Any]:
    """Return the scrape job of one process at HOST:PORT."""
    return {
        "job_name": job,
        "static_configs": [{"targets": [address], "labels": {"cluster": cluster}}],
        # Only exporters may set the label `node`; it is dropped from all other jobs.
        "metric_relabel_configs": [{"action": "labeldrop", "regex": "node"}],
    }
