"""Measures the time from a fault on /metrics to the webhook, with a real Prometheus and Alertmanager.

The pages of five nodes with eight GPUs each are served on loopback and scraped every 5 s. The shipped rules
are used with factor 1. GPUs are lost one after the other at random times, and a fake remediator records
when the webhook arrives. Then the benchmark counts how many GPU alerts are sent although the alert
of their node, posted at the same time, inhibits them (the route has a group_wait of 0).

Run: python bench/breach_to_webhook.py [--breaches 40] [--trials 30] [--json]
                                       [--prometheus prometheus-3] [--alertmanager alertmanager-0.33]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from programs import found, free_port, started, version

from fleetmedic.alerting.render import RenderContext as AlertmanagerPlace
from fleetmedic.alerting.render import parse_version
from fleetmedic.alerting.render import render as render_alertmanager
from fleetmedic.kernel.share import share
from fleetmedic.stack import binaries
from rules.render import Links, RenderParameters, render

NODES, GPUS = 5, 8


class Fleet:
    """The nodes' pages, and the received webhooks: (alertname, node, gpu) to the time of arrival."""

    def __init__(self) -> None:
        self.lost: set[tuple[int, int]] = set()
        self.heard: dict[tuple[str, str, str], float] = {}
        fleet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = fleet.page(int(self.path.rpartition("/")[2])).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_POST(self) -> None:
                now = time.time()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    labels = alert["labels"]
                    key = (labels["alertname"], labels.get("node", ""), labels.get("gpu", ""))
                    fleet.heard.setdefault(key, now)
                self.send_response(202)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def page(self, node: int) -> str:
        lines = []
        for gpu in range(GPUS):
            key = f'{{gpu="{gpu}",uuid="GPU-{node}-{gpu}"}}'
            gone = (node, gpu) in self.lost
            lines += [f"gpu_lost{key} {int(gone)}", f"gpu_up{key} {int(not gone)}"]
        return "\n".join([*lines, f"gpu_expected {GPUS}", ""])


@contextlib.contextmanager
def pair(folder: Path, fleet: Fleet, given: argparse.Namespace) -> Iterator[str]:
    """Prometheus and Alertmanager with the shipped settings; yields Alertmanager's URL."""
    own = f"127.0.0.1:{free_port()}"
    alertmanager, prometheus = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    (folder / "token").write_text("a-token-of-the-remediator")
    of_alertmanager = parse_version(version(given.alertmanager))
    place = AlertmanagerPlace(
        f"http://127.0.0.1:{fleet.port}", str(folder / "token"),
        str(share("alertmanager") / "templates"), of_alertmanager,
    )  # fmt: skip
    (folder / "alertmanager.yml").write_text(render_alertmanager(place))
    render(folder / "rules", RenderParameters(links=Links(f"http://{own}/runbooks")))
    targets = [
        {
            "targets": [f"127.0.0.1:{fleet.port}"],
            "labels": {"cluster": "bench", "node": f"node{node}", "__metrics_path__": f"/{node}"},
        }
        for node in range(NODES)
    ]
    config = {
        "global": {"scrape_interval": "5s", "scrape_timeout": "4s", "evaluation_interval": "15s"},
        "rule_files": [f"{folder}/rules/static/*.yml", f"{folder}/rules/recording/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [{"job_name": "node", "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (
        started(
            [
                *binaries.command(given.alertmanager), f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/am", f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
            ],
            f"http://{alertmanager}/-/ready", folder / "alertmanager.log",
        ),
        started(
            [
                *binaries.command(given.prometheus), f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data", f"--web.listen-address={prometheus}",
                "--rules.alert.resend-delay=5s",
            ],
            f"http://{prometheus}/-/ready", folder / "prometheus.log",
        ),
    ):  # fmt: skip
        yield f"http://{alertmanager}"


def breaches(fleet: Fleet, count: int) -> list[float]:
    """The seconds from each loss to the webhook."""
    order = [(node, gpu) for node in range(NODES) for gpu in range(GPUS)]
    random.shuffle(order)
    at = {}
    for node, gpu in order[:count]:
        time.sleep(random.uniform(0.5, 4.5))
        at[node, gpu] = time.time()
        fleet.lost.add((node, gpu))
    until = time.monotonic() + 30
    keys = {place: ("GpuLost", f"node{place[0]}", str(place[1])) for place in at}
    while time.monotonic() < until and not all(key in fleet.heard for key in keys.values()):
        time.sleep(0.1)
    return sorted(fleet.heard[key] - at[place] for place, key in keys.items() if key in fleet.heard)


def leaks(fleet: Fleet, alertmanager: str, trials: int) -> int:
    """The number of GPU alerts that were sent although their node's alert was posted with them."""
    for trial in range(trials):
        common = {
            "cluster": "bench",
            "node": f"down{trial}",
            "severity": "critical",
            "source": "static",
        }
        alerts = [{"labels": common | {"alertname": "NodeDown", "category": "node"}}] + [
            {
                "labels": common
                | {"alertname": "GpuLost", "category": "gpu", "gpu": str(gpu), "uuid": f"G{gpu}"}
            }
            for gpu in range(GPUS)
        ]
        request = urllib.request.Request(
            f"{alertmanager}/api/v2/alerts",
            json.dumps(alerts).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=5).close()
        time.sleep(0.2)
    time.sleep(3)
    return sum(name == "GpuLost" and node.startswith("down") for name, node, _ in fleet.heard)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("--breaches", type=int, default=40)
    options.add_argument("--trials", type=int, default=30)
    options.add_argument("--prometheus", default="prometheus")
    options.add_argument("--alertmanager", default="alertmanager")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    for name in (given.prometheus, given.alertmanager):
        found(name)
    fleet = Fleet()
    with tempfile.TemporaryDirectory() as folder, pair(Path(folder), fleet, given) as alertmanager:
        time.sleep(12)  # two scrapes and the first evaluations
        took = breaches(fleet, min(given.breaches, NODES * GPUS))
        passed = leaks(fleet, alertmanager, given.trials)
    fleet.server.shutdown()
    if not took:
        raise SystemExit("no fault reached the webhook within 30 s. Check the rules and scrapes.")
    said = {
        "prometheus": version(given.prometheus),
        "alertmanager": version(given.alertmanager),
        "breaches": min(given.breaches, NODES * GPUS), "heard": len(took),
        "mean_s": round(sum(took) / len(took), 2), "p50_s": round(took[len(took) // 2], 2),
        "p95_s": round(took[int(len(took) * 0.95) - 1], 2), "max_s": round(took[-1], 2),
        "leaked": passed, "of": given.trials * GPUS,
    }  # fmt: skip
    if given.json:
        print(json.dumps(said))
        return
    print("\n".join(f"{key:14} {value}" for key, value in said.items()))


if __name__ == "__main__":
    main()
