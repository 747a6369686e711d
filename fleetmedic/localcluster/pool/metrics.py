"""The gateway's metrics in Prometheus' text format."""

from __future__ import annotations

from collections import Counter

from fleetmedic.progress.serving import BUCKETS

CODES = (200, 502, 503, 504)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class GatewayMetrics:
    """Counts responses. All possible codes start at 0, so that `rate` includes the first response."""

    def __init__(self, service: str) -> None:
        self._service = f'service="{service}"'
        self._codes: Counter[int] = Counter(dict.fromkeys(CODES, 0))
        self._buckets = [0] * len(BUCKETS)
        self._seconds = 0.0
        self._count = 0

    def answered(self, code: int, seconds: float) -> None:
        """Count one response. `seconds` is the time since the request arrived, waiting included."""
        self._codes[code] += 1
        self._seconds += seconds
        self._count += 1
        for index, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self._buckets[index] += 1

    def render(self, *, waiting: int, running: int, replicas: int) -> bytes:
        """Return the metrics page, with the current values of the three gauges."""
        lines: list[str] = []
        for name, text, value in (
            ("inference_requests_waiting", "Requests waiting for a worker.", waiting),
            ("inference_requests_running", "Requests being served by a worker.", running),
            ("inference_replicas", "Workers that accept requests.", replicas),
        ):
            lines += [
                f"# HELP {name} {text}",
                f"# TYPE {name} gauge",
                f"{name}{{{self._service}}} {value}",
            ]
        name = "inference_requests_total"
        lines += [f"# HELP {name} Responses, by status code.", f"# TYPE {name} counter"]
        lines += [f'{name}{{{self._service},code="{code}"}} {n}' for code, n in self._codes.items()]
        name = "inference_request_duration_seconds"
        lines += [f"# HELP {name} Time from arrival to response.", f"# TYPE {name} histogram"]
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        for bound, count in zip(bounds, [*self._buckets, self._count], strict=True):
            lines.append(f'{name}_bucket{{{self._service},le="{bound}"}} {count}')
        lines.append(f"{name}_sum{{{self._service}}} {self._seconds:.6f}")
        lines.append(f"{name}_count{{{self._service}}} {self._count}")
        return ("\n".join(lines) + "\n").encode()
