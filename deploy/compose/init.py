"""What the containers need before they start; a second run changes nothing that matters.

Runs in the image of the rules, without a network, as the user whom all our containers share.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from fleetmedic.alerting.render import Place
from fleetmedic.alerting.render import render as render_alertmanager
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.files import write_atomic
from fleetmedic.kernel.share import share
from rules.render import Place as RulesPlace
from rules.render import render

STATE = Path(os.environ.get("FLEETMEDIC_STATE_DIR", "/state"))
# Where the containers of Alertmanager see what is written here.
TEMPLATES_THERE = "/etc/alertmanager/templates"
TOKEN_THERE = "/state/secrets/webhook.token"  # noqa: S105 - a path
SHARED_BY_GROUP = 0o640


def secret(name: str) -> None:
    """Make a random secret once; Alertmanager and Grafana read it through their group."""
    path = STATE / "secrets" / name
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32), mode=SHARED_BY_GROUP)
        print(f"made {path}")


def alertmanager() -> None:
    """Write alertmanager.yml from the shipped template, and the templates beside it."""
    source, target = share("alertmanager"), STATE / "alertmanager"
    shutil.copytree(source / "templates", target / "templates", dirs_exist_ok=True)
    text = render_alertmanager(Place("http://remediator:9095", TOKEN_THERE, TEMPLATES_THERE))
    write_atomic(target / "alertmanager.yml", text)


def main() -> None:
    """Make what is missing, and render anew what follows from this version."""
    nodes = int(os.environ.get("FLEETMEDIC_NODES", "4"))
    gpus = int(os.environ.get("FLEETMEDIC_GPUS_PER_NODE", "8"))
    Hardware(STATE / "hardware").create(nodes, gpus)
    for node in Hardware(STATE / "hardware").nodes():
        for folder in ("exporter", "progress"):
            (STATE / folder / node).mkdir(parents=True, exist_ok=True)
    for name in ("webhook.token", "grafana.password"):
        secret(name)
    alertmanager()
    rules = STATE / "prometheus" / "rules"
    (rules / "generated").mkdir(parents=True, exist_ok=True)
    base = os.environ.get("FLEETMEDIC_RUNBOOK_BASE", "http://127.0.0.1:9095/runbooks")
    written = render(rules, RulesPlace(runbook_base=base))
    print(f"{nodes} simulated nodes of {gpus} GPUs; {len(list(written))} rule files")


if __name__ == "__main__":
    main()
