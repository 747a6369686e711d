"""Tells people about incidents: in the log always, and as JSON to every address of the settings."""

from __future__ import annotations

import structlog

from remediator import http
from remediator.clusters.base import ClusterError
from remediator.core.model import Incident, State

log = structlog.get_logger("remediator")
OCCASIONS = {
    "opened": "needs your attention", "closed": "is well again, and this is over", "escalated": "needs a person now",
    "failed": "could not be treated", "level": "waits for a person: the level in force goes no further",
    "limit": "has reached its limit",
}  # fmt: skip


class PeopleNotifier:
    """`webhooks` are the addresses; each gets `{text, incident, op_id, ...}`."""

    def __init__(self, webhooks: tuple[str, ...], sender: http.Notifier) -> None:
        self._webhooks = webhooks
        self._sender = sender

    async def tell(self, incident: Incident, occasion: str, op_id: str) -> str:
        """Tell people. Raises ClusterError, transient, when an address did not take the message."""
        text = f"{incident.target} {OCCASIONS.get(occasion, occasion)}"
        text += "." if occasion == "closed" else f": {_about(incident)}"
        log.info("people_told", incident=incident.id, occasion=occasion, text=text)
        body = {
            "text": text, "occasion": occasion, "op_id": op_id, "incident": incident.id,
            "target": str(incident.target), "state": str(incident.state),
            "reason": str(incident.reason), "playbook": incident.playbook,
            "alerts": [one.alertname for one in incident.alerts],
        }  # fmt: skip
        for url in self._webhooks:
            try:
                await self._sender.send(url, body)
            except http.HttpError as error:
                raise ClusterError(str(error), transient=True) from None
        count = len(self._webhooks)
        return f"Written to the log{f' and sent to {count} addresses' if count else ''}: {text}"


def _about(incident: Incident) -> str:
    """Why it began, and where it stands where that says more."""
    names = ", ".join(sorted({one.alertname for one in incident.alerts})) or "an alert"
    quiet = incident.state in (State.NEW, State.TRIAGED)
    return f"{names}. {'' if quiet else incident.text}".strip()
