"""The landing page at /: version, links, and the state of each collector.

The page loads no external resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from exporter.pages.collector_runner import CollectorState

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin:0}p{margin:.3rem 0 1rem}nav a{margin-right:1.2rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #8884;vertical-align:top}
td:first-child{font-family:ui-monospace,monospace}.bad{color:#c33;font-weight:600}.dim{opacity:.65}
"""


def landing(
    title: str,
    links: Mapping[str, str],
    states: Iterable[CollectorState],
    summaries: Mapping[str, str],
) -> bytes:
    """Return the landing page as HTML. `links` contains the text of each link by its URL."""
    rows = "".join(_row(state, summaries.get(state.name, "")) for state in states)
    nav = "".join(f'<a href="{escape(to)}">{escape(text)}</a>' for to, text in links.items())
    html = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>fleetmedic exporter</title><style>{_STYLE}</style>"
        f'<h1>fleetmedic exporter</h1><p class="dim">{escape(title)}</p><nav>{nav}</nav>'
        "<table><tr><th>Collector<th>Description<th>Interval<th>State</tr>"
        f"{rows}</table></html>\n"
    )
    return html.encode()


def _row(state: CollectorState, summary: str) -> str:
    # A driver or a file can put control characters into the reason.
    why = "".join(letter if letter.isprintable() else " " for letter in state.why or "")
    how = f'<span class="bad">{escape(why)}</span>' if why else "OK"
    return (
        f"<tr><td>{escape(state.name)}<td>{escape(summary)}<td>{state.interval:g} s<td>{how}</tr>"
    )
