"""A client for the HTTP API of Prometheus. Only this module uses `requests`.

The size of responses is limited, and every error becomes a PrometheusError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import requests

from fleetmedic.kernel.durations import format_duration
from rules.detectors.base import Query
from rules.series import Grid, Series, join

MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_CELLS = 30_000_000
CELLS_A_REQUEST = 1_500_000
POINTS_A_REQUEST = 10_000  # Prometheus rejects more than 11,000 points per series
RELOADED = "prometheus_config_last_reload_successful"


class PrometheusError(Exception):
    """The exception for a missing or invalid response of Prometheus. The message is one sentence."""


class PrometheusUnreachableError(PrometheusError):
    """The exception for a Prometheus that does not respond, so that other queries would fail too."""


class _Result(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None


class _RangeData(msgspec.Struct):
    result: list[_Result] = []


class _RangeResponse(msgspec.Struct):
    status: str
    data: _RangeData = msgspec.field(default_factory=_RangeData)


class _LoadedGroup(msgspec.Struct):
    name: str
    file: str
    rules: list[dict[str, Any]] = []


class _LoadedGroups(msgspec.Struct):
    groups: list[_LoadedGroup] = []


class _LoadedRulesResponse(msgspec.Struct):
    data: _LoadedGroups = msgspec.field(default_factory=_LoadedGroups)


class Prometheus:
    """A client of one Prometheus server."""

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # do not use a proxy from the environment

    def read(
        self, queries: Iterable[Query], end: float, window: float, step: float
    ) -> dict[str, Series]:
        """Return the results of all queries over the window that ends at `end`, on one time grid.

        A sample is carried forward for at most two steps, not for five minutes as in Prometheus, so
        that longer gaps remain gaps. If the history of a large fleet does not fit, the step is
        increased.
        """
        wanted = {query.name: query for query in queries}
        sizes = {name: self._count(query, end) for name, query in wanted.items()}
        cells = sum(sizes.values()) * window / step
        step = step * max(1, math.ceil(cells / MAX_CELLS))
        count = max(1, int(window / step))
        last = math.floor(end / step) * step
        grid = Grid(last - (count - 1) * step, step, count)
        return {name: self._range(query, grid, sizes[name]) for name, query in wanted.items()}

    def latest(self, queries: Iterable[Query], now: float) -> dict[str, Series]:
        """Return the current values of all queries, as a history of one instant. Stale series are omitted."""
        grid = Grid(now, 1.0, 1)
        out = {}
        for query in queries:
            expr = f"max by ({', '.join(query.labels)}) ({query.selector})"
            found = self._ask("/api/v1/query", {"query": expr, "time": repr(now)})
            pairs = ((item.metric, [(now, _number(item))]) for item in found)
            out[query.name] = Series.gather(query.labels, pairs, grid)
        return out

    def reload(self) -> None:
        """Reload the configuration of Prometheus. Raises PrometheusError if the reload fails."""
        answer = self._send("POST", "/-/reload", {})
        if answer.status_code != 200:
            raise PrometheusError(
                f"{self._url} failed to reload ({answer.status_code}: "
                f"{' '.join(answer.text.split())[:300]})."
            )
        for line in self._send("GET", "/metrics", {}).text.splitlines():
            if line.startswith(RELOADED) and line.split()[-1] != "1":
                raise PrometheusError(f"{self._url} still uses its previous configuration.")

    def rule_names(self, group: str) -> set[str] | None:
        """Return the names of the rules in a loaded rule group; None if the group is not loaded."""
        answer = self._get("/api/v1/rules", {})
        try:
            found = msgspec.json.decode(answer, type=_LoadedRulesResponse).data.groups
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PrometheusError(
                f"{self._url} returned an invalid list of rules: {error}."
            ) from None
        for item in found:
            if item.name == group:
                return {str(rule.get("name", "")) for rule in item.rules}
        return None

    def _count(self, query: Query, end: float) -> int:
        expr = f"count(last_over_time({query.selector}[1h]))"
        found = self._ask("/api/v1/query", {"query": expr, "time": repr(end)})
        return max(1, int(_number(found[0]))) if found else 1

    def _range(self, query: Query, grid: Grid, series: int) -> Series:
        points = max(1, min(grid.count, POINTS_A_REQUEST, CELLS_A_REQUEST // series))
        whole: Series | None = None
        for first in range(0, grid.count, points):
            piece = Grid(grid.start + first * grid.step, grid.step, min(points, grid.count - first))
            found = self._piece(query, piece)
            whole = found if whole is None else join(whole, found)
        assert whole is not None  # noqa: S101 - a grid has at least one instant
        return whole

    def _piece(self, query: Query, grid: Grid) -> Series:
        inner = f"last_over_time({query.selector}[{format_duration(2 * grid.step)}])"
        found = self._ask(
            "/api/v1/query_range",
            {
                "query": f"max by ({', '.join(query.labels)}) ({inner})",
                "start": repr(grid.start),
                "end": repr(grid.end),
                "step": repr(grid.step),
            },
        )
        pairs = ((item.metric, [(at, _float(text)) for at, text in item.values]) for item in found)
        return Series.gather(query.labels, pairs, grid)

    def _ask(self, path: str, parameters: Mapping[str, str]) -> list[_Result]:
        answer = self._get(path, parameters)
        try:
            return msgspec.json.decode(answer, type=_RangeResponse).data.result
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise PrometheusError(
                f"{self._url}{path} returned an invalid response: {error}."
            ) from None

    def _get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        answer = self._send("POST" if parameters else "GET", path, parameters)
        if answer.status_code != 200:
            said = " ".join(answer.text.split())[:300]
            raise PrometheusError(
                f"{self._url}{path} returned status {answer.status_code}: {said}."
            )
        return answer.content

    def _send(self, method: str, path: str, form: Mapping[str, str]) -> requests.Response:
        try:
            answer = self._session.request(
                method,
                self._url + path,
                data=dict(form),
                timeout=self._timeout,
                stream=True,
                allow_redirects=False,
            )
            body = bytearray()
            for chunk in answer.iter_content(1 << 16):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    answer.close()
                    raise PrometheusError(
                        f"{self._url}{path} returned more than {MAX_ANSWER_BYTES >> 20} MiB: reduce `window`."
                    )
            answer._content = bytes(body)
        except requests.RequestException as error:
            raise PrometheusUnreachableError(
                f"cannot connect to {self._url} ({type(error).__name__}): check that Prometheus is running."
            ) from None
        return answer


def _number(item: _Result) -> float:
    return _float(item.value[1]) if item.value else math.nan


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
