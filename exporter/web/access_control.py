"""Access control of the HTTP server: rate limit, password check, and permission to release the
GPUs.

Responses never say why authentication failed. Passwords and user names are never logged.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from exporter.web.auth import TokenFile, Users, credentials
from exporter.web.counters import RateLimitedLog, WebCounters
from exporter.web.message import Request, Response, sentence
from exporter.web.reload import ConfigFile
from fleetmedic.kernel.errors import UserError

RELEASE = "/-/release"
# Maximum number of pending password checks per client address. More would let one client that guesses
# passwords occupy all connections and block scrapes.
MAX_CHECKS = 4
_BASIC = ("WWW-Authenticate", 'Basic realm="fleetmedic exporter", charset="UTF-8"')
_BEARER = ("WWW-Authenticate", 'Bearer realm="fleetmedic exporter"')
_NO_WAY = (
    "Releasing GPUs is disabled; to enable it, set basic_auth_users in --web.config.file, or set "
    "--web.release-token-file."
)


class RequestTokenBucket:
    """A token bucket: `burst` requests at once, and one more per `interval` seconds."""

    def __init__(self, interval: float, burst: int, now: float) -> None:
        self.rule = (interval, burst)
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token: return whether one more request is allowed at monotonic time `now`."""
        interval, burst = self.rule
        self._left = min(float(burst), self._left + (now - self._at) / interval)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class AccessControl:
    """Authorizes requests in the event loop. bcrypt checks run in a thread, one at a time."""

    def __init__(
        self,
        file: ConfigFile,
        token: TokenFile | None,
        counters: WebCounters,
        log: Callable[..., None],
    ) -> None:
        self._file = file
        self._token = token
        self._counters = counters
        self._log_rarely = RateLimitedLog(log)
        self._users = Users()
        self._bucket: RequestTokenBucket | None = None
        self._bcrypt = ThreadPoolExecutor(1, "bcrypt")
        self._checks: Counter[str] = Counter()  # by address

    async def refusal(self, request: Request) -> Response | None:
        """Check a request. Returns the error response; None if the request is allowed."""
        if not self._within_limit():
            text = "Too many requests; try again later."
            return sentence(HTTPStatus.TOO_MANY_REQUESTS, text)
        if request.path == RELEASE and request.method == "POST":
            return await self._release(request)
        return await self._login(request)

    def _within_limit(self) -> bool:
        limit = self._file.config.rate_limit
        if limit is None or not limit.seconds:
            return True
        now, rule = time.monotonic(), (limit.seconds, limit.burst)
        if self._bucket is None or self._bucket.rule != rule:
            self._bucket = RequestTokenBucket(*rule, now)
        return self._bucket.take(now)

    async def _login(self, request: Request) -> Response | None:
        users = self._file.config.users
        if not users:
            return None
        given = credentials(request.headers.get("authorization", ""))
        if given is not None:
            if self._users.is_cached(*given, users):
                return None
            if self._checks[request.peer] >= MAX_CHECKS:
                text = "Too many pending password checks from your address; try again later."
                return sentence(HTTPStatus.TOO_MANY_REQUESTS, text)
            if await self._check(request.peer, *given, users):
                self._users.cache(*given, users)
                return None
        return self._failed(request, "Authentication required: user name and password.", _BASIC)

    async def _check(self, peer: str, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        self._checks[peer] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._bcrypt, self._users.check, user, password, users
            )
        finally:
            self._checks[peer] -= 1
            if not self._checks[peer]:
                del self._checks[peer]

    async def _release(self, request: Request) -> Response | None:
        if "origin" in request.headers:  # protects against cross-site request forgery
            text = "Browsers cannot release GPUs; use curl."
            return sentence(HTTPStatus.FORBIDDEN, text)
        try:
            if self._token is not None and self._token.matches(
                request.headers.get("authorization", "")
            ):
                return None
        except UserError as error:
            self._log_rarely("release_token_unreadable", why=str(error))
        if self._file.config.users:
            return await self._login(request)
        if self._token is None:
            return sentence(HTTPStatus.FORBIDDEN, _NO_WAY)
        return self._failed(
            request, "Authentication required: Authorization: Bearer TOKEN.", _BEARER
        )

    def _failed(self, request: Request, text: str, challenge: tuple[str, str]) -> Response:
        self._counters.logins_failed += 1
        self._log_rarely("login_failed", peer=request.peer, failures=self._counters.logins_failed)
        return sentence(HTTPStatus.UNAUTHORIZED, text, challenge)
