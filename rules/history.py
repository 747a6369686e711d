"""Prometheus' HTTP API, as far as the detectors need it. The only file that knows `requests`.

Answers are read up to a bound, and every error becomes one PrometheusError with a sentence.
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
POINTS_A_REQUEST = 10_000  # Prometheus refuses more than 11,000 for one series
RELOADED = "prometheus_config_last_reload_successful"


class PrometheusError(Exception):
    """Prometheus did not answer, or not as its API says. The message is one sentence."""


class _Result(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None


class _Data(msgspec.Struct):
    result: list[_Result] = []


class _Answer(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)


class _Group(msgspec.Struct):
    name: str
    file: str
    rules: list[dict[str, Any]] = []


class _Groups(msgspec.Struct):
    groups: list[_Group] = []


class _RulesAnswer(msgspec.Struct):
    data: _Groups = msgspec.field(default_factory=_Groups)


class Prometheus:
    """One Prometheus server."""

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not meant for loopback

    def read(
        self, queries: Iterable[Query], end: float, window: float, step: float
    ) -> dict[str, Series]:
        """Every query over the window that ends at `end`, on one grid.

        A value counts for two steps and not for Prometheus' five minutes: a gap stays a gap. Where
        the fleet is so large that the history would not fit, the step is widened.
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
        """The present values, as a history of one instant. A series that ended is not among them."""
        grid = Grid(now, 1.0, 1)
        out = {}
        for query in queries:
            expr = f"max by ({', '.join(query.labels)}) ({query.selector})"
            found = self._ask("/api/v1/query", {"query": expr, "time": repr(now)})
            pairs = ((item.metric, [(now, _number(item))]) for item in found)
            out[query.name] = Series.gather(query.labels, pairs, grid)
        return out

    def reload(self) -> None:
        """Let Prometheus read its configuration again. Raises when it refuses or did not take it."""
        answer = self._send("POST", "/-/reload", {})
        if answer.status_code != 200:
            raise PrometheusError(
                f"{self._url} refused to reload ({answer.status_code}: "
                f"{' '.join(answer.text.split())[:300]})."
            )
        for line in self._send("GET", "/metrics", {}).text.splitlines():
            if line.startswith(RELOADED) and line.split()[-1] != "1":
                raise PrometheusError(f"{self._url} kept its former configuration.")

    def rule_names(self, group: str) -> set[str] | None:
        """The names of the rules in a loaded group, or None when it is not loaded."""
        answer = self._get("/api/v1/rules", {})
        try:
            found = msgspec.json.decode(answer, type=_RulesAnswer).data.groups
        except msgspec.MsgspecError as error:
            raise PrometheusError(f"{self._url} answered no list of rules: {error}.") from None
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
                "start": repr(grid.start), "end": repr(grid.end), "step": repr(grid.step),
            },
        )  # fmt: skip
        pairs = ((item.metric, [(at, _float(text)) for at, text in item.values]) for item in found)
        return Series.gather(query.labels, pairs, grid)

    def _ask(self, path: str, parameters: Mapping[str, str]) -> list[_Result]:
        answer = self._get(path, parameters)
        try:
            return msgspec.json.decode(answer, type=_Answer).data.result
        except msgspec.MsgspecError as error:
            raise PrometheusError(f"{self._url}{path} answered something else: {error}.") from None

    def _get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        answer = self._send("POST" if parameters else "GET", path, parameters)
        if answer.status_code != 200:
            said = " ".join(answer.text.split())[:300]
            raise PrometheusError(f"{self._url}{path} answered {answer.status_code}: {said}.")
        return answer.content

    def _send(self, method: str, path: str, form: Mapping[str, str]) -> requests.Response:
        try:
            answer = self._session.request(
                method, self._url + path, data=dict(form), timeout=self._timeout, stream=True,
                allow_redirects=False,
            )  # fmt: skip
            body = bytearray()
            for chunk in answer.iter_content(1 << 16):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    answer.close()
                    raise PrometheusError(f"{self._url}{path} answered too much; shorten `window`.")
            answer._content = bytes(body)
        except requests.RequestException as error:
            raise PrometheusError(
                f"{self._url} cannot be reached ({type(error).__name__}): is Prometheus up?"
            ) from None
        return answer


def _number(item: _Result) -> float:
    return _float(item.value[1]) if item.value else math.nan


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
