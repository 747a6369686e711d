"""HTTP endpoints for orders: pause and resume, release a target, close, retry, approve or reject an incident.

Each order has an author and a reason. Status 400 means an invalid order, 404 an unknown incident,
and 409, with a message, that the order cannot be carried out now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from fleetmedic.kernel.settings import parse_json
from fleetmedic.terminal.output import legible
from remediator.admission import RefusedError
from remediator.core.journal_state import JournalState
from remediator.engine import Engine
from remediator.journal_reader import JournalReader
from remediator.payload import body_of, encoded

MAX_BY = 100
MAX_WHY = 1000
_By = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_BY)]
_Why = Annotated[str, msgspec.Meta(max_length=MAX_WHY)]


class OrderRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order that needs no reason: pause or resume."""

    by: _By
    reason: _Why = ""


class IncidentOrderRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order about one incident, with its reason."""

    by: _By
    reason: _Why


class CloseRequest(IncidentOrderRequest, frozen=True, forbid_unknown_fields=True):
    """An order that closes an incident. `keep_quarantine` keeps its targets quarantined."""

    keep_quarantine: bool = False


class ApprovalRequest(IncidentOrderRequest, frozen=True, forbid_unknown_fields=True):
    """An order that approves or rejects a return to service.

    `request` is the number of the request that the operator saw; without it, the current one is meant.
    """

    request: Annotated[int, msgspec.Meta(ge=1)] | None = None


class ReleaseRequest(IncidentOrderRequest, frozen=True, forbid_unknown_fields=True):
    """An order that returns a target to service."""

    target: str


E = TypeVar("E", bound=IncidentOrderRequest)
AnyOrder = TypeVar("AnyOrder", bound=OrderRequest | IncidentOrderRequest)


class OrderEndpoints:
    """The HTTP endpoints that accept orders."""

    def __init__(self, engine: Engine, journal_state: JournalState, journal: JournalReader) -> None:
        self._engine = engine
        self._state = journal_state
        self._journal = journal

    async def pause(self, request: Request) -> Response:
        """Handle the request to pause all actions."""
        order = _order(await body_of(request), OrderRequest)
        before = self._state.pause
        await self._engine.pause(order.by, order.reason or "no reason given")
        text = "Paused: no action starts until `fleetmedic resume`."
        if before is not None:
            text = f"Already paused by {before.by} ({before.why}). The new reason replaces the earlier one."
        return encoded({"paused": True, "text": text})

    async def resume(self, request: Request) -> Response:
        """Handle the request to resume all actions."""
        body = await body_of(request)
        order = _order(body, OrderRequest) if body.strip() else OrderRequest(by="somebody")
        before = self._state.pause
        await self._engine.resume(order.by)
        text = "Not paused: nothing to resume."
        if before is not None:
            text = (
                f"Resumed: actions are allowed again. {before.by} had paused them ({before.why})."
            )
        return encoded({"paused": False, "text": text})

    async def release(self, request: Request) -> Response:
        """Handle the request to return a quarantined target to service."""
        order = _with_reason(await body_of(request), ReleaseRequest)
        target = Target.parse(order.target)
        return await _response(self._engine.incident_orders.release(target, order.by, order.reason))

    async def close(self, request: Request) -> Response:
        """Handle the request to close an incident."""
        identity = await self._identity(request)
        order = _with_reason(await body_of(request), CloseRequest)
        keep = order.keep_quarantine
        closing = self._engine.incident_orders.close_incident(
            identity, order.by, order.reason, keep_quarantine=keep
        )
        return await _response(closing)

    async def retry(self, request: Request) -> Response:
        """Handle the request to restart the playbook of an incident."""
        identity = await self._identity(request)
        order = _with_reason(await body_of(request), IncidentOrderRequest)
        return await _response(self._engine.incident_orders.retry(identity, order.by, order.reason))

    async def approve(self, request: Request) -> Response:
        """Handle the request to approve the return of an incident's target to service."""
        identity = await self._identity(request)
        order = _with_reason(await body_of(request), ApprovalRequest)
        orders = self._engine.incident_orders
        return await _response(orders.approve(identity, order.by, order.reason, order.request))

    async def reject(self, request: Request) -> Response:
        """Handle the request to reject the return of an incident's target to service."""
        identity = await self._identity(request)
        order = _with_reason(await body_of(request), ApprovalRequest)
        orders = self._engine.incident_orders
        return await _response(orders.reject(identity, order.by, order.reason, order.request))

    async def _identity(self, request: Request) -> str:
        identity = str(request.path_params["identity"])
        if identity not in self._state.incidents:
            # An incident that is no longer in memory has ended.
            old = await asyncio.to_thread(self._journal.incident, identity)
            if old is not None:
                raise RefusedError(409, f"{identity} has already ended ({old.state}).")
            raise RefusedError(404, "Incident not found; /api/v1/incidents lists all incidents.")
        return identity


def _order(body: bytes, shape: type[AnyOrder]) -> AnyOrder:
    """Decode an order. Author and reason become one line each. Raises UserError if the author is blank."""
    given = parse_json(body, shape, "body")
    order = msgspec.structs.replace(given, by=legible(given.by), reason=legible(given.reason))
    if not order.by:
        raise UserError("body: at $.by: expected the name of a user, got a blank string.")
    return order


def _with_reason(body: bytes, shape: type[E]) -> E:
    """Decode an order and check that author and reason are not blank. Raises UserError."""
    order = _order(body, shape)
    if not order.reason:
        raise UserError("body: at $.reason: expected a reason, got a blank string.")
    return order


async def _response(order: Awaitable[str]) -> Response:
    try:
        return encoded({"text": await order})
    except UserError as error:
        raise RefusedError(409, str(error)) from None
