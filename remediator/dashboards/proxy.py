"""Proxy the queries of the dashboards, and no other queries, to Prometheus.

The proxy has its own connections, timeout and limits, so that people who view dashboards do not
delay decisions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from remediator.dashboards.dashboard_library import Dashboard, PanelQuery
from remediator.dashboards.expression import VariableValues, check, fill, label_values
from remediator.dashboards.panel_range import PanelRange, panel_range
from remediator.http import UnreachableError
from remediator.prometheus import PrometheusClient

TIMEOUT = 8.0
MAX_BODY = 4 * 2**20
MAX_SERIES = 200
MAX_CHOICES = 2000
AT_ONCE = 4
WAITING = 64
QUIET = 3.0


class UnknownError(Exception):
    """The exception for an unknown dashboard, panel, query or variable, or a missing Prometheus."""


class BusyError(Exception):
    """The exception for a query that is rejected because too many queries are waiting."""


@dataclass(frozen=True, slots=True)
class PanelParameters:
    """The parameters of a request: the time range as strings, and the values of variables (empty:
    all)."""

    first: str
    last: str
    values: Mapping[str, list[str]]


class PrometheusProxy:
    """Runs dashboard queries with a limit on concurrent and waiting queries.

    `client` is None if no Prometheus is configured; the caller closes it.
    """

    def __init__(self, client: PrometheusClient | None, scrape_interval: float) -> None:
        self._client = client
        self._scrape = scrape_interval
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._silent: tuple[float, UnreachableError] | None = None

    async def panel(
        self, dashboard: Dashboard, panel: int, ref: str, asked: PanelParameters
    ) -> dict[str, Any]:
        """Run a query of a panel and return its series. Raises UnknownError, BusyError, HttpError, UserError."""
        query = dashboard.queries.get((panel, ref))
        if query is None:
            raise UnknownError(
                f"Dashboard {dashboard.uid} has no panel {panel} with target {ref[:20]!r}."
            )
        return await self._series(dashboard, query, asked)

    async def annotations(self, dashboard: Dashboard, asked: PanelParameters) -> dict[str, Any]:
        """Run a dashboard's annotation queries and return their series. An annotation begins where a value rises above 0."""
        found = [await self._series(dashboard, query, asked) for query in dashboard.annotations]
        return {
            "step": self._window(asked).step,
            "series": [one for answer in found for one in answer["series"]],
        }

    async def choices(self, dashboard: Dashboard, name: str, asked: PanelParameters) -> list[str]:
        """Query the values of a dashboard variable in the time range. Numbers are sorted numerically."""
        if name not in dashboard.variables:
            raise UnknownError(f"Dashboard {dashboard.uid} has no variable {name[:40]!r}.")
        selector, label = label_values(dashboard.variables[name])
        over, chosen = self._window(asked), _chosen(dashboard, asked)
        selector = fill(selector, chosen, over.spans(self._scrape))
        async with self._turn() as client:
            found = await client.label_values(label, selector, over.start, over.end)
        found.sort(key=lambda value: (len(value), value) if value.isdigit() else (99, value))
        return found[:MAX_CHOICES]

    async def _series(
        self, dashboard: Dashboard, query: PanelQuery, asked: PanelParameters
    ) -> dict[str, Any]:
        over = self._window(asked)
        expr = fill(query.expr, _chosen(dashboard, asked), over.spans(self._scrape))
        series: list[dict[str, Any]]
        async with self._turn() as client:
            if query.instant:
                samples = await client.query(expr, at=over.end)
                series = [
                    {"labels": one.labels, "values": [[one.at, str(one.value)]]} for one in samples
                ]
            else:
                courses = await client.query_range(expr, over.start, over.end, over.step)
                series = [{"labels": one.metric, "values": one.values} for one in courses]
        return {
            "start": over.start,
            "end": over.end,
            "step": over.step,
            "expr": expr,
            "total": len(series),
            "series": series[:MAX_SERIES],
        }

    def _window(self, asked: PanelParameters) -> PanelRange:
        return panel_range(asked.first, asked.last, time.time(), self._scrape)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[PrometheusClient]:
        if self._client is None:
            raise UnknownError(
                "Prometheus is not configured. Set prometheus_url in remediator.yml."
            )
        if self._waiting >= WAITING:
            raise BusyError("Too many queries are waiting. The next refresh repeats this query.")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            # After a timeout the other panels of the page fail at once instead of waiting as long.
            if self._silent and time.monotonic() < self._silent[0]:
                raise self._silent[1]
            yield self._client
        except UnreachableError as error:
            if self._silent is None or time.monotonic() >= self._silent[0]:
                self._silent = (time.monotonic() + QUIET, error)
            raise
        finally:
            self._free.release()


def _chosen(dashboard: Dashboard, asked: PanelParameters) -> dict[str, VariableValues]:
    for name, values in asked.values.items():
        if name not in dashboard.variables:
            raise UnknownError(f"Dashboard {dashboard.uid} has no variable {name[:40]!r}.")
        check(name, values)
    return {
        name: VariableValues(tuple(asked.values[name]) if asked.values.get(name) else None, every)
        for name, every in dashboard.all_values.items()
    }
