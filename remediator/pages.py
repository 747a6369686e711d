"""Two plain HTML pages: the incidents, and a runbook. All content is escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import urlencode

import jinja2
from markdown_it import MarkdownIt

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.kernel.share import share
from remediator.core.book import Book
from remediator.core.model import Incident, State
from remediator.pictures.library import boards

MAX_SHOWN = 200
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}")
_STYLE = """
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}
pre{background:#f4f4f4;padding:.8rem;overflow:auto}code{background:#f4f4f4}.open td:nth-child(3){font-weight:600}
</style>"""
# raw HTML in a runbook is escaped, not rendered
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_TEMPLATES = jinja2.Environment(
    autoescape=True,
    loader=jinja2.DictLoader(
        {
            "home": """<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="/static/icon.svg"><title>fleetmedic remediator</title>
{{ style|safe }}<h1>Incidents</h1>
{% if pause %}<p><strong>Paused by {{ pause.by }}: {{ pause.why }}</strong></p>{% endif %}
{% if incidents %}<table><tr><th>opened<th>target<th>state<th>playbook<th>reason</tr>
{% for one in incidents %}<tr{% if not one.ended %} class="open"{% endif %}>
<td>{{ when(one.opened) }}<td><a href="/api/v1/why?target={{ one.target|string|urlencode }}">{{ one.target }}</a>{% set picture = picture_of(one.target) %}{% if picture %} <a href="{{ picture }}">dashboard</a>{% endif %}
<td><a href="/api/v1/incidents/{{ one.id }}">{{ state_of(one) }}</a><td>{{ one.playbook }}<td>{{ one.present[1] }}</tr>
{% endfor %}</table>{% else %}<p>No incidents.</p>{% endif %}
<p><a href="/dashboards">dashboards</a> &middot; <a href="/api/v1/incidents">incidents as JSON</a> &middot; <a href="/api/v1/decisions">decisions</a>
&middot; <a href="/metrics">metrics</a></p></html>""",
            "runbook": """<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="/static/icon.svg"><title>{{ name }}</title>
{{ style|safe }}{{ body|safe }}</html>""",
        }
    ),
)


def home(book: Book) -> str:
    """The page of incidents, newest first."""
    newest = list(book.incidents.values())[-MAX_SHOWN:][::-1]
    page = _TEMPLATES.get_template("home")
    return page.render(
        incidents=newest, pause=book.pause, when=_when, picture_of=_picture, state_of=_state,
        style=_STYLE,
    )  # fmt: skip


def runbook(name: str) -> str | None:
    """The runbook of an alert as HTML; None if there is none."""
    name = name.removesuffix(".md")  # runbooks link to each other with this suffix
    if not _NAME.fullmatch(name):
        return None
    try:
        text = share(f"docs/runbooks/{name}.md").read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        return None
    page = _TEMPLATES.get_template("runbook")
    return page.render(name=name, body=_MARKDOWN.render(text), style=_STYLE)


def _picture(target: Target) -> str | None:
    """The URL of a target's dashboard with its variables; None if the kind has no dashboard."""
    kinds: dict[TargetKind, tuple[str, dict[str, object]]] = {
        TargetKind.GPU: ("gpu", {"node": target.name, "gpu": target.gpu}),
        TargetKind.NODE: ("node", {"node": target.name}),
        TargetKind.JOB: ("job", {"job_id": target.name}),
        TargetKind.WORKLOAD: ("service", {"service": target.name}),
    }
    name, values = kinds[target.kind]
    if f"fleetmedic-{name}" not in boards():
        return None
    chosen = urlencode({f"var-{key}": value for key, value in values.items()})
    return f"/dashboards/fleetmedic-{name}?{chosen}"


def _state(incident: Incident) -> str:
    """The state, and whether a guard holds the incident in it."""
    held = incident.held is not None and incident.state is not State.HELD
    return f"{incident.state}, held" if held else str(incident.state)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
