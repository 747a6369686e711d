"""What the containers need before they start; a second run changes nothing that matters.

    init.py         secrets, simulated machines, rules, the settings of Alertmanager and Prometheus
    init.py ha      afterwards, for the profile of that name: what Prometheus is told besides
    init.py vm

Runs in the image of the rules as the user whom all our containers share.
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

from fleetmedic.alerting.render import Place
from fleetmedic.alerting.render import render as render_alertmanager
from fleetmedic.alerting.settings import read
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from fleetmedic.kernel.share import share
from fleetmedic.stack.snippets import discovered
from rules.render import Links, render
from rules.render import Place as RulesPlace

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("FLEETMEDIC_STATE_DIR", "/state"))
# Where the containers of Alertmanager see what is written here.
TEMPLATES_THERE = "/etc/alertmanager/templates"
TOKEN_THERE = "/state/secrets/webhook.token"  # noqa: S105 - a path
SHARED_BY_GROUP = 0o640
# Simulated machines; or `real`, this machine alone, whose exporter is the first one; or `fleet`, the
# machines of the remediator's host list.
GPUS = os.environ.get("FLEETMEDIC_GPUS", "simulated")
Config = dict[str, Any]


def secret(name: str) -> None:
    """Make a random secret once; Alertmanager and Grafana read it through their group."""
    path = STATE / "secrets" / name
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32), mode=SHARED_BY_GROUP)
        print(f"made {path}")


def machines() -> list[str]:
    """Make the simulated machines, and the folders that their exporters and jobs write to."""
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
    """Write alertmanager.yml from the shipped template and the notifications.yml that the remediator
    reads as well, and the templates beside it."""
    given = read(HERE / "notifications.yml")
    source, target = share("alertmanager"), STATE / "alertmanager"
    shutil.copytree(source / "templates", target / "templates", dirs_exist_ok=True)
    place = Place("http://remediator:9095", TOKEN_THERE, TEMPLATES_THERE)
    text = render_alertmanager(place, given)
    write_atomic(target / "alertmanager.yml", text)


def add_ha(config: Config) -> None:
    """Two more Alertmanagers to tell, and each of the two Prometheus servers looks at all of them."""
    more = ["alertmanager-2:9093", "alertmanager-3:9093"]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] += more
    for name, targets in (("alertmanager", more), ("prometheus", ["prometheus-2:9090"])):
        job(config, name)["static_configs"][0]["targets"] += targets


def add_vm(config: Config) -> None:
    """Every sample also goes to VictoriaMetrics."""
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
    """Write prometheus.yml: the one beside this file, for the nodes there are and the profiles that
    were chosen since the last run without one. Two may be chosen at once."""
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
        if GPUS != "simulated":  # the pool of workers is of the simulated machines
            config["scrape_configs"].remove(job(config, "service"))
        for name in sorted(names):
            PROFILES[name](config)
        write_atomic(folder / "prometheus.yml", yaml.safe_dump(config, sort_keys=False))


def reload() -> None:
    """Tell a Prometheus that runs already; one that does not reads the new file when it starts."""
    for server in ("prometheus", "prometheus-2"):
        request = urllib.request.Request(f"http://{server}:9090/-/reload", method="POST")
        try:
            urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 - two names of ours
            print(f"{server} reads its settings again")
        except OSError:
            continue


def first() -> None:
    """Make what is missing, and render anew what follows from this version."""
    for name in ("webhook.token", "grafana.password"):
        secret(name)
    nodes = machines()
    alertmanager()
    prometheus(None, nodes)
    rules = STATE / "prometheus" / "rules"
    (rules / "generated").mkdir(parents=True, exist_ok=True)
    links = Links(
        os.environ.get("FLEETMEDIC_RUNBOOK_BASE", "http://127.0.0.1:9095/runbooks"),
        os.environ.get("FLEETMEDIC_DASHBOARD_BASE", "http://127.0.0.1:3000"),
    )
    written = render(rules, RulesPlace(links=links))
    print(f"{GPUS} {', '.join(nodes)}; {len(list(written))} rule files")


def main(arguments: list[str]) -> None:
    """All of the first step, or what a profile adds to it."""
    if not arguments:
        first()
    elif arguments[0] in PROFILES:
        prometheus(arguments[0], machines())
        reload()
    else:
        sys.exit(f"init: there is no profile {arguments[0][:40]!r}: {', '.join(PROFILES)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"init: {error}")
