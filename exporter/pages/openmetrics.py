"""Selects the exposition format of a scrape by its Accept header (content negotiation)."""

from __future__ import annotations

from enum import StrEnum

MAX_RANGES = 64


class ExpositionFormat(StrEnum):
    """An exposition format and its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def negotiate(accept: str) -> ExpositionFormat:
    """Return the exposition format for a request with this Accept header.

    The format is OpenMetrics only if the header prefers it, with version 1.0.0 or no version.
    Otherwise it is the text format, which all clients support, including browsers. Other parameters
    are ignored: `escaping` is irrelevant because all our names are valid without it.
    """
    wishes = dict.fromkeys(ExpositionFormat, 0.0)
    for part in accept.lower().split(",")[:MAX_RANGES]:
        kind, *parameters = [piece.strip() for piece in part.split(";")]
        given = dict(_parameter(text) for text in parameters)
        weight, version = _weight(given.get("q", "1")), given.get("version", "")
        if kind == "application/openmetrics-text" and version in ("", "1.0.0"):
            wishes[ExpositionFormat.OPENMETRICS] = max(wishes[ExpositionFormat.OPENMETRICS], weight)
        elif kind in ("text/plain", "text/*", "*/*") and version in ("", "0.0.4"):
            wishes[ExpositionFormat.TEXT] = max(wishes[ExpositionFormat.TEXT], weight)
    wanted = (
        wishes[ExpositionFormat.OPENMETRICS] > 0
        and wishes[ExpositionFormat.OPENMETRICS] >= wishes[ExpositionFormat.TEXT]
    )
    return ExpositionFormat.OPENMETRICS if wanted else ExpositionFormat.TEXT


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip().strip('"')


def _weight(text: str) -> float:
    """Parse a q-value of the Accept header; 0 if the value is invalid."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
