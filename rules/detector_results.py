"""The latest results of the detectors, and the HTTP server that exports them as metrics.

Scores are exported only while they are fresh. If the detector loop is stuck or Prometheus does not
respond, the scores disappear and do not become stale.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from fleetmedic.terminal.listen_errors import cannot_listen
from rules.detectors.base import Score

SLOW_CLIENT_SECONDS = 3.0


@dataclass(slots=True)
class DetectorResults:
    """The latest results of all detectors, exported at /metrics.

    The detector loop writes them and the HTTP server reads them from another thread. Values are
    replaced as a whole and never modified in place.
    """

    interval: float
    fresh_for: float
    last_run: dict[str, float] = field(default_factory=dict)
    success: dict[str, bool] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    scores: dict[str, tuple[float, tuple[Score, ...]]] = field(default_factory=dict)
    exceptions: dict[tuple[str, str], int] = field(default_factory=dict)
    ready: bool = False

    def count_exception(self, detector: str, step: str) -> None:
        """Count an exception of a detector. `step` is `fit` or `score`."""
        key = (detector, step)
        self.exceptions = {**self.exceptions, key: self.exceptions.get(key, 0) + 1}


class DetectorResultsCollector(Collector):
    """Exports the latest results of the detectors as metrics.

    The labels of a score are `target_cluster` and `target_node`, because the scrape configuration
    sets `cluster` and `node`.
    """

    def __init__(self, results: DetectorResults) -> None:
        self._results = results

    def collect(self) -> Iterator[Metric]:
        """Yield the detectors' metric families. Scores are omitted unless they are fresh."""
        yield from (
            _gauge(
                "detector_last_run_timestamp_seconds",
                "Unix time of the detector's latest successful run.",
                self._results.last_run,
            ),
            _gauge(
                "detector_interval_seconds",
                "Time between two runs of the detector.",
                dict.fromkeys(self._results.success, self._results.interval),
            ),
            _gauge(
                "detector_run_success",
                "1 if the detector's latest run succeeded, otherwise 0. Too little history is not a failure.",
                {name: float(ok) for name, ok in self._results.success.items()},
            ),
            _gauge(
                "detector_threshold",
                "Anomaly score above which the alert of the detector fires.",
                self._results.thresholds,
            ),
        )
        family = GaugeMetricFamily(
            "detector_score",
            "Latest anomaly score of a target.",
            labels=("detector", "target_cluster", "target_node", "gpu", "uuid"),
        )
        for name, (at, scores) in self._results.scores.items():
            if time.time() - at <= self._results.fresh_for:
                for score in scores:
                    family.add_metric((name, *score.key), score.value)
        yield family
        raised = CounterMetricFamily(
            "detector_exceptions", "Exceptions of a detector, by step.", labels=("detector", "step")
        )
        for key, count in self._results.exceptions.items():
            raised.add_metric(key, count)
        yield raised


def _gauge(name: str, help_text: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=("detector",))
    for detector, value in values.items():
        family.add_metric((detector,), value)
    return family


def server(host: str, port: int, results: DetectorResults) -> ThreadingHTTPServer:
    """Create the HTTP server for the results, without starting it. Raises UserError if the port is
    in use."""
    registry = CollectorRegistry()
    registry.register(DetectorResultsCollector(results))

    class Handler(BaseHTTPRequestHandler):
        """Serves the HTTP paths /metrics, /-/healthy and /-/ready of the detectors."""

        timeout = SLOW_CLIENT_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, encode(registry), kind)
            elif path == "/-/healthy":
                self._answer(200, b"fleetmedic rules is healthy.\n")
            elif path == "/-/ready":
                ready = results.ready
                text = b"ready.\n" if ready else b"not ready: the first run has not finished.\n"
                self._answer(200 if ready else 503, text)
            else:
                found = 200 if path == "/" else 404
                self._answer(found, b"Available paths: /metrics, /-/healthy, /-/ready.\n")

        def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            """Suppress the log lines that http.server writes for each request."""

    try:
        found = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise cannot_listen(host, port, error, "--web.listen-address") from None
    found.daemon_threads = True
    return found
