"""The HTTP client of the console commands. Uses the standard library, msgspec and click only."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, TypeVar

import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.kernel.urls import check_public_url
from fleetmedic.terminal.stack_option import suggested

T = TypeVar("T")
TIMEOUT = 5.0
# The remediator may wait for the cluster before it answers an order.
ORDER_TIMEOUT = 30.0
MAX_BODY = 16 * 2**20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, because a redirect could send the token to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


# No proxy: the remediator runs on this machine or near it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


class TextResponse(msgspec.Struct, frozen=True):
    """The remediator's response to an operator's order."""

    text: str


@dataclass(frozen=True, slots=True)
class RemediatorClient:
    """A client of the remediator's HTTP API. Every error is raised as UserError.

    On the remediator's own machine, reading needs no token. So a read request sends the token only
    if the user specified a token file.
    """

    url: str
    token_file: Path | None = None
    token_named: bool = False
    timeout: float = TIMEOUT

    @classmethod
    def find(cls, url: str | None, token_file: str | None, state: Path) -> RemediatorClient:
        """Return a client for the remediator at `url`, or for the stack with the state directory `state`."""
        given = Path(token_file) if token_file else None
        if url is not None:
            check_public_url(url, "--url")
            return cls(url.rstrip("/"), given, given is not None)
        stack = StackFile.read(state)
        if "remediator" not in stack.urls:
            raise UserError("this stack has no remediator; specify a remediator with --url.")
        return cls(
            stack.urls["remediator"].rstrip("/"),
            given or Path(stack.token_file),
            given is not None,
        )

    def get(self, path: str, shape: type[T], query: Mapping[str, str] | None = None) -> T:
        """Return the decoded response of a GET request. Raises LookupError for status 404."""
        return self._decode(self.get_raw(path, query), shape)

    def get_raw(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Return the undecoded body of a GET request. Raises LookupError for status 404."""
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        headers = self._credentials() if self.token_named else {}
        return self._exchange(urllib.request.Request(f"{self.url}{path}{asked}", headers=headers))  # noqa: S310

    def post(self, path: str, body: Mapping[str, str | bool | int]) -> str:
        """Send an operator's order with the token. Returns the text of the response.

        Raises UserError for status 404.
        """
        try:
            return self.order(path, body)
        except LookupError:
            raise self.unknown_path() from None

    def unknown_path(self) -> UserError:
        """Return the error for status 404 of a path that every remediator has."""
        return UserError(f"{self.url} is not a remediator, or runs an older version; check --url.")

    def order(self, path: str, body: Mapping[str, str | bool | int]) -> str:
        """Send an operator's order with the token. Returns the text of the response.

        Raises LookupError for status 404.
        """
        return self._decode(self._send(path, body), TextResponse).text

    def _send(self, path: str, body: Mapping[str, str | bool | int]) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self.url}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self._credentials()},
        )
        return self._exchange(request, ORDER_TIMEOUT)

    def _credentials(self) -> dict[str, str]:
        if self.token_file is None:
            raise UserError(
                "this command requires the remediator's token; specify its file with --token-file."
            )
        try:
            token = self.token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            what = getattr(error, "strerror", None) or "not a token"
            raise UserError(
                f"{self.token_file}: the token cannot be read ({what}); run the command as the user who "
                "started the stack, or specify another file with --token-file."
            ) from None
        if not token.isprintable() or not token or " " in token:
            raise UserError(
                f"{self.token_file}: invalid token; specify another file with --token-file."
            )
        return {"Authorization": f"Bearer {token}"}

    def _exchange(self, request: urllib.request.Request, limit: float | None = None) -> bytes:
        timeout = limit or self.timeout
        try:
            with _OPENER.open(request, timeout=timeout) as answer:
                body: bytes = answer.read(MAX_BODY + 1)
        except urllib.error.HTTPError as error:
            with error:
                self._complain(error.code, error.read(2000))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UserError(
                f"the remediator at {self.url} cannot be reached ({_cause(error, timeout)}): "
                f"start it with {suggested('up')}, or specify another remediator with --url."
            ) from None
        if len(body) > MAX_BODY:
            raise UserError(
                f"the response of {self.url} is larger than {MAX_BODY} bytes; use a smaller --limit, or check --url."
            )
        return body

    def _complain(self, status: int, body: bytes) -> NoReturn:
        if status == 404:
            raise LookupError
        said = " ".join(body.decode(errors="replace").split())
        said = "".join(letter for letter in said if letter.isprintable())
        if status == 403 and said:
            raise UserError(f"the remediator at {self.url} refused the request: {said[:200]}")
        if status in (401, 403) and self.token_file is None:
            raise UserError(
                f"the remediator at {self.url} requires its token; specify the token's file with --token-file."
            )
        if status in (401, 403):
            raise UserError(
                f"the remediator refused the token in {self.token_file}; use --token-file with the file that "
                "webhook_token_file in remediator.yml names."
            )
        if status == 409 and said:  # understood and refused: the sentence is for the operator
            raise UserError(said[:1000])
        said = said[:200].rstrip(".")
        raise UserError(
            f"the remediator at {self.url} returned status {status}{': ' + said if said else ''}; "
            "see its log."
        )

    def _decode(self, body: bytes, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise UserError(f"{self.url} is not a remediator; check --url.") from None


def _cause(error: Exception, timeout: float) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"no answer within {timeout:g} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
