"""The table of the stack's processes, with the command line and health check of each.

The processes start in the order of the table and stop in reverse order, so that no process acts on
a partly stopped stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fleetmedic.stack.health import ready_url
from fleetmedic.stack.plan import StackPlan
from fleetmedic.stack.ports import HOST
from fleetmedic.stack.service_supervisor import ServiceSpec

POOL = "pool"
# the embedded cluster starts the worker pool, and logs its events
_LOGGED_BY = {POOL: "localcluster"}


def services(plan: StackPlan, program: Callable[[str], list[str]]) -> list[ServiceSpec]:
    """Return all supervised processes in start order.

    `program` returns the start of the command line of Prometheus or Alertmanager.
    """
    return [
        _prometheus(plan, program("prometheus")),
        _alertmanager(plan, program("alertmanager")),
        _localcluster(plan),
        *(_exporter(plan, node) for node in plan.nodes),
        _ours(
            "rules",
            ["rules", "serve", f"--config={plan.state}/rules/rules.yml", _listen(plan, "rules")],
            plan.url("rules"),
        ),
        _ours(
            "remediator",
            [
                "remediator",
                "serve",
                f"--config={plan.state}/remediator/remediator.yml",
                _listen(plan, "remediator"),
                f"--data-dir={plan.state}/remediator/data",
            ],
            plan.url("remediator"),
        ),
    ]


def health_urls(plan: StackPlan, supervised: list[ServiceSpec]) -> dict[str, str]:
    """Return the readiness URL of each process, which must return 200 before the stack is ready.

    The result includes the worker pool, which the embedded cluster starts.
    """
    found = {one.name: one.health for one in supervised if one.health}
    return found | ({POOL: ready_url(POOL, plan.url(POOL))} if POOL in plan.ports else {})


def log_of(state: Path, name: str) -> Path:
    """Return the log file of a process of the stack."""
    return state / "logs" / f"{_LOGGED_BY.get(name, name)}.log"


def log_names(state: Path) -> list[str]:
    """Return the names of the processes that have a log, sorted. Raises OSError without access."""
    folder = state / "logs"
    files = list(folder.iterdir()) if folder.exists() else []
    found = {path.stem for path in files if path.suffix == ".log"}
    return sorted(found | {name for name, logger in _LOGGED_BY.items() if logger in found})


def _prometheus(plan: StackPlan, program: list[str]) -> ServiceSpec:
    folder = plan.state / "prometheus"
    url = plan.url("prometheus")
    command = [
        *program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=15d",
        "--storage.tsdb.retention.size=4GB",
        f"--web.listen-address={HOST}:{plan.ports['prometheus']}",
        f"--web.external-url={url}/",
        "--web.enable-lifecycle",
        # After a reload Prometheus has no Alertmanager for up to 5 s, and an alert that fires then
        # is sent only after the resend delay, by default one minute.
        "--rules.alert.resend-delay=5s",
    ]
    return ServiceSpec("prometheus", tuple(command), ready_url("prometheus", url), url)


def _alertmanager(plan: StackPlan, program: list[str]) -> ServiceSpec:
    folder = plan.state / "alertmanager"
    url = plan.url("alertmanager")
    command = [
        *program,
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address={HOST}:{plan.ports['alertmanager']}",
        f"--web.external-url={url}/",
        "--cluster.listen-address=",
    ]
    return ServiceSpec("alertmanager", tuple(command), ready_url("alertmanager", url), url)


def _localcluster(plan: StackPlan) -> ServiceSpec:
    # the pool demonstrates scaling on a simulated stack; it is not started on real machines
    pool = f"--pool.listen-address={HOST}:{plan.ports[POOL]}" if POOL in plan.ports else "--no-pool"
    return _ours("localcluster", ["localcluster", "serve", f"--state-dir={plan.state}", pool])


def _exporter(plan: StackPlan, node: str) -> ServiceSpec:
    name = f"exporter-{node}"
    arguments = [
        "exporter",
        _listen(plan, name),
        "--path.procfs=/proc",
        "--path.sysfs=/sys",
        f"--state.dir={plan.state}/exporter/{node}",
        f"--cluster.dir={plan.state}/cluster",
        f"--progress.dir={plan.state}/progress/{node}",
        "--gpu.interval=2s",
        "--gpu.health-interval=5s",
    ]
    if plan.simulated:
        arguments += [
            "--source=simulated",
            f"--hardware.dir={plan.hardware}",
            f"--hardware.node={node}",
            f"--path.kmsg={plan.hardware}/{node}/kmsg",
        ]
    else:
        arguments += ["--source=nvml", "--path.kmsg=/dev/kmsg", f"--hardware.node={node}"]
    return _ours(name, arguments, plan.url(name))


def _ours(name: str, arguments: list[str], url: str | None = None) -> ServiceSpec:
    # -P prevents a directory `rules` in the working directory from shadowing the package
    command = (sys.executable, "-P", "-m", "fleetmedic.cli", *arguments)
    return ServiceSpec(
        name, command, ready_url(name, url) if url else None, url, {"PYTHONUNBUFFERED": "1"}
    )


def _listen(plan: StackPlan, name: str) -> str:
    return f"--web.listen-address={HOST}:{plan.ports[name]}"
