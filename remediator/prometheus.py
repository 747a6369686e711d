"""The remediator's client of Prometheus: queries, ranges, labels and the rules that it evaluates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from fleetmedic.kernel.errors import shortened
from remediator.http import MAX_SENTENCE, Client, HttpError, decode


@dataclass(frozen=True, slots=True)
class QuerySample:
    """One value of an instant query.

    `at` (Unix seconds) is the evaluation time. In the result of `PrometheusClient.samples` it is
    the scrape time.
    """

    labels: dict[str, str]
    value: float
    at: float


class _VectorItem(msgspec.Struct, frozen=True):
    metric: dict[str, str]
    value: tuple[float, str]


class RangeSeries(msgspec.Struct, frozen=True):
    """One series of a range query. `values` is undecoded JSON: pairs of Unix seconds and a string."""

    metric: dict[str, str]
    values: msgspec.Raw


class _LabelValuesResponse(msgspec.Struct, frozen=True):
    status: Literal["success", "error"]
    data: list[str] = []
    error: str = ""


class _RuleDoc(msgspec.Struct, frozen=True):
    name: str


class _RuleGroupDoc(msgspec.Struct, frozen=True):
    rules: list[_RuleDoc]


class _RuleGroupsDoc(msgspec.Struct, frozen=True):
    groups: list[_RuleGroupDoc]


class _RulesResponse(msgspec.Struct, frozen=True):
    status: Literal["success", "error"]
    data: _RuleGroupsDoc | None = None


class _QueryData(msgspec.Struct, frozen=True, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _QueryResponse(msgspec.Struct, frozen=True, rename="camel"):
    status: Literal["success", "error"]
    data: _QueryData | None = None
    error: str = ""


class PrometheusClient(Client):
    """A client of Prometheus' HTTP API, for queries only."""

    async def query(self, expr: str, *, at: float | None = None) -> list[QuerySample]:
        """Return the values of an expression now, or at the Unix time `at`. Raises HttpError.

        An empty list means that no series matched; it does not mean zero.
        """
        moment = {} if at is None else {"time": f"{at:.3f}"}
        data, url, status = await self._result("query", expr, moment)
        if data.result_type == "scalar":
            stamp, text = decode(bytes(data.result), tuple[float, str], url, status)
            return [QuerySample({}, _number(text, url), stamp)]
        if data.result_type != "vector":
            raise HttpError(
                f"{url} returned result type {data.result_type[:20]}; expected a vector or a scalar."
            )
        found = decode(bytes(data.result), list[_VectorItem], url, status)
        return [
            QuerySample(one.metric, _number(text, url), stamp)
            for one in found
            for stamp, text in (one.value,)
        ]

    async def samples(self, selector: str, *, at: float) -> list[QuerySample]:
        """Return the newest sample of each series of a selector at a time (Unix seconds), with its scrape time.

        A query alone does not show whether a value is stale, because Prometheus repeats it for five minutes
        after the last scrape. A sample without a known scrape time is omitted. Raises HttpError.
        """
        values, times = await asyncio.gather(
            self.query(selector, at=at), self.query(f"timestamp({selector})", at=at)
        )
        scraped = {_identity(sample): sample.value for sample in times}
        return [
            replace(sample, at=scraped[_identity(sample)])
            for sample in values
            if _identity(sample) in scraped
        ]

    async def query_range(self, expr: str, start: int, end: int, step: int) -> list[RangeSeries]:
        """Return the values of an expression from `start` to `end` (Unix seconds), `step` seconds apart.

        Raises HttpError.
        """
        span = {"start": str(start), "end": str(end), "step": str(step)}
        data, url, status = await self._result("query_range", expr, span)
        return decode(bytes(data.result), list[RangeSeries], url, status)

    async def label_values(self, label: str, selector: str, start: int, end: int) -> list[str]:
        """Return the values of a label in the series of a selector and time range (Unix seconds).

        Raises HttpError.
        """
        url = f"{self.shown}/api/v1/label/{label}/values"
        status, body = await self._ask(
            "GET",
            f"{self.url}/api/v1/label/{label}/values",
            shown=url,
            params={"match[]": selector, "start": str(start), "end": str(end)},
        )
        answer = decode(body, _LabelValuesResponse, url, status)
        if answer.status == "error":
            raise HttpError(f"{url} refused the query: {shortened(answer.error, MAX_SENTENCE)}")
        return answer.data

    async def alert_rules(self) -> frozenset[str]:
        """Return the names of the alerting rules that Prometheus evaluates. Raises HttpError."""
        url = f"{self.shown}/api/v1/rules"
        status, body = await self._ask("GET", f"{self.url}/api/v1/rules?type=alert", shown=url)
        answer = decode(body, _RulesResponse, url, status)
        if answer.data is None:
            raise HttpError(f"{url} refused the request.")
        return frozenset(rule.name for group in answer.data.groups for rule in group.rules)

    async def _result(
        self, endpoint: str, expr: str, when: Mapping[str, str]
    ) -> tuple[_QueryData, str, int]:
        """Query an expression; returns the result, the URL for error messages, and the status code."""
        path = f"/api/v1/{endpoint}"
        form = {"query": expr, "timeout": f"{self._timeout:g}s", **when}
        url = f"{self.shown}{path}"
        status, body = await self._ask("POST", f"{self.url}{path}", shown=url, form=form)
        answer = decode(body, _QueryResponse, url, status)
        if answer.status == "error" or answer.data is None:
            raise HttpError(f"{url} refused the query: {shortened(answer.error, MAX_SENTENCE)}")
        return answer.data, url, status


def _number(text: str, url: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise HttpError(f"{url} returned {text[:40]!r}; expected a number.") from None


def _identity(sample: QuerySample) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in sample.labels.items() if item[0] != "__name__")
