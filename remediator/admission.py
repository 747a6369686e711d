"""Access control of the HTTP server: reads are open on this machine and need a credential from other
machines; changes always need the token."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Credentials:
    """`token` is the bearer token that allows everything. `viewers`, if set, is the password that allows
    reads from other machines, with any user name."""

    token: str
    viewers: str | None = None


class RefusedError(Exception):
    """A response that ends a request early: its status, one sentence, and the challenge of a 401."""

    def __init__(self, status: int, sentence: str, asks: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {"WWW-Authenticate": asks} if asks else None


class Admission:
    """`failed` is called for each request with a wrong credential, and for each order without one."""

    def __init__(self, credentials: Credentials, failed: Callable[[], None]) -> None:
        self._credentials = credentials
        self._failed = failed

    def require(self, request: Request) -> None:
        """Check a request's credential. Raises RefusedError.

        A browser sends a stored password with every request, even one that another site's page makes, so
        the password only allows reads.
        """
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        kind, given = kind.lower(), given.strip()
        looks = request.method in ("GET", "HEAD")
        if looks and (_is_local(request) or (kind == "basic" and self._is_viewer(given))):
            return
        token = self._credentials.token.encode()
        if kind == "bearer" and hmac.compare_digest(given.encode("utf-8", "replace"), token):
            return
        if kind or not looks:  # a browser's first request has no credential
            self._failed()
        if looks and self._credentials.viewers is not None:
            sentence = "Use any user name with the password in view_password_file."
            raise RefusedError(401, sentence, 'Basic realm="fleetmedic", charset="UTF-8"')
        raise RefusedError(401, "Use the bearer token in webhook_token_file.", "Bearer")

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
