"""Read and decode HTTP request bodies within limits. Errors name the path of the invalid field."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fleetmedic.alerting import instruments, reports, stages
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import parse_json
from remediator.admission import RefusedError
from remediator.core.model import Alert

MAX_BODY = 4 * 2**20
BODY_TIMEOUT = 10.0
MAX_LABELS = 64
MAX_LABEL = 1024
# A start time outside these bounds (Unix seconds, seconds after now) is an error of the sender.
EARLIEST_START = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
START_AHEAD = 86_400.0
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_FINGERPRINT = re.compile(r"[0-9A-Za-z]{1,64}")


class _WebhookAlert(msgspec.Struct, frozen=True, rename="camel"):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: Annotated[str, msgspec.Meta(max_length=64)]
    fingerprint: str


class _WebhookPayload(msgspec.Struct, frozen=True, rename="camel"):
    alerts: list[_WebhookAlert]
    truncated_alerts: Annotated[int, msgspec.Meta(ge=0)] = 0
    receiver: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """The payload of Alertmanager's webhook: alerts, whether some were truncated, and the receiver's name."""

    alerts: tuple[Alert, ...]
    truncated: bool
    receiver: str


def read_webhook(body: bytes, now: float) -> Webhook:
    """Decode the payload of a webhook. Raises UserError with the path of the invalid field.

    A start time before 2000, or more than a day after `now` (Unix seconds), is rejected. Only 64
    labels of an alert are kept, each cut to 1,024 characters.
    """
    payload = parse_json(body, _WebhookPayload, "body")
    alerts = tuple(
        Alert(
            _fingerprint(one.fingerprint, n),
            _moment(one.starts_at, n, now),
            one.starts_at,
            one.status == "firing",
            _bounded(one.labels),
        )
        for n, one in enumerate(payload.alerts)
    )
    return Webhook(alerts, payload.truncated_alerts > 0, payload.receiver)


def encoded(value: object) -> Response:
    """Return a JSON response with this value."""
    return Response(msgspec.json.encode(value), media_type="application/json")


async def body_of(request: Request) -> bytes:
    """Read the body of a request. Raises RefusedError if it is too large, too slow or incomplete."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise RefusedError(413, f"The body is larger than {MAX_BODY} bytes.")
    except TimeoutError:
        raise RefusedError(408, f"The body did not arrive within {BODY_TIMEOUT:g} s.") from None
    except ClientDisconnect:
        raise RefusedError(400, "The body is incomplete.") from None
    return bytes(body)


def _fingerprint(text: str, number: int) -> str:
    if not _FINGERPRINT.fullmatch(text):
        raise UserError(
            f"body: at $.alerts[{number}].fingerprint: expected 1 to 64 letters and digits, got {text[:80]!r}."
        )
    return text


def _moment(text: str, number: int, now: float) -> float:
    place = f"body: at $.alerts[{number}].startsAt"
    try:
        moment = msgspec.convert(text, _Instant).timestamp()
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise UserError(f"{place}: expected an RFC 3339 time.") from None
    if not EARLIEST_START <= moment <= now + START_AHEAD:
        here = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise UserError(
            f"{place}: expected a time from the year 2000 to 24 h after now ({here} on this machine), got "
            f"{text!r}; check the clocks of both machines."
        )
    return moment


def _bounded(labels: dict[str, str]) -> dict[str, str]:
    decide = ("alertname", "severity", instruments.LABEL, stages.LABEL, reports.LABEL)
    known = (*decide, "cluster", "node", "gpu", "uuid", "job_id", "service")
    first = sorted(labels, key=lambda name: (name not in known, name))[:MAX_LABELS]
    return {name[:MAX_LABEL]: labels[name][:MAX_LABEL] for name in first}
