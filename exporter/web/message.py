"""HTTP requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Header names are in lower case. `peer` is the client's address."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""

    @property
    def takes_gzip(self) -> bool:
        """Whether the request's Accept-Encoding header allows gzip."""
        for part in self.headers.get("accept-encoding", "").lower().split(","):
            coding, _, rest = part.partition(";")
            if coding.strip() == "gzip":
                return rest.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        return False


@dataclass(frozen=True, slots=True)
class Response:
    """A response. If `close` is set, the server closes the connection after the response."""

    status: int
    body: bytes
    kind: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False

    def with_headers(self, *headers: tuple[str, str]) -> Response:
        """Return a copy of the response with these headers.

        They replace existing headers of the same name.
        """
        names = {name.lower() for name, _ in headers}
        kept = tuple(each for each in self.headers if each[0].lower() not in names)
        return replace(self, headers=(*kept, *headers))


def sentence(
    status: HTTPStatus, text: str, *headers: tuple[str, str], close: bool = False
) -> Response:
    """Return a short response, such as an error, with one line of plain text."""
    return Response(status, f"{text}\n".encode(), headers=headers, close=close)


class Refused(Exception):  # noqa: N818 - carries a response
    """The exception for a rejected request. `response` is the error response."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.response = sentence(status, text, close=True)
