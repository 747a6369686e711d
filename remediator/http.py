"""The remediator's HTTP client, with limits on time and size, and the client of notification URLs.

Nothing is retried here; the reconciler and the outbox retry. Only this file imports httpx2.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import TracebackType
from typing import Annotated, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx2
import msgspec

from fleetmedic.kernel.errors import shortened

T = TypeVar("T")
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
TIMEOUT = 2.0
MAX_BODY = 16 * 2**20
MAX_SENTENCE = 300


class HttpError(Exception):
    """The exception for a request without a usable response. The message is one sentence with the URL."""


class UnreachableError(HttpError):
    """The exception for a server that did not respond at all, so that an immediate retry is pointless."""


class Client:
    """A connection pool to one server. Use it with `async with`, or call `close` at the end."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        trust_env: bool = False,
        max_body: int = MAX_BODY,
    ) -> None:
        self.url = url.rstrip("/")
        self.shown = without_credentials(self.url)
        self._timeout = timeout
        self._trust_env = trust_env
        self._max_body = max_body
        self._http: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to the server."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        shown: str,
        form: dict[str, str] | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request and return status and body. The timeout includes the body. Raises HttpError.

        `shown` replaces the URL in error messages.
        """
        if self._http is None:
            self._http = httpx2.AsyncClient(timeout=self._timeout, trust_env=self._trust_env)
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream(
                    method, url, data=form, content=content, headers=headers, params=params
                ) as answer,
            ):
                return answer.status_code, await _bounded(answer, shown, self._max_body)
        except (TimeoutError, httpx2.TimeoutException):
            raise UnreachableError(f"{shown} did not answer within {self._timeout:g} s.") from None
        except HttpError:
            raise
        except Exception as error:
            # A caller must never end because of a URL or a header that the library cannot handle.
            raise UnreachableError(f"{shown} cannot be reached: {_cause(error)}.") from error


class Notifier(Client):
    """A client that sends requests to notification URLs, through the proxy in the environment."""

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        super().__init__("", timeout=timeout, trust_env=True)

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request and return status and body.

        Raises HttpError, which contains only the host of the URL.
        """
        shown = f"the notification address {without_credentials(url, path=False)}"
        return await self._ask(
            method, url, shown=shown, content=content, headers=headers, params=params
        )


def _cause(error: BaseException) -> str:
    """Return the cause of a failed request. Errors about a header contain its value, so only their type is shown."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    expected = isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | OSError)
    if not expected or isinstance(error, httpx2.LocalProtocolError):
        return f"the URL or a header is invalid ({type(error).__name__})"
    what = " ".join(str(error).split()) or type(error).__name__
    return shortened(what, MAX_SENTENCE)


async def _bounded(answer: httpx2.Response, url: str, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > most:
            raise HttpError(f"The response of {url} is larger than {most} bytes.")
    return bytes(body)


def decode(body: bytes, shape: type[T], url: str, status: int) -> T:
    """Decode a JSON body to a type. Raises HttpError with the URL and the status."""
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(
            f"{url} returned status {status} with an unexpected body: {error}."
        ) from None


def without_credentials(url: str, *, path: bool = True) -> str:
    """Return the URL without password and query, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(invalid URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path if path else "", "", ""))


def parse_moment(text: str, url: str) -> float:
    """Convert an RFC 3339 time to Unix seconds. Raises HttpError with the URL."""
    try:
        return msgspec.convert(text, _Instant).timestamp()
    except msgspec.ValidationError:
        raise HttpError(f"{url} returned {text[:40]!r}; expected a time.") from None
