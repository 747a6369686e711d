"""Count the independent signals among alerts, by the instruments that the alerts declare.

Several alerts of one instrument count as one signal. All alerts that one unavailable exporter can cause
also count as one signal.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleetmedic.alerting.instruments import (
    OF_ONE_EXPORTER,
    SOURCES,
    UNKNOWN_SOURCE,
    Instrument,
    source,
)
from remediator.core.model import Episode

# If the GPU is not identified, the sources that one exporter reads count as the driver.
_DRIVER = SOURCES[Instrument.DRIVER]
_OF_ONE_EXPORTER = frozenset(SOURCES[one] for one in OF_ONE_EXPORTER)


def signals(alerts: Iterable[Episode], *, identified: bool) -> frozenset[str]:
    """Return the sources of the independent signals among these alerts.

    `identified`: the inventory confirmed the alert's node and UUID. If not, the exporter may report
    another machine's GPU, so all its alerts about the GPU count as one signal. An unknown source counts
    only if it is the only one, because nothing shows that it is independent of another source.
    """
    found = frozenset(source(one.instrument) for one in alerts)
    if not identified and found & _OF_ONE_EXPORTER:
        found = (found - _OF_ONE_EXPORTER) | {_DRIVER}
    return (found - {UNKNOWN_SOURCE}) or found


def adds_signal(known: Iterable[Episode], further: Iterable[Episode]) -> bool:
    """Return whether further alerts are an additional independent signal beside the known alerts."""
    known = tuple(known)
    now = signals(known, identified=True)
    return len(signals((*known, *further), identified=True)) > len(now)
