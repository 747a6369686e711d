"""The latest results of the detectors, and the HTTP server that exports them as metrics.

Scores are exported only while they are fresh. If the detector loop is stuck or Prometheus does not
respond, the scores disappear and do not become stale.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from fleetmedic.http.server import HttpRequest, HttpResponse, HttpServer, wrong_method
from fleetmedic.terminal.listen_errors import cannot_listen
from rules.detectors.base import Score

MAX_CONNECTIONS = 200
PATHS = ("/", "/metrics", "/-/healthy", "/-/ready")
_PATHS_TEXT = b"Available paths: /metrics, /-/healthy, /-/ready.\n"


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


class DetectorPages:
    """Serves the HTTP paths /metrics, /-/healthy and /-/ready of the detectors."""

    def __init__(self, results: DetectorResults) -> None:
        self._results = results
        self._registry = CollectorRegistry()
        self._registry.register(DetectorResultsCollector(results))

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request."""
        if request.path not in PATHS:
            return HttpResponse(404, _PATHS_TEXT)
        if request.method not in ("GET", "HEAD"):
            return wrong_method("GET, HEAD")
        if request.path == "/metrics":
            encode, kind = choose_encoder(request.headers.get("accept", ""))
            return HttpResponse(200, encode(self._registry), kind)
        if request.path == "/-/healthy":
            return HttpResponse(200, b"fleetmedic rules is healthy.\n")
        if request.path == "/-/ready":
            if self._results.ready:
                return HttpResponse(200, b"ready.\n")
            return HttpResponse(503, b"not ready: the first run has not finished.\n")
        return HttpResponse(200, _PATHS_TEXT)


def serve_results(host: str, port: int, results: DetectorResults) -> int:
    """Serve the results in a background thread, and return the port. Raises UserError if the port
    is in use."""
    loop = asyncio.new_event_loop()
    server = HttpServer(DetectorPages(results).handle, MAX_CONNECTIONS)
    try:
        bound = loop.run_until_complete(server.start(host, port))
    except OSError as error:
        loop.close()
        raise cannot_listen(host, port, error, "--web.listen-address") from None
    threading.Thread(target=loop.run_forever, daemon=True, name="http").start()
    return bound
