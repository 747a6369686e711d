"""The gateway's metrics, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter

from fleetmedic.progress.serving import BUCKETS

CODES = (200, 502, 503, 504)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts what was answered. Codes that can occur start at zero, so that rates see the first."""

    def __init__(self, service: str) -> None:
        self._service = f'service="{service}"'
        self._codes: Counter[int] = Counter(dict.fromkeys(CODES, 0))
        self._buckets = [0] * len(BUCKETS)
        self._seconds = 0.0
        self._count = 0

    def answered(self, code: int, seconds: float) -> None:
        """One request got its answer; `seconds` from its arrival, waiting included."""
        self._codes[code] += 1
        self._seconds += seconds
        self._count += 1
        for index, bound in enumerate(BUCKETS):
            if seconds <= bound:
                self._buckets[index] += 1

    def render(self, *, waiting: int, running: int, replicas: int) -> bytes:
        """The page, with the three gauges as they are now."""
        lines: list[str] = []
        for name, text, value in (
            ("inference_requests_waiting", "Requests that wait for a worker.", waiting),
            ("inference_requests_running", "Requests that a worker answers now.", running),
            ("inference_replicas", "Workers that take requests.", replicas),
        ):
            lines += [
                f"# HELP {name} {text}",
                f"# TYPE {name} gauge",
                f"{name}{{{self._service}}} {value}",
            ]
        name = "inference_requests_total"
        lines += [f"# HELP {name} Requests answered, by status code.", f"# TYPE {name} counter"]
        lines += [f'{name}{{{self._service},code="{code}"}} {n}' for code, n in self._codes.items()]
        name = "inference_request_duration_seconds"
        lines += [f"# HELP {name} Time from arrival to answer.", f"# TYPE {name} histogram"]
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        for bound, count in zip(bounds, [*self._buckets, self._count], strict=True):
            lines.append(f'{name}_bucket{{{self._service},le="{bound}"}} {count}')
        lines.append(f"{name}_sum{{{self._service}}} {self._seconds:.6f}")
        lines.append(f"{name}_count{{{self._service}}} {self._count}")
        return ("\n".join(lines) + "\n").encode()
