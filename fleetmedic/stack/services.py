"""The table of processes: what each is started with, and where it says that it is well.

They start from the top and are stopped from the bottom, so that nothing acts on a half-stopped
stack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from fleetmedic.stack.plan import Plan
from fleetmedic.stack.ports import HOST
from fleetmedic.stack.supervise import Service

POOL = "pool"


def services(plan: Plan, program: Callable[[str], list[str]]) -> list[Service]:
    """Every supervised process. `program` gives the command line's beginning for Prometheus and
    Alertmanager."""
    return [
        _prometheus(plan, program("prometheus")),
        _alertmanager(plan, program("alertmanager")),
        _localcluster(plan),
        *(_exporter(plan, node) for node in plan.nodes),
        _ours(
            "rules", ["rules", "serve", f"--config={plan.state}/rules/rules.yml", _listen(plan, "rules")],
            plan.url("rules"),
        ),
        _ours(
            "remediator",
            ["remediator", "serve", f"--config={plan.state}/remediator/remediator.yml",
             _listen(plan, "remediator"), f"--data-dir={plan.state}/remediator/data"],
            plan.url("remediator"),
        ),
    ]  # fmt: skip


def health_urls(plan: Plan, supervised: list[Service]) -> dict[str, str]:
    """Everything that must answer 200 before the stack is called ready, the pool included: the
    embedded cluster starts that one by itself."""
    found = {one.name: one.health for one in supervised if one.health}
    return found | ({POOL: f"{plan.url(POOL)}/healthz"} if POOL in plan.ports else {})


def _prometheus(plan: Plan, program: list[str]) -> Service:
    folder = plan.state / "prometheus"
    url = plan.url("prometheus")
    command = [
        *program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=15d", "--storage.tsdb.retention.size=4GB",
        f"--web.listen-address={HOST}:{plan.ports['prometheus']}", f"--web.external-url={url}/",
        "--web.enable-lifecycle",
        # After a reload Prometheus knows no Alertmanager for up to 5 s, and what fires then is lost
        # until it is sent again: by default a minute later, which no sick GPU should wait for.
        "--rules.alert.resend-delay=5s",
    ]  # fmt: skip
    return Service("prometheus", tuple(command), f"{url}/-/ready", url)


def _alertmanager(plan: Plan, program: list[str]) -> Service:
    folder = plan.state / "alertmanager"
    url = plan.url("alertmanager")
    command = [
        *program, f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
        f"--web.listen-address={HOST}:{plan.ports['alertmanager']}", f"--web.external-url={url}/",
        "--cluster.listen-address=",
    ]  # fmt: skip
    return Service("alertmanager", tuple(command), f"{url}/-/ready", url)


def _localcluster(plan: Plan) -> Service:
    # the pool is there to be watched and scaled: on real machines nobody asked for its workers
    pool = f"--pool.listen-address={HOST}:{plan.ports[POOL]}" if POOL in plan.ports else "--no-pool"
    return _ours("localcluster", ["localcluster", "serve", f"--state-dir={plan.state}", pool])


def _exporter(plan: Plan, node: str) -> Service:
    name = f"exporter-{node}"
    arguments = [
        "exporter", _listen(plan, name), "--path.procfs=/proc", "--path.sysfs=/sys",
        f"--state.dir={plan.state}/exporter/{node}", f"--cluster.dir={plan.state}/cluster",
        f"--progress.dir={plan.state}/progress/{node}", "--gpu.interval=2s",
        "--gpu.health-interval=5s",
    ]  # fmt: skip
    if plan.simulated:
        arguments += [
            "--source=simulated", f"--hardware.dir={plan.hardware}", f"--hardware.node={node}",
            f"--path.kmsg={plan.hardware}/{node}/kmsg",
        ]  # fmt: skip
    else:
        arguments += ["--source=nvml", "--path.kmsg=/dev/kmsg", f"--hardware.node={node}"]
    return _ours(name, arguments, plan.url(name))


def _ours(name: str, arguments: list[str], url: str | None = None) -> Service:
    # -P keeps a folder called `rules` in the working directory from shadowing our package
    command = (sys.executable, "-P", "-m", "fleetmedic.cli", *arguments)
    return Service(name, command, f"{url}/-/healthy" if url else None, url, {"PYTHONUNBUFFERED": "1"})  # fmt: skip


def _listen(plan: Plan, name: str) -> str:
    return f"--web.listen-address={HOST}:{plan.ports[name]}"
