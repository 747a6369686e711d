"""The HTTP routes. Scrapes get metrics pages that are already rendered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from exporter.pages.openmetrics import ExpositionFormat, negotiate
from exporter.web.access_control import RELEASE
from exporter.web.backend import WebBackend
from exporter.web.landing import CONTENT_POLICY, landing
from exporter.web.message import Request, Response, sentence
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError

DCGM = "/metrics/dcgm"
HEALTH = "/api/v1/health"
HEALTHY, READY = "/-/healthy", "/-/ready"
OTHER = "other"
OWN_PATHS = ("/", DCGM, HEALTH, HEALTHY, READY, RELEASE)
MAX_QUERY_FIELDS = 200
MAX_RELEASE = 3600.0
RELEASE_WAIT = 5.0
HTML = "text/html; charset=utf-8"
JSON = "application/json"
_VARY = ("Vary", "Accept, Accept-Encoding")
_PACKED = ("Content-Encoding", "gzip")
_NOT_YET = "No current values: the first read is not complete, or the data is stale."
_T = TypeVar("_T")
Answer = Callable[[Request], Awaitable[Response]]


def selected_collectors(query: str, names: tuple[str, ...]) -> frozenset[str] | None:
    """Return the collectors that `collect[]` or `exclude[]` select; None means all. Raises
    UserError."""
    if not query:
        return None
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise UserError("The query has too many fields.") from None
    wanted = [value for key, value in given if key == "collect[]"]
    without = [value for key, value in given if key == "exclude[]"]
    if wanted and without:
        raise UserError("collect[] and exclude[] cannot be combined; use one of them.")
    for name in (*wanted, *without):
        if name not in names:
            known = ", ".join(names)
            raise UserError(f"Unknown collector {name[:80]!r}; enabled collectors: {known}.")
    if wanted:
        return frozenset(wanted)
    return frozenset(names).difference(without) if without else None


def release_seconds(query: str) -> float:
    """Return the time in the parameter `ttl`, for which the GPUs are released. Raises UserError."""
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=10))
    except ValueError:
        given = {"": ""}
    if set(given) != {"ttl"}:
        raise UserError(
            "Expected ttl as the only parameter, for example ?ttl=30s; ttl=0 ends a release."
        )
    try:
        ttl = parse_duration(given["ttl"])
    except UserError as error:
        raise UserError(f"ttl: {error}") from None
    if ttl > MAX_RELEASE:
        raise UserError("ttl exceeds the maximum of one hour; use ttl=1h or less.")
    return ttl


class Routes:
    """Answers authorized requests."""

    def __init__(self, backend: WebBackend) -> None:
        self._backend = backend
        self._slow = ThreadPoolExecutor(2, "slow pages")
        self._get: dict[str, Answer] = {
            backend.metrics_path: self._metrics,
            "/": self._landing,
            HEALTHY: self._healthy,
            READY: self._ready,
            HEALTH: self._health,
        }
        if backend.dcgm:
            self._get[DCGM] = self._dcgm

    def handler(self, path: str) -> str:
        """Return the path as a label value: a known path, or `other`."""
        return path if path in self._get or path == RELEASE else OTHER

    async def answer(self, request: Request) -> Response:
        """Return the response to an authorized HTTP request."""
        if request.path == RELEASE:
            if request.method != "POST":
                return _wrong_method("POST")
            return await self._release(request)
        answer = self._get.get(request.path)
        if answer is None:
            text = f"Not found; the metrics are at {self._backend.metrics_path}."
            return sentence(HTTPStatus.NOT_FOUND, text)
        if request.method not in ("GET", "HEAD"):
            return _wrong_method("GET, HEAD")
        return await answer(request)

    async def _metrics(self, request: Request) -> Response:
        pages = self._backend.pages
        try:
            wanted = selected_collectors(request.query, pages.names)
        except UserError as error:
            return sentence(HTTPStatus.BAD_REQUEST, str(error))
        form, packed = negotiate(request.headers.get("accept", "")), request.takes_gzip
        return _page(pages.page(wanted, form, packed), form, packed)

    async def _dcgm(self, request: Request) -> Response:
        packed = request.takes_gzip
        body = await self._in_thread(lambda: self._backend.dcgm_page(packed))
        return _page(body, ExpositionFormat.TEXT, packed)

    async def _landing(self, request: Request) -> Response:
        backend = self._backend
        links = {backend.metrics_path: "Metrics"} | ({DCGM: "DCGM names"} if backend.dcgm else {})
        links |= {HEALTH: "Health (JSON)", HEALTHY: "Liveness", READY: "Readiness"}
        states = backend.pages.states(backend.clock())
        title = f"version {backend.version} on {backend.node}"
        body = landing(title, links, states, backend.summaries)
        return Response(200, body, HTML, (("Content-Security-Policy", CONTENT_POLICY),))

    async def _healthy(self, request: Request) -> Response:
        return sentence(HTTPStatus.OK, "Healthy.")

    async def _ready(self, request: Request) -> Response:
        if not self._backend.pages.ready:
            return sentence(HTTPStatus.SERVICE_UNAVAILABLE, _NOT_YET)
        return sentence(HTTPStatus.OK, "Ready.")

    async def _health(self, request: Request) -> Response:
        body = await self._in_thread(lambda: msgspec.json.encode(self._backend.health()))
        return Response(200, body + b"\n", JSON, (("Cache-Control", "no-store"),))

    async def _release(self, request: Request) -> Response:
        reader = self._backend.reader
        try:
            ttl = release_seconds(request.query)
        except UserError as error:
            return sentence(HTTPStatus.BAD_REQUEST, str(error))
        if reader is None:
            return sentence(HTTPStatus.CONFLICT, "This exporter reads no GPUs.")
        done = await self._in_thread(lambda: reader.release(ttl, RELEASE_WAIT))
        body = msgspec.json.encode({"released_seconds": ttl, "done": done})
        return Response(200 if done else 202, body + b"\n", JSON)

    async def _in_thread(self, make: Callable[[], _T]) -> _T:
        """Run `make` in a thread, so that scrapes do not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._slow, make)


def _page(body: bytes | None, form: ExpositionFormat, packed: bool) -> Response:
    if body is None:
        return sentence(HTTPStatus.SERVICE_UNAVAILABLE, _NOT_YET)
    return Response(200, body, form, (_VARY, _PACKED) if packed else (_VARY,))


def _wrong_method(allowed: str) -> Response:
    text = f"Method not allowed; this path supports {allowed.replace(', ', ' and ')} only."
    return sentence(HTTPStatus.METHOD_NOT_ALLOWED, text, ("Allow", allowed))
