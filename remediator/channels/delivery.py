"""Send Alertmanager's notifications to channels that Alertmanager does not support itself.

Alertmanager sends each notification to the remediator's webhook. The response says whether the message was
delivered. Alertmanager retries if a retry can help. URLs and secrets are read from their files for each
message, so a new secret needs no restart. They appear in no error and no log line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from fleetmedic.alerting.settings import Channel, Http, Notifications, Teams, WeChat
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.share import share
from fleetmedic.kernel.urls import check_url
from remediator.channels import sign
from remediator.channels.message import ChannelAlertGroup, Signature, Templates, fill
from remediator.http import HttpError, Notifier

MAX_SECRET = 8192
TRY_AGAIN = frozenset({408, 425, 429})
_JSON = "application/json"
_TOKEN_MARGIN = 300.0  # seconds: WeChat's token is renewed this long before it expires


class NotDelivered(Exception):  # noqa: N818
    """The exception for a message that was not delivered. `again`: a retry can help."""

    def __init__(self, sentence: str, *, again: bool) -> None:
        super().__init__(sentence)
        self.again = again


@dataclass(slots=True)
class Delivery:
    """The channels through which the remediator sends notifications. Create it with `open_channels`."""

    channels: Mapping[str, Channel]
    templates: Mapping[str, jinja2.Template]
    sender: Notifier
    now: Callable[[], float] = time.time
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Return whether the remediator serves a channel of this name."""
        return name in self.channels

    async def deliver(self, name: str, group: ChannelAlertGroup) -> None:
        """Send an alert group through a channel. Raises NotDelivered, or KeyError for an unknown channel."""
        channel = self.channels[name]
        try:
            if isinstance(channel, WeChat):
                await self._wechat(name, channel, group)
            elif isinstance(channel, Teams):
                url = _url(channel.url_file)
                message = fill(self.templates[name], group, f"channel {name}", Signature())
                await self._post(url, message, {}, "")
            elif isinstance(channel, Http):
                await self._http(name, channel, group)
        except UserError as error:
            raise NotDelivered(str(error), again=False) from None
        except HttpError as error:
            raise NotDelivered(str(error), again=True) from None

    async def _http(self, name: str, channel: Http, group: ChannelAlertGroup) -> None:
        url, signature = _url(channel.url_file), Signature()
        if channel.sign and channel.secret_file:
            secret = _secret(channel.secret_file)
            if channel.sign == "dingtalk":
                url = sign.dingtalk(url, secret, self.now())
            else:
                signature = sign.feishu(secret, self.now())
        headers = {"Content-Type": channel.content_type} | _headers(channel.headers_file)
        message = fill(self.templates[name], group, f"channel {name}", signature)
        if channel.content_type.partition(";")[0].strip() == _JSON:
            _check_json(message, f"channel {name}")
        await self._post(url, message, headers, channel.success, channel.method)

    async def _wechat(self, name: str, channel: WeChat, group: ChannelAlertGroup) -> None:
        """Send a message through a WeCom application, with its cached access token (valid for two hours)."""
        base = channel.url.rstrip("/")
        token, until = self._tokens.get(name, ("", 0.0))
        if self.now() >= until:
            ask = {"corpid": channel.corp_id, "corpsecret": _secret(channel.secret_file)}
            answer = await self.sender.exchange("GET", f"{base}/gettoken", params=ask)
            decoded = _confirmed(*answer, "errcode=0")
            token = str(decoded.get("access_token", ""))
            until = self.now() + float(decoded.get("expires_in", 7200)) - _TOKEN_MARGIN
        text = fill(self.templates[name], group, f"channel {name}", Signature())
        body = {
            "touser": channel.to_user,
            "toparty": channel.to_party,
            "totag": channel.to_tag,
            "agentid": channel.agent_id,
            "msgtype": "text",
            "text": {"content": text.decode()[:600]},
        }
        try:
            answer = await self.sender.exchange(
                "POST",
                f"{base}/message/send",
                params={"access_token": token},
                content=msgspec.json.encode(body),
                headers={"Content-Type": _JSON},
            )
            _confirmed(*answer, "errcode=0")
        except NotDelivered:
            self._tokens.pop(name, None)  # the token may have been revoked
            raise
        self._tokens[name] = token, until

    async def _post(
        self, url: str, message: bytes, headers: dict[str, str], success: str, method: str = "POST"
    ) -> None:
        headers = {"Content-Type": _JSON} | headers
        answer = await self.sender.exchange(method, url, content=message, headers=headers)
        _confirmed(*answer, success)


def open_channels(given: Notifications, sender: Notifier) -> Delivery:
    """Return the channels of notifications.yml that the remediator serves, with parsed templates.

    Raises UserError for an invalid template.
    """
    chosen, parsed = parse_templates(given)
    return Delivery(chosen, parsed, sender)


def parse_templates(
    given: Notifications,
) -> tuple[dict[str, Channel], dict[str, jinja2.Template]]:
    """Return the channels that the remediator serves, and their templates. Raises UserError."""
    texts: dict[str, tuple[str, str]] = {}
    chosen: dict[str, Channel] = {}
    for name, channel in given.channels.items():
        if isinstance(channel, Http):
            texts[name] = _template(channel.template, f"at $.channels.{name}.template: ")
        elif isinstance(channel, Teams):
            texts[name] = _template("teams")
        elif isinstance(channel, WeChat):
            texts[name] = (_PLAIN, "wechat")
        else:
            continue
        chosen[name] = channel
    templates = Templates()
    parsed = {name: templates.parse(text, where) for name, (text, where) in texts.items()}
    return chosen, parsed


_PLAIN = """{{ title }}
{% for alert in alerts[:4] %}
- {{ alert.summary }} {{ alert.done }}
{% endfor %}
{% if count > 4 %}{{ count }} alerts in total.
{% endif %}{{ alerts[0].runbook }}"""


def _template(name: str, place: str = "") -> tuple[str, str]:
    shipped = share("alertmanager") / "http" / f"{name}.json.j2"
    path = shipped if "/" not in name and shipped.is_file() else Path(name)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, ValueError):
        known = ", ".join(sorted(p.name.partition(".")[0] for p in shipped.parent.glob("*.j2")))
        raise UserError(
            f"{place}template {name[:200]!r} not found; expected a readable file or one of {known}."
        ) from None


def _secret(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_SECRET + 1).strip()
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "invalid UTF-8"
        raise NotDelivered(f"{path} cannot be read: {what}.", again=True) from None
    if not text or len(text) > MAX_SECRET:
        raise NotDelivered(
            f"{path} is empty or too long; write the URL or secret into it.", again=True
        )
    return text


def _url(path: str) -> str:
    text = _secret(path)
    try:
        check_url(text, path)
    except UserError as error:
        raise NotDelivered(str(error), again=True) from None
    return text


def _headers(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    found = {}
    for text in _secret(path).splitlines():
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise NotDelivered(
                f"{path}: expected one header per line, as NAME: VALUE.", again=False
            )
        found[name.strip()] = value.strip()
    return found


def _check_json(message: bytes, where: str) -> None:
    try:
        msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"{where}: the template produced invalid JSON ({str(error)[:120]})."
        ) from None


def _confirmed(status: int, body: bytes, success: str) -> dict[str, Any]:
    """Return the decoded JSON of a response that confirms the delivery. Raises NotDelivered otherwise."""
    if not 200 <= status < 300:
        again = status >= 500 or status in TRY_AGAIN
        raise NotDelivered(f"The service returned status {status}.", again=again)
    if not success:
        return {}
    key, _, wanted = success.partition("=")
    try:
        decoded = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NotDelivered("The service returned invalid JSON.", again=True) from None
    if str(decoded.get(key)) != wanted:
        got = str(decoded.get(key))[:40]
        raise NotDelivered(
            f"The service rejected the message: its response contains {key}={got}, expected {wanted}.",
            again=True,
        )
    return decoded
