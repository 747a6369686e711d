"""Prepares the volumes before the containers start. Can be run repeatedly; secrets are kept.

    init.py         secrets, simulated machines, rules, the settings of Alertmanager and Prometheus
    init.py ha      afterwards, for the profile ha: extends Prometheus' configuration
    init.py vm      the same for the profile vm

Runs in the image of the rules, as the user of all fleetmedic containers.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from fleetmedic.alerting.render import RenderContext
from fleetmedic.alerting.render import render as render_alertmanager
from fleetmedic.alerting.settings import read
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from fleetmedic.kernel.share import share
from fleetmedic.kernel.urls import check_public_url
from fleetmedic.stack.config_snippets import discovered
from rules.render import Links, render
from rules.render import RenderParameters as RulesPlace

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("FLEETMEDIC_STATE_DIR", "/state"))
# Paths as seen by the containers of Alertmanager.
TEMPLATES_THERE = "/etc/alertmanager/templates"
TOKEN_THERE = "/state/secrets/webhook.token"  # noqa: S105 - a path
SHARED_BY_GROUP = 0o640
# `simulated` machines; or `real`: only this machine, with the first exporter; or `fleet`: the machines in the
# remediator's target list.
GPUS = os.environ.get("FLEETMEDIC_GPUS", "simulated")
Config = dict[str, Any]


def secret(name: str) -> None:
    """Generate a random secret if missing; Alertmanager and Grafana read it through their group."""
    path = STATE / "secrets" / name
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32), mode=SHARED_BY_GROUP)
        print(f"generated {path}")


def machines() -> list[str]:
    """Create the simulated machines, and the directories to which their exporters and jobs write."""
    names = ["node1"] if GPUS == "real" else []
    if GPUS == "simulated":
        nodes = int(os.environ.get("FLEETMEDIC_NODES", "4"))
        gpus = int(os.environ.get("FLEETMEDIC_GPUS_PER_NODE", "8"))
        Hardware(STATE / "hardware").create(nodes, gpus)
        names = Hardware(STATE / "hardware").nodes()
    for node in names:
        for folder in ("exporter", "progress"):
            (STATE / folder / node).mkdir(parents=True, exist_ok=True)
    return names


def alertmanager() -> None:
    """Write alertmanager.yml from the shipped template and notifications.yml, and copy the message
    templates."""
    given = read(HERE / "notifications.yml")
    source, target = share("alertmanager"), STATE / "alertmanager"
    shutil.copytree(source / "templates", target / "templates", dirs_exist_ok=True)
    place = RenderContext("http://remediator:9095", TOKEN_THERE, TEMPLATES_THERE)
    text = render_alertmanager(place, given)
    write_atomic(target / "alertmanager.yml", text)


def add_ha(config: Config) -> None:
    """Add two Alertmanagers, and scrape targets for them and for the second Prometheus."""
    more = ["alertmanager-2:9093", "alertmanager-3:9093"]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] += more
    for name, targets in (("alertmanager", more), ("prometheus", ["prometheus-2:9090"])):
        job(config, name)["static_configs"][0]["targets"] += targets


def add_vm(config: Config) -> None:
    """Send every sample to VictoriaMetrics too."""
    config["remote_write"] = [{"url": "http://victoriametrics:8428/api/v1/write"}]
    config["scrape_configs"].append(
        {
            "job_name": "victoriametrics",
            "static_configs": [
                {"targets": ["victoriametrics:8428"], "labels": {"cluster": "local"}}
            ],
        }
    )


PROFILES: dict[str, Callable[[Config], None]] = {"ha": add_ha, "vm": add_vm}


def job(config: Config, name: str) -> Config:
    """The scrape job of that name."""
    return next(each for each in config["scrape_configs"] if each["job_name"] == name)


def prometheus(profile: str | None, nodes: list[str]) -> None:
    """Write prometheus.yml from the template in this directory, for the existing nodes and all
    profiles selected since the last run without a profile. Concurrent runs are possible."""
    folder = STATE / "prometheus-config"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        chosen = folder / ".profiles"
        names = set(chosen.read_text().split()) | {profile} if profile else set()
        chosen.write_text(" ".join(sorted(names)))
        config: Config = yaml.safe_load((HERE / "prometheus.yml").read_text())
        scraped = job(config, "node")
        scraped["static_configs"] = [
            one for one in scraped["static_configs"] if one["labels"]["node"] in nodes
        ]
        if GPUS == "fleet":
            del scraped["static_configs"]
            scraped |= discovered("http://remediator:9095", Path(TOKEN_THERE))
        if GPUS != "simulated":  # the worker pool only runs with simulated machines
            config["scrape_configs"].remove(job(config, "service"))
        for name in sorted(names):
            PROFILES[name](config)
        write_atomic(folder / "prometheus.yml", yaml.safe_dump(config, sort_keys=False))


def reload() -> None:
    """Reload a running Prometheus; one that is not running reads the new file when it starts."""
    for server in ("prometheus", "prometheus-2"):
        request = urllib.request.Request(f"http://{server}:9090/-/reload", method="POST")
        try:
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - two names of ours
            print(f"reloaded {server}")
        except OSError:
            continue


def base_url(variable: str, default: str) -> str:
    """The base URL of links in alerts, from the environment."""
    url = os.environ.get(variable, default)
    check_public_url(url, variable)
    return url


def first() -> None:
    """Create missing files, and render the configuration of this version."""
    for name in ("webhook.token", "grafana.password"):
        secret(name)
    nodes = machines()
    alertmanager()
    prometheus(None, nodes)
    rules = STATE / "prometheus" / "rules"
    (rules / "generated").mkdir(parents=True, exist_ok=True)
    links = Links(
        base_url("FLEETMEDIC_RUNBOOK_BASE", "http://127.0.0.1:9095/runbooks"),
        base_url("FLEETMEDIC_DASHBOARD_BASE", "http://127.0.0.1:3000"),
    )
    written = render(rules, RulesPlace(links=links))
    print(f"{GPUS} {', '.join(nodes)}; {len(list(written))} rule files")


def main(arguments: list[str]) -> None:
    """Run the first step, or the step of a profile."""
    if not arguments:
        first()
    elif arguments[0] in PROFILES:
        prometheus(arguments[0], machines())
        reload()
    else:
        sys.exit(f"init: expected a profile ({', '.join(PROFILES)}), got {arguments[0][:40]!r}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"init: {error}")
