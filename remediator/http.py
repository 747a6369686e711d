"""The remediator's HTTP client for Prometheus and notifications, with limits on time and size.

Nothing is retried here; the reconciler and the outbox retry. Only this file imports httpx2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import TracebackType
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx2
import msgspec

T = TypeVar("T")
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
TIMEOUT = 2.0
MAX_BODY = 16 * 2**20
MAX_SENTENCE = 300


class HttpError(Exception):
    """The server did not return a usable response. The message is one sentence with the URL."""


class UnreachableError(HttpError):
    """The server did not respond at all, so an immediate retry is pointless."""


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
    """One series of a range query. `values` is undecoded JSON: pairs of Unix seconds and text."""

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


class Client:
    """A connection pool to one server. Use it with `async with`, or call `close` at the end."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        trust_env: bool = False,
        max_body: int = MAX_BODY,
    ) -> None:
        self.url = url.rstrip("/")
        self.shown = without_credentials(self.url)
        self._timeout = timeout
        self._trust_env = trust_env
        self._max_body = max_body
        self._http: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        shown: str,
        form: dict[str, str] | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request and return status and body. The timeout includes the body. Raises HttpError.

        `shown` replaces the URL in error messages.
        """
        if self._http is None:
            self._http = httpx2.AsyncClient(timeout=self._timeout, trust_env=self._trust_env)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    method, url, data=form, content=content, headers=headers, params=params
                ) as answer,
            ):
                return answer.status_code, await _bounded(answer, shown, self._max_body)
        except (TimeoutError, httpx2.TimeoutException):
            raise UnreachableError(f"{shown} did not answer within {self._timeout:g} s.") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            what = " ".join(str(error).split()) or type(error).__name__
            raise UnreachableError(f"{shown} cannot be reached: {what[:MAX_SENTENCE]}.") from None


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

    async def samples(self, selector: str, *, at: float | None = None) -> list[QuerySample]:
        """Return the newest sample of each series of a selector, with its scrape time. Raises HttpError.

        A query alone does not show whether a value is stale, because Prometheus repeats it for five minutes
        after the last scrape. A sample without a known scrape time is omitted.
        """
        moment = time.time() if at is None else at
        values, times = await asyncio.gather(
            self.query(selector, at=moment), self.query(f"timestamp({selector})", at=moment)
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
            raise HttpError(f"{url} refused the query: {answer.error[:MAX_SENTENCE]}")
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
            raise HttpError(f"{url} refused the query: {answer.error[:MAX_SENTENCE]}")
        return answer.data, url, status


class Notifier(Client):
    """A client that sends requests to notification URLs, through the proxy in the environment."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        super().__init__("", timeout=timeout, trust_env=True)

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request and return status and body.

        Raises HttpError, which contains only the host of the URL.
        """
        shown = f"the notification address {without_credentials(url, path=False)}"
        return await self._ask(
            method, url, shown=shown, content=content, headers=headers, params=params
        )


async def _bounded(answer: httpx2.Response, url: str, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > most:
            raise HttpError(f"The response of {url} is larger than {most} bytes.")
    return bytes(body)


def decode(body: bytes, shape: type[T], url: str, status: int) -> T:
    """Decode a JSON body to a type. Raises HttpError with the URL and the status."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HttpError(
            f"{url} returned status {status} with an unexpected body: {error}."
        ) from None


def _number(text: str, url: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise HttpError(f"{url} returned {text[:40]!r}; expected a number.") from None


def without_credentials(url: str, *, path: bool = True) -> str:
    """Return the URL without password and query, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(invalid URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path if path else "", "", ""))


def parse_moment(text: str, url: str) -> float:
    """Convert an RFC 3339 time to Unix seconds. Raises HttpError with the URL."""
    try:
        return msgspec.convert(text, _Instant).timestamp()
    except msgspec.ValidationError:
        raise HttpError(f"{url} returned {text[:40]!r}; expected a time.") from None


def _identity(sample: QuerySample) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in sample.labels.items() if item[0] != "__name__")
