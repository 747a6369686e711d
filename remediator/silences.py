"""Remember the silences of alerts, because Alertmanager can lose its silences, and lists no alert that has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleetmedic.kernel.errors import shortened
from remediator.alertmanager import ListedAlert, Silence
from remediator.core.evidence import AlertStatus, Evidence
from remediator.core.reasons import Reason

MOST_COMMENT = 200
MOST_REMEMBERED = 100_000
Identity = tuple[str, ...]


@dataclass(slots=True)
class SilenceMemory:
    """The silences in force that suppressed an alert since the start of this process."""

    _of: dict[Identity, str] = field(default_factory=dict)
    _silences: dict[str, Silence] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)

    def update(
        self,
        listed: Iterable[tuple[Identity, ListedAlert]],
        silences: Mapping[str, Silence],
        now: float,
    ) -> None:
        """Remember the silences of the listed alerts. Forget silences that ended or that a person expired."""
        if len(self._of) > MOST_REMEMBERED:
            self._of.clear()
        for identity, one in listed:
            if one.silenced_by:
                self._of[identity] = one.silenced_by[0]
        used = set(self._of.values())
        self._silences |= {key: one for key, one in silences.items() if key in used}
        self._silences = {
            key: one for key, one in self._silences.items() if one.active and now < one.ends_at
        }
        self._of = {alert: key for alert, key in self._of.items() if key in self._silences}
        self._lost = set(self._silences) - set(silences)

    @property
    def empty(self) -> bool:
        """Return whether no silence is remembered."""
        return not self._silences

    def evidence(self, identity: Identity, *, only_lost: bool) -> Evidence | None:
        """Return the status of an alert that is no longer listed as silenced, although its silence is in force.

        `only_lost`: only if Alertmanager has lost the silence. It lists a silence that a person expired.
        """
        key = self._of.get(identity)
        silence = self._silences.get(key or "")
        if key is None or silence is None or (only_lost and key not in self._lost):
            return None
        if key not in self._lost:
            return silenced(key, silence)
        text = (
            f"{silence_text(silence)} Alertmanager has lost this silence. It counts until its end, or until the "
            "remediator restarts."
        )
        return Evidence(AlertStatus.WITHHELD, Reason.SILENCED, text, f"silence-lost/{key[:40]}")


def silenced(identity: str, silence: Silence | None) -> Evidence:
    """Return the status of an alert that this silence suppresses. The silence is None if its details are unknown."""
    text = f"The alert is silenced in Alertmanager (silence {identity[:40]})."
    if silence is not None:
        text = silence_text(silence)
    return Evidence(AlertStatus.WITHHELD, Reason.SILENCED, text, f"silence/{identity[:40]}")


def silence_text(silence: Silence) -> str:
    """Return who silenced an alert, until when, and why."""
    until = datetime.fromtimestamp(max(0.0, min(silence.ends_at, 4e9)), UTC)
    return (
        f"{_plain(silence.by)} silenced the alert until {until:%Y-%m-%d %H:%M} UTC: "
        f"{_plain(silence.comment)}"
    )


def _plain(text: str) -> str:
    """Return a user's string from Alertmanager on one line, at most MOST_COMMENT characters long."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return shortened(line.strip(), MOST_COMMENT) or "(empty)"
