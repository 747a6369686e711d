"""Counters of the HTTP server, and the collector that exports them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator

from exporter.exposition import Sample

REASONS = ("limit", "tls", "client_name", "slow")


class WebCounters:
    """The counters of the HTTP server. The event loop updates them; any thread may read them."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {("200", "/metrics"): 0}
        self.failed: dict[str, int] = dict.fromkeys(REASONS, 0)
        self.logins_failed = 0
        self.reloaded: bool | None = None  # None where there is no web configuration

    def count_response(self, status: int, handler: str) -> None:
        """Count an HTTP response. `handler` is a known path or `other`, never the requested path."""
        key = (str(status), handler)
        self.requests[key] = self.requests.get(key, 0) + 1

    def count_lost(self, reason: str) -> None:
        """Count a connection that ended without a response."""
        self.failed[reason] += 1

    def samples(self) -> Iterator[Sample]:
        """Yield the current values of the HTTP server's counters as samples."""
        for key, count in sorted(self.requests.copy().items()):
            yield Sample("gpu_exporter_http_requests_total", key, count)
        for reason, count in self.failed.items():
            yield Sample("gpu_exporter_http_connections_failed_total", (reason,), count)
        yield Sample("gpu_exporter_auth_failures_total", (), self.logins_failed)
        if self.reloaded is not None:
            yield Sample("gpu_exporter_web_config_reload_success", (), int(self.reloaded))


class WebCollector:
    """Exports the counters of the exporter's own HTTP server."""

    name = "web"
    inline = True
    interval = 1.0

    def __init__(self, counters: WebCounters) -> None:
        self._counters = counters

    def collect(self, now: float) -> Iterator[Sample]:
        return self._counters.samples()

    def token(self, now: float) -> Hashable:
        """Return the samples themselves as the token: there are only a few, so comparing them is cheap."""
        return tuple(self._counters.samples())


class RateLimitedLog:
    """Logs the same event at most once in `every` seconds, with the number of suppressed events."""

    def __init__(self, log: Callable[..., None], every: float = 10.0) -> None:
        self._log = log
        self._every = every
        self._logged_at: dict[str, float] = {}
        self._more: dict[str, int] = {}

    def __call__(self, event: str, **fields: object) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(event, float("-inf")) < self._every:
            self._more[event] = self._more.get(event, 0) + 1
            return
        self._logged_at[event] = now
        left_out = self._more.pop(event, 0)
        self._log(event, **fields, **({"left_out_before": left_out} if left_out else {}))
