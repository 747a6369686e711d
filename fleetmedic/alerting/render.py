"""Writes alertmanager.yml for one Alertmanager: its version, its channels, the remediator it tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import jinja2
import msgspec
import yaml

from fleetmedic.alerting.intervals import Window
from fleetmedic.alerting.overlaps import joint
from fleetmedic.alerting.receivers import Version, receiver, webhook
from fleetmedic.alerting.settings import REPEAT, Matches, Notifications, Team
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load
from fleetmedic.kernel.share import share

OLDEST: Version = (0, 25)
_NOBODY = Team("everybody")


@dataclass(frozen=True, slots=True)
class Place:
    """Where that Alertmanager finds things. Paths are as it sees them."""

    remediator_url: str
    token_file: str
    template_dir: str
    version: Version = OLDEST


class Lesser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A critical alert, and those that need not be told beside it."""

    critical: str
    lesser: tuple[str, ...]
    equal: tuple[str, ...]


class _LesserFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lesser: tuple[Lesser, ...]


def parse_version(text: str) -> Version:
    """`0.25.0` as (0, 25). Raises UserError for what is no version, or one older than 0.25."""
    match = re.match(r"v?(\d{1,3})\.(\d{1,3})", text)
    if not match:
        raise UserError(f"{text[:40]!r} is no version of Alertmanager: write it as 0.25.")
    version = int(match[1]), int(match[2])
    if version < OLDEST:
        raise UserError(f"Alertmanager {text[:40]} is too old: 0.25 is the oldest that will do.")
    return version


def lesser() -> tuple[Lesser, ...]:
    """The shipped pairs."""
    return load(share("alertmanager") / "lesser.yml", _LesserFile).lesser


def render(place: Place, given: Notifications | None = None) -> str:
    """The text of alertmanager.yml. The same input gives the same bytes."""
    notifications = given or Notifications()
    environment = jinja2.Environment(  # noqa: S701 - YAML, and every value passes the filter `yaml`
        loader=jinja2.FileSystemLoader(share("alertmanager")), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["yaml"] = _yaml
    teams = notifications.teams or (_NOBODY,)
    major, minor = place.version
    return environment.get_template("alertmanager.yml.j2").render(
        header=f"Written by `fleetmedic alertmanager render` for Alertmanager {major}.{minor} and later.",
        template_dir=f"{place.template_dir}/*.tmpl",
        teams=[
            {
                "matchers": matchers(team.match),
                **{severity: _receiver_name(team, severity) for severity in REPEAT},
            }
            for team in teams
        ],
        quiet=bool(notifications.quiet), repeat=REPEAT | notifications.repeat,
        maintenance=_maintenance(notifications),
        dead_man=notifications.dead_man, lesser=lesser(),
        intervals=_intervals(notifications), receivers=_receivers(notifications, teams, place),
    )  # fmt: skip


def _yaml(value: object, *, block: bool = False) -> str:
    """A value as YAML: on one line where it stands, or as lines of its own."""
    plain = msgspec.to_builtins(value)
    if block:
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000)
    return yaml.safe_dump(
        plain, default_flow_style=True, width=10_000, allow_unicode=True
    ).removesuffix("\n").removesuffix("\n...")  # fmt: skip


def _receiver_name(team: Team, severity: str) -> str:
    return f"{team.name}-{severity}"


def matchers(match: Matches) -> list[str]:
    """Regular expressions as Alertmanager reads them, quoted for its parser."""
    return [f"{label}=~{_quoted(text)}" for label, text in match.items()]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _maintenance(given: Notifications) -> list[dict[str, Any]]:
    """A route for each maintenance, after those of sets that may match one alert together."""
    sets = joint([each.match for each in given.maintenance], "maintenance")
    found = [[given.maintenance[number] for number in numbers] for numbers in sets]
    return [
        {
            # the template writes maintenance-NAME into a list, so this becomes several of its items
            "name": ", maintenance-".join(each.name for each in members),
            "matchers": [text for each in members for text in matchers(each.match)],
        }
        for members in found
    ]


def _intervals(given: Notifications) -> list[dict[str, Any]]:
    found = [{"name": "quiet", "time_intervals": [_window(each) for each in given.quiet]}]
    found = found if given.quiet else []
    return found + [
        {
            "name": f"maintenance-{each.name}",
            "time_intervals": [_window(window) for window in each.windows],
        }
        for each in given.maintenance
    ]


def _window(window: Window) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(window)
    return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items() if v}


def _receivers(given: Notifications, teams: tuple[Team, ...], place: Place) -> list[dict[str, Any]]:
    remediator = {"url": place.remediator_url.rstrip("/"), "token_file": place.token_file}
    found: list[dict[str, Any]] = [
        {
            "name": "remediator",
            "webhook_configs": [{"send_resolved": True} | webhook("/api/v1/alerts", remediator)],
        }
    ]
    if given.dead_man is not None:
        outside = {"url": given.dead_man.url, "send_resolved": False}
        found.append({"name": "dead-man", "webhook_configs": [outside]})
    for team in teams:
        for severity in REPEAT:
            entry: dict[str, Any] = {"name": _receiver_name(team, severity)}
            for name in getattr(team, severity):
                key, settings = receiver(name, given.channels[name], place.version, remediator)
                entry.setdefault(key, []).append(settings)
            found.append(entry)
    return found
