"""The HTTP edge: Alertmanager's webhook in, incidents and reasons out, orders from people with a token.

202 is said only after the alerts are durable. What cannot be read is a 400 with one sentence, a store
that is down a 503; never a 429, for Alertmanager would not send the alert again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.kernel.settings import misfit
from remediator import pages
from remediator.admission import Admission, Credentials, RefusedError
from remediator.channels import message
from remediator.channels.delivery import Delivery, NotDelivered
from remediator.core.book import Book
from remediator.core.events import Event, Kind
from remediator.core.model import Alert, Incident
from remediator.discovery.watch import Discovery, NeverGoodError
from remediator.engine import Engine
from remediator.journal import JournalDown, find_events, line
from remediator.metrics import Metrics
from remediator.pictures.desk import Pictures
from remediator.reconciler import Reconciler

log = structlog.get_logger("remediator")
T = TypeVar("T")
MAX_BODY = 4 * 2**20
BODY_TIMEOUT = 10.0
MAX_LABELS = 64
MAX_LABEL = 1024
MAX_MOVES = 20
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_Fingerprint = Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z]{1,64}$")]


class _Alert(msgspec.Struct, frozen=True, rename="camel"):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: Annotated[str, msgspec.Meta(max_length=64)]
    fingerprint: _Fingerprint


class _Payload(msgspec.Struct, frozen=True, rename="camel"):
    alerts: list[_Alert]
    truncated_alerts: int = 0


class _Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the HTTP edge serves from."""

    engine: Engine
    reconciler: Reconciler
    book: Book
    metrics: Metrics
    delivery: Delivery
    credentials: Credentials
    data_dir: Path
    ready: Callable[[], bool]
    pictures: Pictures | None = None
    discovery: Discovery | None = None


def make_app(desk: Desk) -> Starlette:
    """The application; whoever serves it runs the engine beside it."""
    edge = _Edge(desk)
    routes = [
        Route("/api/v1/alerts", edge.wrap(edge.alerts), methods=["POST"]),
        Route("/api/v1/notify/{channel}", edge.wrap(edge.notify), methods=["POST"]),
        Route("/api/v1/pause", edge.wrap(edge.pause), methods=["POST"]),
        Route("/api/v1/resume", edge.wrap(edge.resume), methods=["POST"]),
        Route("/api/v1/incidents", edge.wrap(edge.incidents)),
        Route("/api/v1/incidents/{identity}", edge.wrap(edge.incident)),
        Route("/api/v1/why", edge.wrap(edge.why)),
        Route("/api/v1/decisions", edge.wrap(edge.decisions)),
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


def read_payload(body: bytes) -> tuple[list[Alert], bool]:
    """The alerts of a webhook's body, and whether Alertmanager left some out. Raises UserError.

    Labels come from outside: at most 64 of them are kept, each cut to 1,024 characters.
    """
    payload = _decode(body, _Payload)
    alerts = [
        Alert(
            one.fingerprint, _moment(one.starts_at, n), one.starts_at, one.status == "firing",
            _bounded(one.labels),
        )
        for n, one in enumerate(payload.alerts)
    ]  # fmt: skip
    return alerts, payload.truncated_alerts > 0


class _Edge:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admission = Admission(desk.credentials, desk.metrics.refused)

    def wrap(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Turn what an answer raises into a status and one sentence."""

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
        """A page for people: open on loopback, with the token from elsewhere."""

        async def admitted(request: Request) -> Response:
            self._admission.require(request)
            return await answer(request)

        return self.wrap(admitted)

    async def alerts(self, request: Request) -> Response:
        if not self._desk.ready():
            return PlainTextResponse("Not ready yet.\n", 503, {"Retry-After": "2"})
        alerts, truncated = read_payload(await _body(request))
        self._desk.metrics.received(len(alerts))
        await self._desk.engine.receive(alerts, "webhook")
        if truncated:
            self._desk.reconciler.wake()
        return Response(status_code=202)

    async def notify(self, request: Request) -> Response:
        """Tell people by a channel. 503 asks Alertmanager to try again, 422 says that it is no use."""
        name = request.path_params["channel"]
        if not self._desk.delivery.has(name):
            raise RefusedError(404, "There is no such channel in notifications.yml.")
        group = message.read(await _body(request))
        try:
            await self._desk.delivery.deliver(name, group)
        except NotDelivered as error:
            self._desk.metrics.told(name, "failed")
            log.warning("not_delivered", channel=name, text=str(error))
            raise RefusedError(503 if error.again else 422, str(error)) from None
        self._desk.metrics.told(name, "delivered")
        return Response(status_code=200)

    async def pause(self, request: Request) -> Response:
        order = _decode(await _body(request), _Order)
        await self._desk.engine.pause(order.by, order.reason or "no reason given")
        return _json({"paused": True})

    async def resume(self, request: Request) -> Response:
        body = await _body(request)
        order = _decode(body, _Order) if body.strip() else _Order(by="somebody")
        await self._desk.engine.resume(order.by)
        return _json({"paused": False})

    async def incidents(self, request: Request) -> Response:
        known = list(self._desk.book.incidents.values())
        limit = _number(request, "limit", 1000)
        shown = [one for one in known[:-limit] if not one.ended] + known[-limit:]
        return _json({"incidents": [as_json(one) for one in shown]})

    async def incident(self, request: Request) -> Response:
        found = self._desk.book.incidents.get(request.path_params["identity"])
        if found is None:
            raise RefusedError(404, "There is no such incident; /api/v1/incidents lists them.")
        story = await asyncio.to_thread(
            find_events, self._desk.data_dir, incident=found.id, limit=1000
        )
        return _json({"incident": as_json(found), "events": [line(event) for event in story]})

    async def why(self, request: Request) -> Response:
        wanted = Target.parse(request.query_params.get("target", ""))
        target, limit = str(wanted), _number(request, "limit", 200)
        story = await asyncio.to_thread(
            find_events, self._desk.data_dir, target=target, limit=limit
        )
        about = [one.id for one in self._desk.book.incidents.values() if str(one.target) == target]
        if wanted.kind is TargetKind.JOB:
            moved = self._that_moved(wanted.name)
            story += await asyncio.to_thread(self._of_job, wanted.name, moved)
            story = sorted(story, key=lambda event: event.seq)[-limit:]
            about += [one.id for one in moved]
        decided = [line(event) for event in story if event.reason is not None]
        return _json({"target": target, "decisions": decided, "incidents": about})

    def _that_moved(self, job: str) -> list[Incident]:
        """The latest incidents of GPUs and nodes in which something was done to a job."""
        known = self._desk.book.incidents.values()
        found = [
            one
            for one in known
            if one.target.kind is not TargetKind.JOB
            and any(job in run.step.jobs for run in one.steps)
        ]
        return found[-MAX_MOVES:]

    def _of_job(self, job: str, moved: list[Incident]) -> list[Event]:
        """From those incidents, how each began and the steps that were about the job."""
        found: list[Event] = []
        for one in moved:
            steps = {run.step.op_id for run in one.steps if job in run.step.jobs}
            found += [
                event
                for event in find_events(self._desk.data_dir, incident=one.id, limit=1000)
                if event.kind is Kind.INCIDENT_OPENED or event.data.get("op_id") in steps
            ]
        return found

    async def decisions(self, request: Request) -> Response:
        target = request.query_params.get("target")
        story = await asyncio.to_thread(
            find_events,
            self._desk.data_dir,
            target=str(Target.parse(target)) if target else None,
            incident=request.query_params.get("incident"),
            limit=_number(request, "limit", 200),
        )
        wanted = request.query_params.get("reason")
        decided = [
            line(event)
            for event in story
            if event.reason is not None and wanted in (None, str(event.reason))
        ]
        return _json({"decisions": decided})

    async def healthy(self, request: Request) -> Response:
        return PlainTextResponse("Healthy.\n")

    async def is_ready(self, request: Request) -> Response:
        if self._desk.ready():
            return PlainTextResponse("Ready.\n")
        return PlainTextResponse("Not ready yet.\n", 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._desk.metrics.page(), media_type="text/plain; version=0.0.4")

    async def runbook(self, request: Request) -> Response:
        page = await asyncio.to_thread(pages.runbook, request.path_params["name"])
        if page is None:
            raise RefusedError(404, "There is no runbook of that name.")
        return HTMLResponse(page)

    async def targets(self, request: Request) -> Response:
        """For Prometheus' http_sd. On any answer but 200 it goes on with the targets that it has."""
        if self._desk.discovery is None:
            raise RefusedError(404, "There is no host list; name one as discovery.hosts in remediator.yml.")  # fmt: skip
        try:
            body = await self._desk.discovery.body()
        except NeverGoodError as error:
            return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})
        return Response(body, media_type="application/json")

    async def home(self, request: Request) -> Response:
        self._admission.require(request)
        return HTMLResponse(pages.home(self._desk.book))


def as_json(incident: Incident) -> dict[str, Any]:
    """An incident as the API shows it; times are Unix seconds, `startsAt` as Alertmanager wrote it."""
    return {
        "id": incident.id, "target": str(incident.target), "state": str(incident.state),
        "reason": str(incident.reason), "playbook": incident.playbook,
        "alerts": [
            {"fingerprint": one.fingerprint, "startsAt": one.starts_text} for one in incident.alerts
        ],
        "steps": [
            {"action": run.step.action, "state": str(run.state), "started": run.started,
             "ended": run.ended}
            for run in incident.steps
        ],
        "opened": incident.opened, "since": incident.since, "level": str(incident.level),
        "text": incident.text,
    }  # fmt: skip


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise RefusedError(413, f"The body is larger than {MAX_BODY} bytes.")
    except TimeoutError:
        raise RefusedError(408, f"The body did not come within {BODY_TIMEOUT:g} s.") from None
    except ClientDisconnect:
        raise RefusedError(400, "The body did not come whole.") from None
    return bytes(body)


def _decode(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise UserError(f"body: {misfit(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"body: at $: this is not JSON ({str(error)[:120]}).") from None


def _moment(text: str, number: int) -> float:
    try:
        return msgspec.convert(text, _Instant).timestamp()
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise UserError(
            f"body: at $.alerts[{number}].startsAt: this is no RFC 3339 time."
        ) from None


def _bounded(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) <= MAX_LABELS and max(map(len, labels.values()), default=0) <= MAX_LABEL:
        return {name[:MAX_LABEL]: value for name, value in labels.items()}
    known = ("alertname", "severity", "cluster", "node", "gpu", "uuid", "job_id", "service")
    first = sorted(labels, key=lambda name: (name not in known, name))[:MAX_LABELS]
    return {name[:MAX_LABEL]: labels[name][:MAX_LABEL] for name in first}


def _number(request: Request, name: str, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return most
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 10_000):
        raise UserError(f"{name}={text[:20]!r}: give a number from 1 to 10000.")
    return int(text)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
