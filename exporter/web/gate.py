"""Who may ask: how often, with which password, and who may have the GPUs released.

What was wrong with a login is never told, and no password and no name that was given is logged.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from exporter.web.auth import TokenFile, Users, credentials
from exporter.web.counters import Counters, Seldom
from exporter.web.message import Request, Response, sentence
from exporter.web.reload import ConfigFile
from fleetmedic.kernel.errors import UserError

RELEASE = "/-/release"
# Of one address so many passwords may wait for their check; more would take every place and keep
# scrapes out for as long as somebody keeps guessing.
MAX_CHECKS = 4
_BASIC = ("WWW-Authenticate", 'Basic realm="fleetmedic exporter", charset="UTF-8"')
_BEARER = ("WWW-Authenticate", 'Bearer realm="fleetmedic exporter"')
_NO_WAY = (
    "GPUs are released to nobody here: set basic_auth_users in --web.config.file, or "
    "--web.release-token-file."
)


class Bucket:
    """`burst` requests at once, and one more each `interval` seconds."""

    def __init__(self, interval: float, burst: int, now: float) -> None:
        self.rule = (interval, burst)
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more may pass at `now` on the monotonic clock."""
        interval, burst = self.rule
        self._left = min(float(burst), self._left + (now - self._at) / interval)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Gate:
    """Lets requests in. Belongs to the event loop; bcrypt runs beside it, one check at a time."""

    def __init__(
        self,
        file: ConfigFile,
        token: TokenFile | None,
        counters: Counters,
        log: Callable[..., None],
    ) -> None:
        self._file = file
        self._token = token
        self._counters = counters
        self._seldom = Seldom(log)
        self._users = Users()
        self._bucket: Bucket | None = None
        self._bcrypt = ThreadPoolExecutor(1, "bcrypt")
        self._checks: Counter[str] = Counter()  # by address

    async def refusal(self, request: Request) -> Response | None:
        """What to answer to one who may not ask this; None for one who may."""
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
            self._bucket = Bucket(*rule, now)
        return self._bucket.take(now)

    async def _login(self, request: Request) -> Response | None:
        users = self._file.config.users
        if not users:
            return None
        given = credentials(request.headers.get("authorization", ""))
        if given is not None:
            if self._users.known(*given, users):
                return None
            if self._checks[request.peer] >= MAX_CHECKS:
                text = "Too many passwords are being checked for your address; try again later."
                return sentence(HTTPStatus.TOO_MANY_REQUESTS, text)
            if await self._check(request.peer, *given, users):
                self._users.keep(*given, users)
                return None
        return self._failed(request, "Give the name and the password of a user.", _BASIC)

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
        if "origin" in request.headers:  # a page of another site could borrow a browser's login
            text = "GPUs are not released for browsers; use curl."
            return sentence(HTTPStatus.FORBIDDEN, text)
        try:
            if self._token is not None and self._token.matches(
                request.headers.get("authorization", "")
            ):
                return None
        except UserError as error:
            self._seldom("release_token_unreadable", why=str(error))
        if self._file.config.users:
            return await self._login(request)
        if self._token is None:
            return sentence(HTTPStatus.FORBIDDEN, _NO_WAY)
        return self._failed(request, "Give the token as Authorization: Bearer TOKEN.", _BEARER)

    def _failed(self, request: Request, text: str, challenge: tuple[str, str]) -> Response:
        self._counters.logins_failed += 1
        self._seldom("login_failed", peer=request.peer, failures=self._counters.logins_failed)
        return sentence(HTTPStatus.UNAUTHORIZED, text, challenge)
