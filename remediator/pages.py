"""Render the HTML pages of incidents and runbooks. All values are escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlencode

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from fleetmedic.kernel.labels import Target, TargetKind
from fleetmedic.kernel.share import share
from fleetmedic.terminal.output import clean
from remediator.console.show import state_of
from remediator.core.events import Event
from remediator.core.facts import EVERYTHING
from remediator.core.journal_state import JournalState
from remediator.core.model import Episode, Incident, Playbook
from remediator.dashboards.dashboard_library import dashboards
from remediator.incident_list import select
from remediator.summary import summary

MAX_SHOWN = 200
MAX_EVENTS = 500
# The root of the pages, as links of a page name it: at /incidents, and at /incidents/ID. Links are relative, because a
# reverse proxy can serve the pages under a path prefix.
TOP = "./"
BELOW = "../"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}")
# raw HTML in a page is shown, not interpreted
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


def _printable(value: object) -> object:
    """Return text without control characters, which could change how a browser or a terminal shows the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_TEMPLATES = jinja2.Environment(
    autoescape=True,
    finalize=_printable,
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
)


@dataclass(frozen=True, slots=True)
class Notices:
    """The reasons why this remediator may take no action, and cannot write its journal; None if it can."""

    refusal: str | None = None
    unready: str | None = None


ABLE = Notices()


def home(journal_state: JournalState, notices: Notices = ABLE, *, before: str | None = None) -> str:
    """Return the page with the latest incidents and all open incidents, newest first.

    `before` selects the incidents that were opened before the incident with this id. Raises UserError
    if there is no such incident.
    """
    found = select(journal_state.incidents.values(), MAX_SHOWN, before=before)
    return _page(
        "incidents",
        TOP,
        incidents=found.shown[::-1],
        earlier=found,
        latest=before is None,
        pause=journal_state.pause,
        notices=notices,
        state_of=lambda one: _state(one, journal_state),
    )


def incident(
    found: Incident,
    events: Sequence[Event],
    journal_state: JournalState,
    playbook: Playbook | None,
    notices: Notices = ABLE,
    capabilities: frozenset[str] = EVERYTHING,
) -> str:
    """Return the page of one incident: summary, alerts, and its latest events, newest first."""

    def status_of(alert: Episode) -> str:
        record = journal_state.episodes.get(alert.key)
        if record is None:  # only alerts that are over leave the memory
            return "resolved" if found.ended else "unknown"
        return "firing" if record.alert.firing else "resolved"

    return _page(
        "incident",
        BELOW,
        one=found,
        summary=summary(found, playbook, notices.refusal, capabilities),
        pause=journal_state.pause,
        notices=notices,
        events=events[::-1][:MAX_EVENTS],
        left_out=len(events) > MAX_EVENTS,
        status_of=status_of,
        state_of=lambda one: _state(one, journal_state),
        dashboard=_dashboard(found.target),
        runbooks=frozenset(_runbook_names()),
    )


def runbook(name: str, urls: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """Return the runbook of an alert as an HTML page; None if the runbook does not exist.

    `urls` maps localhost URLs in the runbooks to the URLs of this installation.
    """
    name = name.removesuffix(".md")  # links between runbooks end in .md
    if not _NAME.fullmatch(name):
        return None
    try:
        text = share(f"docs/runbooks/{name}.md").read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        return None
    for written, here in urls.items():
        text = text.replace(written, here)
    return _page("runbook", BELOW, name=name, body=_MARKDOWN.render(text))


def runbooks() -> str:
    """Return the page that lists all runbooks."""
    return _page("runbooks", TOP, names=_runbook_names())


def _page(template: str, root: str, **values: object) -> str:
    return _TEMPLATES.get_template(f"{template}.html").render(root=root, when=_when, **values)


@cache
def _runbook_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in share("docs/runbooks").glob("*.md")))


def _dashboard(target: Target) -> str | None:
    """Return the URL of the target's dashboard, relative to the root of the pages; None if that dashboard is not installed."""
    kinds: dict[TargetKind, tuple[str, dict[str, object]]] = {
        TargetKind.GPU: ("gpu", {"node": target.name, "gpu": target.gpu}),
        TargetKind.NODE: ("node", {"node": target.name}),
        TargetKind.JOB: ("job", {"job_id": target.name}),
        TargetKind.WORKLOAD: ("service", {"service": target.name}),
    }
    name, values = kinds[target.kind]
    if f"fleetmedic-{name}" not in dashboards():
        return None
    chosen = urlencode({f"var-{key}": value for key, value in values.items()})
    return f"dashboards/fleetmedic-{name}?{chosen}"


def _state(incident: Incident, journal_state: JournalState) -> str:
    """Return the incident's state. The suffix says that a guard holds the incident, or that its alert
    still fires after its end."""
    return state_of(
        incident.state,
        held=incident.held is not None,
        firing=bool(journal_state.still_firing(incident)),
    )


def _when(at: float, timespec: str = "seconds") -> str:
    utc = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
    return f"{utc.isoformat(' ', timespec)} UTC"
