"""The rows that `fleetmedic why` prints: one for each step, and at most a given number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleetmedic.terminal.times import instant
from remediator.console.responses import DecisionDoc
from remediator.core.events import Kind

HEADINGS = ("time", "decision", "incident", "reason code")
Row = tuple[str, str, str, str]
_RESULTS = {Kind.STEP_DONE, Kind.STEP_FAILED, Kind.STEP_WITHDRAWN}
_ANNOUNCEMENTS = {Kind.STEP_PREPARED, Kind.INCIDENT_OPENED}


def one_per_step(decisions: Sequence[DecisionDoc]) -> Iterator[DecisionDoc]:
    """Yield one decision per step: its result, or the planned action while the step is in progress.

    Events that only repeat a planned action (StateChanged) or a result (Verified, Notified) are
    omitted.
    """
    ended = {one.data.op_id for one in decisions if one.event in _RESULTS}
    announced: dict[str | None, tuple[str, str]] = {}
    result: dict[str | None, str] = {}
    for one in decisions:
        if one.event in _ANNOUNCEMENTS:
            announced[one.incident] = (one.reason, one.text)
        elif one.event in _RESULTS:
            result[one.incident] = one.text
        repeats: dict[str, bool] = {
            Kind.STEP_PREPARED: one.data.op_id in ended,
            Kind.STATE_CHANGED: (one.reason, one.text) == announced.get(one.incident),
            Kind.VERIFIED: one.text == result.get(one.incident),
            Kind.NOTIFIED: result.get(one.incident, "").endswith(one.text),
        }
        if not repeats.get(one.event, False):
            yield one


def decision_rows(decisions: Sequence[DecisionDoc], limit: int) -> list[Row]:
    """Return the latest `limit` decisions as table rows.

    The first decision of the latest incident is always included. One row shows the number of
    omitted decisions.
    """
    shown = list(one_per_step(decisions))
    lines = [(instant(one.at), one.text, one.incident or "", one.reason) for one in shown]
    left_out = len(lines) - limit
    if left_out <= 0:
        return lines
    latest = shown[-1].incident
    first = next(n for n, one in enumerate(shown) if one.incident == latest)
    begun = [lines[first]] if first < left_out else []
    count = left_out - len(begun)
    noun, them = ("decision", "it") if count == 1 else ("decisions", "them")
    text = f"{count} {noun} left out: --limit {len(lines)} shows {them}"
    gap = [("", text, "", "")] if count else []
    return [*begun, *gap, *lines[-limit:]]
