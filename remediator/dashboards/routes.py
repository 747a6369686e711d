"""The HTTP routes of the dashboards: index, dashboard pages, static files, and panel data."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2
import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from remediator.admission import Answer, Audience, Endpoint
from remediator.dashboards.dashboard_library import Dashboard, dashboards
from remediator.dashboards.proxy import BusyError, PanelParameters, PrometheusProxy, UnknownError
from remediator.http import HttpError

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".svg": "image/svg+xml",
    ".js": "text/javascript",
    ".css": "text/css",
    ".LICENSE": "text/plain",
}
NO_CACHE = {"Cache-Control": "no-cache"}
_TEMPLATES = jinja2.Environment(
    autoescape=True, loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates")
)


class DashboardRoutes:
    """The HTTP handlers of the dashboards."""

    def __init__(self, proxy: PrometheusProxy) -> None:
        self._proxy = proxy

    def endpoints(self) -> list[Endpoint]:
        """Return the routes of the dashboards. They need read access, except for the static files."""
        data = "/api/v1/dashboards/{uid}"
        answers: dict[str, Answer] = {
            "/dashboards": self.index,
            "/dashboards/{uid}": self.dashboard,
            "/d/{uid}": self.as_in_grafana,
            "/d/{uid}/{slug}": self.as_in_grafana,
            data: _with_errors(self.document),
            data + "/panels/{panel:int}/{ref}": _with_errors(self.panel),
            data + "/variables/{name}": _with_errors(self.choices),
            data + "/annotations": _with_errors(self.annotations),
        }
        files = Endpoint("/static/{name}", self.file, Audience.ANYONE)
        return [files, *(Endpoint(path, one, Audience.VIEWER) for path, one in answers.items())]

    async def index(self, request: Request) -> Response:
        page = _TEMPLATES.get_template("index.html").render(
            root="./", dashboards=dashboards().values()
        )
        return HTMLResponse(page, headers=NO_CACHE)

    async def dashboard(self, request: Request) -> Response:
        found = dashboards().get(request.path_params["uid"])
        if found is None:
            return PlainTextResponse(
                "Dashboard not found. /dashboards lists all dashboards.\n", 404
            )
        page = _TEMPLATES.get_template("board.html").render(
            root="../", dashboard=found, dashboards=dashboards().values()
        )
        return HTMLResponse(page, headers=NO_CACHE)

    async def as_in_grafana(self, request: Request) -> Response:
        """Redirect URLs in Grafana's format, which alerts link to.

        The redirect is relative, because a reverse proxy can add a path prefix.
        """
        uid = request.path_params["uid"]
        if uid not in dashboards():
            return PlainTextResponse(
                "Dashboard not found. /dashboards lists all dashboards.\n", 404
            )
        query = f"?{request.url.query}" if request.url.query else ""
        root = "../../" if "slug" in request.path_params else "../"
        return RedirectResponse(f"{root}dashboards/{uid}{query}")

    async def file(self, request: Request) -> Response:
        found = _files().get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("File not found.\n", 404)
        body, kind = found
        return Response(body, media_type=kind, headers=NO_CACHE)

    async def document(self, request: Request) -> Response:
        return Response(_dashboard(request).document, media_type="application/json")

    async def panel(self, request: Request) -> Response:
        path = request.path_params
        return _json(
            await self._proxy.panel(
                _dashboard(request), path["panel"], path["ref"], _parameters(request)
            )
        )

    async def choices(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _json(
            {"values": await self._proxy.choices(_dashboard(request), name, _parameters(request))}
        )

    async def annotations(self, request: Request) -> Response:
        return _json(await self._proxy.annotations(_dashboard(request), _parameters(request)))


def _with_errors(answer: Answer) -> Answer:
    """Wrap a handler, and convert exceptions of the proxy to an HTTP status and one line of text."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except UnknownError as error:
            return PlainTextResponse(f"{error}\n", 404)
        except BusyError as error:
            return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "5"})
        except HttpError as error:
            return PlainTextResponse(f"The query to Prometheus failed: {error}\n", 502)

    return answered


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    return {
        path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in sorted(_FOLDER.iterdir())
    }


def _dashboard(request: Request) -> Dashboard:
    found = dashboards().get(request.path_params["uid"])
    if found is None:
        raise UnknownError("Dashboard not found. /dashboards lists all dashboards.")
    return found


def _parameters(request: Request) -> PanelParameters:
    given = request.query_params
    values = {
        name.removeprefix("var-"): given.getlist(name) for name in given if name.startswith("var-")
    }
    return PanelParameters(given.get("from", "now-1h"), given.get("to", "now"), values)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
