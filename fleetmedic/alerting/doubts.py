"""Find what is valid in notifications.yml, but probably not intended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fleetmedic.alerting.settings import Http, Notifications
from fleetmedic.kernel.share import share


def doubts(given: Notifications) -> Iterator[str]:
    """Yield a sentence for each setting that leaves people without notifications.

    A template is looked up on this machine. The remediator reads it on its own machine.
    """
    if not given.teams:
        yield "at $.teams: no team is configured, so Alertmanager notifies the remediator only."
    for number, team in enumerate(given.teams):
        if not team.critical:
            last = (
                " It gets all alerts that match no other team." if team is given.teams[-1] else ""
            )
            yield (
                f"at $.teams[{number}].critical: team {team.name} has no channel, so nobody is notified of its "
                f"critical alerts.{last}"
            )
    used = {name for team in given.teams for name in (*team.critical, *team.warning, *team.info)}
    for name in given.channels:
        if name not in used:
            yield f"at $.channels.{name}: no team uses this channel."
    for name, channel in given.channels.items():
        if isinstance(channel, Http) and not _exists(channel.template):
            yield (
                f"at $.channels.{name}.template: {channel.template[:200]!r} is neither a file on this machine nor "
                "a built-in template; the remediator does not start without it."
            )


def _exists(template: str) -> bool:
    shipped = share("alertmanager") / "http" / f"{template}.json.j2"
    return ("/" not in template and shipped.is_file()) or Path(template).is_file()
