"""The HTTP server: Alertmanager's webhook, queries about incidents, and orders from people with a token.

The webhook returns 202 only after the alerts are durable, 400 for an invalid payload, and 503 if the journal
is unavailable. It never returns 429, because Alertmanager would not send the alert again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleetmedic.kernel.errors import UserError
from remediator import pages
from remediator.admission import Admission, Credentials, RefusedError
from remediator.channels import message
from remediator.channels.delivery import Delivery, NotDelivered
from remediator.clusters.base import Cluster
from remediator.core.book import Book
from remediator.discovery.watch import Discovery, NeverGoodError
from remediator.engine import Engine
from remediator.inquiry import Inquiry
from remediator.journal import JournalDown
from remediator.metrics import Metrics
from remediator.orders import Orders
from remediator.payload import body_of, read_webhook
from remediator.pictures.desk import Pictures
from remediator.reconciler import Reconciler

log = structlog.get_logger("remediator")
MAX_NAMED = 16


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that the HTTP server uses.

    `ready` returns why no alert can be accepted now, or None. `receivers` are Alertmanager's receivers
    that send to the remediator; empty means any. `cluster` is asked whether a job exists.
    """

    engine: Engine
    reconciler: Reconciler
    book: Book
    metrics: Metrics
    delivery: Delivery
    credentials: Credentials
    data_dir: Path
    ready: Callable[[], Awaitable[str | None]]
    pictures: Pictures | None = None
    discovery: Discovery | None = None
    receivers: tuple[str, ...] = ()
    cluster: Cluster | None = None


def make_app(desk: Desk) -> Starlette:
    """The ASGI application; the caller also runs the engine."""
    edge = _Edge(desk)
    orders = Orders(desk.engine, desk.book)
    inquiry = Inquiry(desk.book, desk.data_dir, desk.cluster)
    about = "/api/v1/incidents/{identity}"
    routes = [
        Route("/api/v1/alerts", edge.wrap(edge.alerts), methods=["POST"]),
        Route("/api/v1/notify/{channel}", edge.wrap(edge.notify), methods=["POST"]),
        Route("/api/v1/pause", edge.wrap(orders.pause), methods=["POST"]),
        Route("/api/v1/resume", edge.wrap(orders.resume), methods=["POST"]),
        Route("/api/v1/targets/release", edge.wrap(orders.release), methods=["POST"]),
        Route("/api/v1/incidents", edge.wrap(inquiry.incidents)),
        Route(about, edge.wrap(inquiry.incident)),
        Route(f"{about}/close", edge.wrap(orders.close), methods=["POST"]),
        Route(f"{about}/retry", edge.wrap(orders.retry), methods=["POST"]),
        Route("/api/v1/why", edge.wrap(inquiry.why)),
        Route("/api/v1/decisions", edge.wrap(inquiry.decisions)),
        Route("/-/healthy", edge.wrap(edge.healthy)),
        Route("/-/ready", edge.wrap(edge.is_ready)),
        Route("/metrics", edge.wrap(edge.metrics)),
        Route("/sd/targets", edge.wrap_page(edge.targets)),
        Route("/runbooks/{name}", edge.wrap(edge.runbook)),
        Route("/", edge.wrap(edge.home)),
    ]
    if desk.pictures is not None:
        routes += desk.pictures.routes(edge.wrap, edge.wrap_page)
    return Starlette(routes=routes)


class _Edge:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admission = Admission(desk.credentials, desk.metrics.refused)
        self._strange: set[str] = set()

    def wrap(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Turn the exceptions of a handler into a status and one sentence."""

        async def answered(request: Request) -> Response:
            try:
                if request.url.path.startswith("/api/"):
                    self._admission.require(request)
                return await answer(request)
            except RefusedError as refusal:
                return PlainTextResponse(f"{refusal}\n", refusal.status, refusal.headers)
            except UserError as error:
                return PlainTextResponse(f"{error}\n", 400)
            except JournalDown as error:
                return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})

        return answered

    def wrap_page(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """A page for people: open on loopback, with a credential from other machines."""

        async def admitted(request: Request) -> Response:
            self._admission.require(request)
            return await answer(request)

        return self.wrap(admitted)

    async def alerts(self, request: Request) -> Response:
        webhook = read_webhook(await body_of(request), time.time())
        self._check_receiver(webhook.receiver)
        self._desk.metrics.received(len(webhook.alerts))
        await self._desk.engine.receive(webhook.alerts, "webhook")
        if webhook.truncated:
            self._desk.reconciler.wake()
        return Response(status_code=202)

    async def notify(self, request: Request) -> Response:
        """Notify people by a channel. 503 makes Alertmanager retry; 422 means a retry cannot help."""
        name = request.path_params["channel"]
        if not self._desk.delivery.has(name):
            raise RefusedError(404, "Channel not found in notifications.yml.")
        group = message.read(await body_of(request))
        try:
            await self._desk.delivery.deliver(name, group)
        except NotDelivered as error:
            self._desk.metrics.told(name, "failed")
            log.warning("not_delivered", channel=name, text=str(error))
            raise RefusedError(503 if error.again else 422, str(error)) from None
        self._desk.metrics.told(name, "delivered")
        return Response(status_code=200)

    async def healthy(self, request: Request) -> Response:
        return PlainTextResponse("Healthy.\n")

    async def is_ready(self, request: Request) -> Response:
        """503 with the reason while alerts cannot be made durable."""
        reason = await self._desk.ready()
        if reason is None:
            return PlainTextResponse("Ready.\n")
        return PlainTextResponse(f"{reason}\n", 503, {"Retry-After": "5"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._desk.metrics.page(), media_type="text/plain; version=0.0.4")

    async def runbook(self, request: Request) -> Response:
        page = await asyncio.to_thread(pages.runbook, request.path_params["name"])
        if page is None:
            raise RefusedError(404, "Runbook not found.")
        return HTMLResponse(page)

    async def targets(self, request: Request) -> Response:
        """For Prometheus' http_sd. On any status but 200, Prometheus keeps its current targets."""
        if self._desk.discovery is None:
            raise RefusedError(404, "No target list is configured; set discovery.hosts in remediator.yml.")  # fmt: skip
        try:
            body = await self._desk.discovery.body()
        except NeverGoodError as error:
            return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})
        return Response(body, media_type="application/json")

    async def home(self, request: Request) -> Response:
        self._admission.require(request)
        return HTMLResponse(pages.home(self._desk.book))

    def _check_receiver(self, receiver: str) -> None:
        """Warn once about a receiver whose alerts the reconciler does not query from Alertmanager."""
        expected = self._desk.receivers
        if not receiver or not expected or receiver in expected or receiver in self._strange:
            return
        if len(self._strange) < MAX_NAMED:
            self._strange.add(receiver)
            log.warning(
                "unknown_receiver",
                text=f"Alertmanager's receiver {receiver[:100]!r} sends alerts here but is missing in "
                f"alertmanager_receivers ({', '.join(expected)}); add it to that setting.",
            )
