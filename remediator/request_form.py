"""Read the form of a request's head that uvicorn passes on as received: the target and the version."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_SCHEMES = ("http://", "https://")


class RequestForm:
    """An ASGI middleware that reads targets in absolute form, and refuses other versions than HTTP/1.x.

    A target in absolute form, such as `http://HOST/PATH`, names the host, and the header Host is ignored.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["http_version"] not in ("1.0", "1.1"):
                text = "Only HTTP/1.1 is supported.\n"
                refused = PlainTextResponse(text, 505, headers={"Connection": "close"})
                await refused(scope, receive, send)
                return
            if scope["path"].lower().startswith(_SCHEMES):
                scope = _origin_form(scope)
        await self._app(scope, receive, send)


def _origin_form(scope: Scope) -> Scope:
    host, slash, rest = scope["path"].partition("://")[2].partition("/")
    raw = scope.get("raw_path", b"").partition(b"://")[2].partition(b"/")
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    named = (b"host", host.encode("utf-8", "replace"))
    path = {"path": slash + rest or "/", "raw_path": raw[1] + raw[2] or b"/"}
    return {**scope, **path, "headers": [named, *headers]}
