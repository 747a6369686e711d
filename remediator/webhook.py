"""The HTTP server: Alertmanager's webhook, queries about incidents, and orders with the token.

The webhook returns 202 only after the alerts are durable, 400 for an invalid payload, and 503 if the journal is
unavailable. It never returns 429, because Alertmanager would not send the alert again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from fleetmedic.kernel.errors import UserError
from remediator import pages
from remediator.admission import (
    Access,
    Admission,
    Answer,
    Audience,
    Endpoint,
    GuardedRoute,
    RefusedError,
)
from remediator.channels import message
from remediator.channels.delivery import Delivery, NotDelivered
from remediator.clusters.base import Cluster
from remediator.core.journal_state import JournalState
from remediator.dashboards.routes import DashboardRoutes
from remediator.discovery.watch import Discovery, NoValidListError
from remediator.engine import Engine
from remediator.journal import JournalDown
from remediator.journal_reader import JournalReader
from remediator.metrics import RemediatorMetrics
from remediator.order_endpoints import OrderEndpoints
from remediator.payload import body_of, read_webhook
from remediator.query_endpoints import QueryEndpoints, capabilities_of
from remediator.reconciler import Reconciler
from remediator.request_form import RequestForm
from remediator.security_headers import SecurityHeaders

log = structlog.get_logger("remediator")
MAX_NAMED = 16
UNKNOWN_PATH = "Path not found. `/` lists the incidents."
MONITORING, ANYONE, VIEWER, OPERATOR = Audience


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The objects that the HTTP server uses.

    `ready` returns the reason why alerts cannot be accepted now, or None. `receivers` are
    Alertmanager's receivers that send to the remediator; empty means any. `cluster` is queried for
    jobs. `urls` maps localhost URLs in the runbooks to the URLs of this installation. `refusal` returns
    the reason why this remediator may take no action, or None. `journal` contains the events, and the
    incidents that are no longer in memory.
    """

    engine: Engine
    reconciler: Reconciler
    journal_state: JournalState
    metrics: RemediatorMetrics
    delivery: Delivery
    access: Access
    journal: JournalReader
    ready: Callable[[], Awaitable[str | None]]
    dashboards: DashboardRoutes | None = None
    discovery: Discovery | None = None
    receivers: tuple[str, ...] = ()
    cluster: Cluster | None = None
    urls: Mapping[str, str] = field(default_factory=dict)
    refusal: Callable[[], str | None] = lambda: None


def make_app(context: ServerContext) -> SecurityHeaders:
    """Return the ASGI application. The caller also runs the engine."""
    edge = _WebhookEndpoints(context)
    orders = OrderEndpoints(context.engine, context.journal_state, context.journal)
    inquiry = QueryEndpoints(
        context.journal_state,
        context.journal,
        context.cluster,
        context.engine.playbook,
        context.refusal,
    )
    about = "/api/v1/incidents/{identity}"
    endpoints = [
        Endpoint("/api/v1/alerts", edge.alerts, OPERATOR, "POST"),
        Endpoint("/api/v1/notify/{channel}", edge.notify, OPERATOR, "POST"),
        Endpoint("/api/v1/pause", orders.pause, OPERATOR, "POST"),
        Endpoint("/api/v1/resume", orders.resume, OPERATOR, "POST"),
        Endpoint("/api/v1/targets/release", orders.release, OPERATOR, "POST"),
        Endpoint("/api/v1/incidents", inquiry.incidents, VIEWER),
        Endpoint(about, inquiry.incident, VIEWER),
        Endpoint(f"{about}/close", orders.close, OPERATOR, "POST"),
        Endpoint(f"{about}/retry", orders.retry, OPERATOR, "POST"),
        Endpoint(f"{about}/approve", orders.approve, OPERATOR, "POST"),
        Endpoint(f"{about}/reject", orders.reject, OPERATOR, "POST"),
        Endpoint("/api/v1/why", inquiry.why, VIEWER),
        Endpoint("/api/v1/decisions", inquiry.decisions, VIEWER),
        Endpoint("/-/healthy", edge.healthy, MONITORING),
        Endpoint("/-/ready", edge.is_ready, MONITORING),
        Endpoint("/metrics", edge.metrics, MONITORING),
        Endpoint("/sd/targets", edge.targets, VIEWER),
        Endpoint("/runbooks", edge.runbooks, ANYONE),
        Endpoint("/runbooks/{name}", edge.runbook, ANYONE),
        Endpoint("/incidents/{identity}", edge.incident, VIEWER),
        Endpoint("/", edge.home, VIEWER),
        Endpoint("/incidents", edge.home, VIEWER),
    ]
    if context.dashboards is not None:
        endpoints += context.dashboards.endpoints()
    app = Starlette(
        routes=[GuardedRoute(one, edge.guarded(one)) for one in endpoints],
        exception_handlers={HTTPException: edge.unrouted},
        middleware=[Middleware(RequestForm)],
    )
    app.router.redirect_slashes = False  # the redirect would repeat the Host header of the request
    return SecurityHeaders(app)


class _WebhookEndpoints:
    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._admission = Admission(context.access, context.metrics.count_auth_failure)
        self._strange: set[str] = set()

    def guarded(self, endpoint: Endpoint) -> Answer:
        """Wrap an endpoint with its access check. Exceptions become a status and one sentence."""

        async def answered(request: Request) -> Response:
            try:
                self._admission.require(request, endpoint.audience)
                return await endpoint.answer(request)
            except RefusedError as refusal:
                return PlainTextResponse(f"{refusal}\n", refusal.status, refusal.headers)
            except UserError as error:
                return PlainTextResponse(f"{error}\n", 400)
            except JournalDown as error:
                return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})

        return answered

    async def unrouted(self, request: Request, error: Exception) -> Response:
        """Respond to an unknown path or a wrong method. A foreign host name is rejected, as for each route."""
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this exception only
        try:
            self._admission.require(request, Audience.ANYONE)
        except RefusedError as refusal:
            return PlainTextResponse(f"{refusal}\n", refusal.status, refusal.headers)
        allowed = (error.headers or {}).get("Allow")
        text = f"Wrong method. Expected {allowed}." if allowed else UNKNOWN_PATH
        return PlainTextResponse(f"{text}\n", error.status_code, error.headers)

    async def alerts(self, request: Request) -> Response:
        webhook = read_webhook(await body_of(request), self._context.engine.now())
        self._check_receiver(webhook.receiver)
        self._context.metrics.count_alerts(len(webhook.alerts))
        await self._context.engine.receive(webhook.alerts, "webhook")
        if webhook.truncated:
            self._context.reconciler.wake()
        return Response(status_code=202)

    async def notify(self, request: Request) -> Response:
        """Handle Alertmanager's request to send a notification through a channel.

        Status 503 makes Alertmanager retry; 422 means that a retry cannot help.
        """
        name = request.path_params["channel"]
        if not self._context.delivery.has(name):
            raise RefusedError(404, "Channel not found in notifications.yml.")
        group = message.read(await body_of(request))
        try:
            await self._context.delivery.deliver(name, group)
        except NotDelivered as error:
            self._context.metrics.count_notification(name, "failed")
            log.warning("not_delivered", channel=name, text=str(error))
            raise RefusedError(503 if error.again else 422, str(error)) from None
        self._context.metrics.count_notification(name, "delivered")
        return Response(status_code=200)

    async def healthy(self, request: Request) -> Response:
        return PlainTextResponse("Healthy.\n")

    async def is_ready(self, request: Request) -> Response:
        """Return 503, with the reason, while alerts cannot be stored durably."""
        reason = await self._context.ready()
        if reason is None:
            return PlainTextResponse("Ready.\n")
        return PlainTextResponse(f"{reason}\n", 503, {"Retry-After": "5"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._context.metrics.render(), media_type="text/plain; version=0.0.4")

    async def runbook(self, request: Request) -> Response:
        page = await asyncio.to_thread(
            pages.runbook, request.path_params["name"], self._context.urls
        )
        if page is None:
            raise RefusedError(404, "Runbook not found.")
        return HTMLResponse(page)

    async def targets(self, request: Request) -> Response:
        """Return the scrape targets for Prometheus' http_sd.

        On any status but 200, Prometheus keeps its current targets.
        """
        if self._context.discovery is None:
            raise RefusedError(
                404, "No target list is configured; set discovery.hosts in remediator.yml."
            )
        try:
            body = await self._context.discovery.body()
        except NoValidListError as error:
            return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})
        return Response(body, media_type="application/json")

    async def home(self, request: Request) -> Response:
        before = request.query_params.get("before")
        notices = await self._notices()
        return HTMLResponse(pages.home(self._context.journal_state, notices, before=before))

    async def incident(self, request: Request) -> Response:
        journal_state = self._context.journal_state
        journal, identity = self._context.journal, request.path_params["identity"]
        found = journal_state.incidents.get(identity)
        found = found or await asyncio.to_thread(journal.incident, identity)
        if found is None:
            raise RefusedError(404, "Unknown incident: `/` lists the incidents.")
        story = await asyncio.to_thread(journal.find, incident=found.id, limit=pages.MAX_EVENTS + 1)
        playbook = self._context.engine.playbook(found.playbook)
        notices, able = await self._notices(), capabilities_of(self._context.cluster)
        return HTMLResponse(pages.incident(found, story, journal_state, playbook, notices, able))

    async def runbooks(self, request: Request) -> Response:
        return HTMLResponse(pages.runbooks())

    async def _notices(self) -> pages.Notices:
        return pages.Notices(self._context.refusal(), await self._context.ready())

    def _check_receiver(self, receiver: str) -> None:
        """Warn once about a receiver that is missing in alertmanager_receivers.

        The reconciler does not query the alerts of such a receiver.
        """
        expected = self._context.receivers
        if not receiver or not expected or receiver in expected or receiver in self._strange:
            return
        if len(self._strange) < MAX_NAMED:
            self._strange.add(receiver)
            log.warning(
                "unknown_receiver",
                text=f"Alertmanager's receiver {receiver[:100]!r} sends alerts here but is missing in "
                f"alertmanager_receivers ({', '.join(expected)}); add it to that setting.",
            )
