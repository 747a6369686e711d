"""Who may do what at the HTTP edge: everybody on this machine may look, people elsewhere with a password,
and only the token changes anything."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Credentials:
    """`token` may do everything, as a bearer token. `viewers`, if there is one, is the password with
    which people may look from other machines, under any name."""

    token: str
    viewers: str | None = None


class RefusedError(Exception):
    """An answer that ends a request early: its status, one sentence, and what a 401 asks for."""

    def __init__(self, status: int, sentence: str, asks: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {"WWW-Authenticate": asks} if asks else None


class Admission:
    """`failed` is called for each request that a wrong credential, or an order without one, was made with."""

    def __init__(self, credentials: Credentials, failed: Callable[[], None]) -> None:
        self._credentials = credentials
        self._failed = failed

    def require(self, request: Request) -> None:
        """Let a request pass. Raises RefusedError.

        A browser sends a password that it was given by itself, to whatever a page of somebody else
        makes it ask: so a password only lets look, and changes nothing.
        """
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        kind, given = kind.lower(), given.strip()
        looks = request.method in ("GET", "HEAD")
        if looks and (_is_local(request) or (kind == "basic" and self._is_viewer(given))):
            return
        token = self._credentials.token.encode()
        if kind == "bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), token):
            return
        if kind or not looks:  # a browser looks without a credential first
            self._failed()
        if looks and self._credentials.viewers is not None:
            sentence = "Give any name with the password of view_password_file."
            raise RefusedError(401, sentence, 'Basic realm="fleetmedic", charset="UTF-8"')
        raise RefusedError(401, "Give the bearer token of webhook_token_file.", "Bearer")

    def _is_viewer(self, given: str) -> bool:
        if self._credentials.viewers is None:
            return False
        try:
            password = base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return False
        return hmac.compare_digest(password, self._credentials.viewers.encode())


def _is_local(request: Request) -> bool:
    return request.client is not None and request.client.host in LOOPBACK
