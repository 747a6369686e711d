"""Both forms of the exporter's page, judged by those who read them: promtool and Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from exporter.catalogue import Metric, catalogue
from exporter.exposition import Renderer, Sample
from exporter.pages.openmetrics import ExpositionFormat
from exporter.pages.page import Fragment
from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.progress import Progress, Serving

pytestmark = pytest.mark.integration

# Prometheus 2.42's own header, and one of somebody who reads the text format only.
ACCEPT = {
    "openmetrics": (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    ),
    "text": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
}
# Names that node_exporter gave its families, and that promtool would have had otherwise.
NODE_EXPORTERS_OWN = re.compile(
    r"node_(memory_\w+|netstat_\w+|vmstat_\w+|timex_\w+|nf_conntrack\w*)"
)
TEXTFILE = """# TYPE site_jobs gauge
site_jobs{who="a\\\\b"} 1
site_jobs{where="x\\"y"} NaN
# HELP site_wait_seconds Waits.
# TYPE site_wait_seconds histogram
site_wait_seconds_bucket{le="0.5"} 1
site_wait_seconds_bucket{le="2"} 2
site_wait_seconds_count 2
site_wait_seconds_sum 1.75
# TYPE site_size summary
site_size{quantile="0.5"} 4
site_size_count 2
site_untyped +Inf
# TYPE site_runs_total counter
site_runs_total 7
"""
NOT_SCRAPED = re.compile(r"up|scrape_\w+|ALERTS\w*")
T = TypeVar("T")
Series = dict[frozenset[tuple[str, str]], str]


@dataclass(frozen=True)
class Answer:
    """What the exporter sent."""

    kind: str
    body: bytes

    def samples(self) -> list[str]:
        return [line for line in self.body.decode().splitlines() if not line.startswith("#")]


def ask(port: int, accept: str) -> Answer:
    url = f"http://127.0.0.1:{port}/metrics"
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return Answer(answer.headers["Content-Type"], answer.read())


def until(get: Callable[[], T | None], seconds: float, what: str) -> T:
    """Poll until something comes; an OSError means not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if (found := get()) is not None:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not within {seconds} s: {what}")


@pytest.fixture(scope="module")
def exporter(
    tmp_path_factory: pytest.TempPathFactory, new_port: Callable[[], int]
) -> Iterator[int]:
    """The port of a real exporter on simulated hardware with a fault and a job's report."""
    folder, port = tmp_path_factory.mktemp("exporter"), new_port()
    hardware = Hardware(folder / "hardware")
    hardware.create(1, 4)
    inject(hardware, "node1", 1, "ecc")
    (folder / "site.prom").write_text(TEXTFILE)
    command = [
        sys.executable, "-m", "fleetmedic.cli", "exporter", "--source=simulated",
        f"--web.listen-address=127.0.0.1:{port}", f"--state.dir={folder}/state",
        f"--hardware.dir={hardware.root}", "--hardware.node=node1",
        f"--collector.textfile.directory={folder}", f"--progress.dir={folder}/progress",
    ]  # fmt: skip
    (folder / "progress").mkdir()
    Serving("chat", "a", folder / "progress").answered(200, seconds=0.2, tokens=3)
    Progress("train-a", folder / "progress").step(1, loss=0.5, samples=3, compute=0.1)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(
            lambda: b'gpu_temperature_celsius{gpu="3"' in ask(port, "").body or None, 15, "a page"
        )
        yield port
    finally:
        process.terminate()
        process.wait(5)


@pytest.fixture(scope="module")
def forms(exporter: int) -> dict[str, Answer]:
    """Both forms of one and the same snapshot of the page."""

    def pair() -> dict[str, Answer] | None:
        found = {name: ask(exporter, accept) for name, accept in ACCEPT.items()}
        same = found["text"].samples() == found["openmetrics"].samples()
        return found if same else None

    return until(pair, 20, "two forms of one snapshot")


@pytest.fixture(scope="module")
def replay(forms: dict[str, Answer]) -> Iterator[int]:
    """The port of a server that gives, by the path, what the exporter sent: so that both scrapes
    are of one snapshot, and a Prometheus without `scrape_protocols` reads the text form too."""

    class Replay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = forms[self.path.strip("/")]
            self.send_response(200)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Replay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


def query(port: int, expression: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        result: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
        return result


@pytest.fixture(scope="module", params=["prometheus", "prometheus-3"])
def prometheus(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    parts: dict[str, Path],
    new_port: Callable[[], int],
    exporter: int,
    replay: int,
) -> Iterator[int]:
    """The port of a real Prometheus that has read both forms, and the exporter itself."""
    program, folder, port = parts[request.param], tmp_path_factory.mktemp("prometheus"), new_port()
    jobs = [("live", exporter, "/metrics"), ("text", replay, "/text")]
    jobs += [("openmetrics", replay, "/openmetrics")]
    scrapes = [
        {
            "job_name": name,
            "metrics_path": path,
            "static_configs": [{"targets": [f"127.0.0.1:{at}"], "labels": {"instance": "one"}}],
        }
        for name, at, path in jobs
    ]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        str(program), f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        until(lambda: query(port, "count(up == 1) == 3") or None, 40, "three targets that are up")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def stored(port: int, job: str) -> Series:
    """Every series that Prometheus has of a job, with its value as it writes it."""
    found: Series = {}
    for row in query(port, f'{{job="{job}"}}'):
        labels = {name: value for name, value in row["metric"].items() if name != "job"}
        if not NOT_SCRAPED.fullmatch(labels["__name__"]):
            found[frozenset(labels.items())] = row["value"][1]
    return found


def test_each_gets_the_form_that_it_asks_for(forms: dict[str, Answer]) -> None:
    assert forms["text"].kind == ExpositionFormat.TEXT
    assert forms["openmetrics"].kind == ExpositionFormat.OPENMETRICS
    assert forms["openmetrics"].body.endswith(b"\n# EOF\n")


def test_prometheus_reads_both_forms_as_the_same_series_and_values(
    prometheus: int, forms: dict[str, Answer]
) -> None:
    text, openmetrics = stored(prometheus, "text"), stored(prometheus, "openmetrics")
    assert len(text) == len(forms["text"].samples()) > 200
    assert openmetrics == text


def test_prometheus_reads_the_exporter_itself_compressed_and_in_the_form_it_prefers(
    prometheus: int,
) -> None:
    def names(job: str) -> set[str]:
        return {dict(series)["__name__"] for series in stored(prometheus, job)}

    assert names("live") == names("text")
    [dropped] = query(prometheus, 'scrape_samples_scraped{job="live"}')
    assert int(dropped["value"][1]) == len(stored(prometheus, "live")), "nothing came twice"


def test_prometheus_knows_types_and_meanings_from_both_forms(prometheus: int) -> None:
    def told(job: str) -> dict[str, tuple[str, str]]:
        match = urllib.parse.urlencode({"match_target": f'{{job="{job}"}}'})
        url = f"http://127.0.0.1:{prometheus}/api/v1/targets/metadata?{match}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            rows = json.loads(answer.read())["data"]
        return {row["metric"].removesuffix("_total"): (row["type"], row["help"]) for row in rows}

    text = told("text")
    assert text["gpu_xid_errors"][0] == "counter"
    assert text["gpu_up"][0] == "gauge"
    openmetrics = told("openmetrics")
    assert openmetrics == text


each_promtool = pytest.mark.parametrize("promtool", ["promtool", "promtool-3"])


def complaints(promtool: Path, page: bytes) -> list[str]:
    checked = subprocess.run(
        [str(promtool), "check", "metrics"], input=page, capture_output=True, check=False
    )
    lines = (checked.stdout + checked.stderr).decode().splitlines()
    return [line for line in lines if not NODE_EXPORTERS_OWN.match(line)]


@each_promtool
def test_promtool_has_nothing_to_say_about_the_page(
    parts: dict[str, Path], forms: dict[str, Answer], promtool: str
) -> None:
    assert complaints(parts[promtool], forms["text"].body) == []


@each_promtool
def test_promtool_has_nothing_to_say_about_any_family_of_the_catalogue(
    parts: dict[str, Path], promtool: str
) -> None:
    def sample(metric: Metric) -> Sample:
        return Sample(metric.name, ("x",) * len(metric.labels), 1)

    own = [metric for metric in catalogue() if metric.producer == "exporter"]
    whole = [metric for metric in own if metric.type != "histogram"]
    page = Fragment(Renderer(catalogue()).render(map(sample, whole))).plain(ExpositionFormat.TEXT)
    assert complaints(parts[promtool], page) == []
