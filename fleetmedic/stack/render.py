"""Writes the settings of every process of a stack into its state folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fleetmedic.kernel.durations import format_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from fleetmedic.kernel.share import share
from fleetmedic.stack.plan import CLUSTER, Plan
from fleetmedic.stack.ports import HOST

SECRET_MODE = 0o600
# At least twice the resend delay of this stack's Prometheus, which is 5 s (services.py).
SETTLE = "15s"
_HEADER = "# Written by `fleetmedic up`; it is written anew at every start.\n"


def render(plan: Plan, promtool: Path | None) -> None:
    """Write everything. Raises UserError when the folder cannot be written."""
    try:
        for folder in _folders(plan):
            folder.mkdir(parents=True, exist_ok=True)
        (plan.state / "secrets").chmod(0o700)
        ensure_token(plan.token_file)
        _write(plan.state / "prometheus/prometheus.yml", prometheus(plan))
        _write(plan.state / "remediator/remediator.yml", remediator(plan))
        _write(plan.state / "rules/rules.yml", rules(plan, promtool))
        write_atomic(
            plan.state / "alertmanager/alertmanager.yml",
            alertmanager(plan.url("remediator"), plan.token_file, plan.notifications),
        )
    except OSError as error:
        raise UserError(
            f"{error.filename or plan.state} cannot be written ({error.strerror}): "
            "choose another folder with --state-dir."
        ) from None
    render_rules(plan)


def ensure_token(path: Path) -> None:
    """Create the webhook's credential once, readable by its owner only."""
    if not path.exists() or not path.read_text().strip():
        write_atomic(path, secrets.token_urlsafe(32) + "\n", mode=SECRET_MODE)
    path.chmod(SECRET_MODE)


def prometheus(plan: Plan) -> dict[str, Any]:
    """prometheus.yml: what is scraped, which rules are loaded, where alerts go."""
    local = {"cluster": CLUSTER}
    nodes = [
        {
            "targets": [f"{HOST}:{plan.ports[f'exporter-{node}']}"],
            "labels": {**local, "node": node},
        }
        for node in plan.nodes
    ]
    own = {
        "remediator": "remediator", "rules": "rules", "prometheus": "prometheus",
        "alertmanager": "alertmanager", "service": "pool",
    }  # fmt: skip
    jobs = [{"job_name": "node", "static_configs": nodes}] + [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"{HOST}:{plan.ports[name]}"], "labels": local}],
            # Only exporters speak of nodes: a page of another job that names one is not believed.
            "metric_relabel_configs": [{"action": "labeldrop", "regex": "node"}],
        }
        for job, name in own.items()
        if name in plan.ports
    ]
    return {
        "global": {
            "scrape_interval": format_duration(plan.scrape),
            "scrape_timeout": format_duration(min(10.0, plan.scrape * 0.8)),
            "evaluation_interval": "15s",
        },
        "rule_files": ["rules/static/*.yml", "rules/recording/*.yml", "rules/generated/*.yml"],
        "alerting": {
            "alertmanagers": [
                {"static_configs": [{"targets": [f"{HOST}:{plan.ports['alertmanager']}"]}]}
            ]
        },
        "scrape_configs": jobs,
    }


def remediator(plan: Plan) -> dict[str, Any]:
    """remediator.yml: the cluster it acts on, how far it may go, and where it asks."""
    local = {"cluster_dir": str(plan.state / "cluster")}
    if plan.simulated:
        local["hardware_dir"] = str(plan.hardware)
    return {
        "cluster": {"name": CLUSTER, "adapter": "local", "local": local},
        "level": plan.level,
        "prometheus_url": plan.url("prometheus"),
        "alertmanager_url": plan.url("alertmanager"),
        "webhook_token_file": str(plan.token_file),
        "timing": {"factor": plan.factor, "alertmanager_settle": SETTLE},
    } | ({"notify": {"file": str(plan.notifications)}} if plan.notifications else {})


def rules(plan: Plan, promtool: Path | None) -> dict[str, Any]:
    """rules.yml: what the detectors read, how often, and where their rules go."""
    settings = {
        "prometheus_url": plan.url("prometheus"),
        "rules_dir": str(plan.state / "prometheus/rules/generated"),
        "work_dir": str(plan.state / "rules"),
        "interval": "60s",
        "window": "24h",
        "step": "30s",
        "factor": plan.factor,
        "runbook_base": f"{plan.url('remediator')}/runbooks",
        "dashboard_base": plan.url("remediator"),
    }
    return settings | ({"promtool": str(promtool)} if promtool else {})


def alertmanager(remediator_url: str, token_file: Path, notifications: Path | None = None) -> str:
    """alertmanager.yml for the Alertmanager of this machine, from the shipped template and the given
    notifications.yml."""
    from fleetmedic.alerting.render import Place
    from fleetmedic.alerting.render import render as render_alertmanager
    from fleetmedic.alerting.settings import read

    templates = str(share("alertmanager") / "templates")
    given = read(notifications) if notifications else None
    return render_alertmanager(Place(remediator_url, str(token_file), templates), given)


def render_rules(plan: Plan) -> None:
    """The shipped rules with this stack's runbooks and factor; files of older versions go away."""
    from rules.render import Links, Place
    from rules.render import render as render_shipped

    out = plan.state / "prometheus" / "rules"
    remediator = plan.url("remediator")
    links = Links(f"{remediator}/runbooks", remediator)
    written = render_shipped(out, Place(plan.factor, links, plan.scrape))
    for folder in {path.parent for path in written}:
        for old in set(folder.glob("*.yml")) - set(written):
            old.unlink()


def _folders(plan: Plan) -> Iterable[Path]:
    names = [
        "secrets", "logs", "cluster", "prometheus/data", "prometheus/rules/generated",
        "alertmanager/data", "remediator/data", "rules",
    ]  # fmt: skip
    names += [f"exporter/{node}" for node in plan.nodes]
    names += [f"progress/{node}" for node in plan.nodes]
    return [plan.state / name for name in names]


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _HEADER + yaml.safe_dump(dict(value), sort_keys=False))
