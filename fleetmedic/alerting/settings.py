"""Define and read notifications.yml: teams, channels and maintenance windows.

Secrets are in separate files. The file is used twice: alertmanager.yml is rendered from it, and the
remediator sends to the channels that Alertmanager does not support.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec

from fleetmedic.alerting.expressions import expression
from fleetmedic.alerting.intervals import Window as Window
from fleetmedic.alerting.intervals import interval
from fleetmedic.alerting.overlaps import overlapping_sets
from fleetmedic.kernel.durations import parse_duration
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import load
from fleetmedic.kernel.urls import check_base_url, check_url

Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9-]{0,40}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
File = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Matches = dict[Annotated[str, msgspec.Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_]{0,60}$")], Text]


class _Channel(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """The fields of every channel. `resolved`: also notify about resolved alerts."""

    resolved: bool = True


class Email(_Channel, frozen=True, kw_only=True, tag="email"):
    """A channel that sends email. `smarthost` is HOST:PORT. Without `username` there is no authentication."""

    to: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
    sender: Text
    smarthost: Annotated[str, msgspec.Meta(pattern=r"^\[?[A-Za-z0-9.:-]+\]?:\d{1,5}$")]
    username: str = ""
    password_file: File | None = None
    require_tls: bool = True


class Slack(_Channel, frozen=True, kw_only=True, tag="slack"):
    """A channel that posts to a Slack incoming webhook. `url_file` is the file with its URL."""

    url_file: File
    slack_channel: str = ""


class Teams(_Channel, frozen=True, kw_only=True, tag="teams"):
    """A channel that calls a Teams workflow ("when a webhook request is received").

    `url_file` is the file with its URL.
    """

    url_file: File


class PagerDuty(_Channel, frozen=True, kw_only=True, tag="pagerduty"):
    """A channel that sends to PagerDuty's Events API v2. `url` overrides the default URL, such as for a region."""

    routing_key_file: File
    url: str = ""


class WeChat(_Channel, frozen=True, kw_only=True, tag="wechat"):
    """A channel that sends WeChat Work (WeCom) messages from an internal application to users, parties or tags."""

    corp_id: Text
    agent_id: Text
    secret_file: File
    to_user: str = ""
    to_party: str = ""
    to_tag: str = ""
    url: str = "https://qyapi.weixin.qq.com/cgi-bin/"


class Http(_Channel, frozen=True, kw_only=True, tag="http"):
    """A channel for any HTTP service. The remediator renders a template and sends the result.

    `template` is a built-in template (dingtalk, feishu, teams, wechat-robot, sms, voice) or a file.
    `sign` adds the signature of DingTalk or Feishu, with the secret in `secret_file`.
    `headers_file` contains headers, one NAME: VALUE per line.
    """

    url_file: File
    template: Text
    method: Annotated[str, msgspec.Meta(pattern="^(POST|PUT)$")] = "POST"
    content_type: str = "application/json"
    headers_file: File | None = None
    sign: Annotated[str, msgspec.Meta(pattern="^(|dingtalk|feishu)$")] = ""
    secret_file: File | None = None
    success: str = ""
    """A condition on the response's JSON, such as `errcode=0`; empty: every status 200 to 299."""


Channel = Email | Slack | Teams | PagerDuty | WeChat | Http
Channels = tuple[Name, ...]


class Team(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team, and the channels for its alerts by severity.

    A team gets the alerts whose labels match all regular expressions in `match`. Only the first
    matching team is notified. The last team has no `match`.
    """

    name: Name
    match: Matches = {}
    critical: Channels = ()
    warning: Channels = ()
    info: Channels = ()


class Maintenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A planned maintenance. While a window is open, matching alerts cause no notifications and no
    actions of the remediator."""

    name: Name
    match: Annotated[Matches, msgspec.Meta(min_length=1)]
    windows: Annotated[tuple[Window, ...], msgspec.Meta(min_length=1)]


class DeadMan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dead man's switch: an external service that alerts people when the heartbeat stops.

    Its URL is in Alertmanager's configuration in plain text, because Alertmanager 0.25 cannot read
    it from a file.
    """

    url: Text
    every: str = "1m"


class Notifications(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of notifications.yml. Without teams, only the remediator is notified."""

    channels: dict[Name, Channel] = {}
    teams: tuple[Team, ...] = ()
    quiet: tuple[Window, ...] = ()
    """Quiet hours: warning and info notifications are delayed, critical ones never are."""
    maintenance: tuple[Maintenance, ...] = ()
    dead_man: DeadMan | None = None
    repeat: dict[str, str] = {}
    """Repeat interval of notifications by severity: critical, warning, info."""


REPEAT = {"critical": "1h", "warning": "4h", "info": "24h"}


def read(path: Path) -> Notifications:
    """Read notifications.yml. Raises UserError with the file name, the invalid key's path, and the fix."""
    given = load(path, Notifications)
    where = str(path)
    names = [team.name for team in given.teams]
    for number, team in enumerate(given.teams):
        place = f"{where}: at $.teams[{number}]"
        if names.index(team.name) != number:
            raise UserError(f"{place}.name: duplicate name {team.name!r}. Choose another name.")
        last = number == len(given.teams) - 1
        if last and team.match:
            raise UserError(
                f"{place}.match: remove the key, because the last team gets all alerts that match no "
                "other team."
            )
        if not last and not team.match:
            raise UserError(f"{place}.match: required; only the last team may omit `match`.")
        for field in REPEAT:
            for name in getattr(team, field):
                if name not in given.channels:
                    known = ", ".join(given.channels) or "none"
                    raise UserError(
                        f"{place}.{field}: unknown channel {name!r}. Expected one of: {known}."
                    )
        _expressions(team.match, f"{place}.match")
    _windows(given, where)
    _durations(given, where)
    for name, channel in given.channels.items():
        _channel(channel, f"{where}: at $.channels.{name}")
    return given


def _windows(given: Notifications, where: str) -> None:
    names = [each.name for each in given.maintenance]
    for number, window in enumerate(given.quiet):
        interval(window, f"{where}: at $.quiet[{number}]")
    for number, each in enumerate(given.maintenance):
        place = f"{where}: at $.maintenance[{number}]"
        if names.index(each.name) != number:
            raise UserError(f"{place}.name: duplicate name {each.name!r}. Choose another name.")
        _expressions(each.match, f"{place}.match")
        for index, window in enumerate(each.windows):
            interval(window, f"{place}.windows[{index}]")
    overlapping_sets([each.match for each in given.maintenance], f"{where}: at $.maintenance")


def _expressions(match: Matches, place: str) -> None:
    for label, text in match.items():
        try:
            expression(text)
        except ValueError as error:
            raise UserError(
                f"{place}.{label}: invalid regular expression {text[:80]!r}: {error}. Alertmanager uses "
                "Go's syntax (RE2). Correct the expression."
            ) from None


def _durations(given: Notifications, where: str) -> None:
    for severity, text in given.repeat.items():
        if severity not in REPEAT:
            raise UserError(
                f"{where}: at $.repeat: expected the keys {', '.join(REPEAT)}, got {severity[:40]!r}."
            )
        _duration(text, f"{where}: at $.repeat.{severity}")
    if given.dead_man is not None:
        check_url(given.dead_man.url, f"{where}: at $.dead_man.url")
        _duration(given.dead_man.every, f"{where}: at $.dead_man.every")


def _duration(text: str, place: str) -> None:
    try:
        seconds = parse_duration(text)
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    if seconds < 1:
        raise UserError(f"{place}: expected at least 1s, got {text}.")


def _channel(channel: Channel, place: str) -> None:
    _addresses(channel, place)
    if isinstance(channel, Email) and bool(channel.username) != bool(channel.password_file):
        raise UserError(f"{place}: set both `username` and `password_file`, or neither.")
    if isinstance(channel, WeChat) and not (channel.to_user or channel.to_party or channel.to_tag):
        raise UserError(
            f"{place}: set a recipient: `to_user`, `to_party` or `to_tag`. `@all` is allowed."
        )
    if isinstance(channel, Http) and bool(channel.sign) != bool(channel.secret_file):
        raise UserError(f"{place}: set both `sign` and `secret_file`, or neither.")


def _one_line(channel: Channel, place: str) -> None:
    """Check that no field has a control character, which could add a header to an email or a request."""
    for field in channel.__struct_fields__:
        given = getattr(channel, field)
        for text in given if isinstance(given, tuple) else (given,):
            if isinstance(text, str) and not text.isprintable():
                raise UserError(
                    f"{place}.{field}: expected one line without control characters, got {text[:80]!r}."
                )


def _addresses(channel: Channel, place: str) -> None:
    _one_line(channel, place)
    if isinstance(channel, Email):
        for field, texts in (("to", channel.to), ("sender", (channel.sender,))):
            for text in texts:
                if not re.search(r"[^@\s]@[^@\s]", text):
                    raise UserError(
                        f"{place}.{field}: expected an email address such as ops@example.org, got "
                        f"{text[:80]!r}."
                    )
    if isinstance(channel, Email) and not 1 <= int(channel.smarthost.rpartition(":")[2]) <= 65_535:
        raise UserError(
            f"{place}.smarthost: expected HOST:PORT with a port from 1 to 65535, such as "
            "mail.example.org:587."
        )
    if isinstance(channel, PagerDuty) and channel.url:
        check_url(channel.url, f"{place}.url")
    if isinstance(channel, WeChat):
        check_base_url(channel.url, f"{place}.url")
