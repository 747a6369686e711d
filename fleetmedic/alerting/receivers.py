"""Convert a channel to a receiver for a given version of Alertmanager. Pure functions."""

from __future__ import annotations

from typing import Any

from fleetmedic.alerting.settings import Channel, Email, Http, PagerDuty, Slack, Teams, WeChat

Version = tuple[int, int]
TEAMS_SINCE: Version = (0, 28)
WECHAT_FILE_SINCE: Version = (0, 33)

Receiver = tuple[str, dict[str, Any]]


def by_remediator(channel: Channel, version: Version) -> bool:
    """Return whether the remediator must send to this channel.

    This is the case if this version of Alertmanager does not support the channel, or needs the
    channel's secret in its configuration.
    """
    if isinstance(channel, Teams):
        return version < TEAMS_SINCE
    if isinstance(channel, WeChat):
        return version < WECHAT_FILE_SINCE
    return isinstance(channel, Http)


def receiver(name: str, channel: Channel, version: Version, remediator: dict[str, str]) -> Receiver:
    """Return the integration's key in alertmanager.yml and its settings.

    `remediator` contains `url` and `token_file`.
    """
    common = {"send_resolved": channel.resolved}
    if by_remediator(channel, version):
        return "webhook_configs", common | webhook(f"/api/v1/notify/{name}", remediator)
    match channel:
        case Email():
            return "email_configs", common | _email(channel)
        case Slack():
            return "slack_configs", common | _slack(channel)
        case Teams():
            return "msteamsv2_configs", common | {
                "webhook_url_file": channel.url_file,
                "title": '{{ template "fleetmedic.title" . }}',
                "text": '{{ template "fleetmedic.markdown" . }}',
            }
        case PagerDuty():
            return "pagerduty_configs", common | _pagerduty(channel)
        case WeChat():
            return "wechat_configs", common | _wechat(channel)
    raise AssertionError(channel)  # unreachable: `by_remediator` handles every other kind


def webhook(path: str, remediator: dict[str, str]) -> dict[str, Any]:
    """Return the webhook settings for a path of the remediator, with its token."""
    return {
        "url": remediator["url"] + path,
        "max_alerts": 0,
        "http_config": {
            "authorization": {"type": "Bearer", "credentials_file": remediator["token_file"]}
        },
    }


def _email(channel: Email) -> dict[str, Any]:
    login = {
        "auth_username": channel.username,
        "auth_password_file": channel.password_file,
    }
    return {
        "to": ", ".join(channel.to),
        "from": channel.sender,
        "smarthost": channel.smarthost,
        **(login if channel.username else {}),
        "require_tls": channel.require_tls,
        "headers": {"Subject": '{{ template "fleetmedic.title" . }}'},
        "html": '{{ template "fleetmedic.html" . }}',
        "text": '{{ template "fleetmedic.text" . }}',
    }


def _slack(channel: Slack) -> dict[str, Any]:
    place = {"channel": channel.slack_channel} if channel.slack_channel else {}
    return {
        "api_url_file": channel.url_file,
        **place,
        "color": '{{ template "fleetmedic.colour" . }}',
        "title": '{{ template "fleetmedic.slack.title" . }}',
        "title_link": '{{ template "fleetmedic.link" . }}',
        "text": '{{ template "fleetmedic.slack.text" . }}',
        "fallback": '{{ template "fleetmedic.slack.title" . }}',
        "footer": "fleetmedic",
    }


def _pagerduty(channel: PagerDuty) -> dict[str, Any]:
    return {
        "routing_key_file": channel.routing_key_file,
        **({"url": channel.url} if channel.url else {}),
        "severity": '{{ template "fleetmedic.pagerduty.severity" . }}',
        "class": "{{ .CommonLabels.alertname }}",
        "component": "{{ .CommonLabels.node }}{{ with .CommonLabels.gpu }}/{{ . }}{{ end }}",
        "group": "{{ .CommonLabels.category }}",
        "description": '{{ template "fleetmedic.title" . }}',
        "details": {
            "alerts": '{{ template "fleetmedic.text" . }}',
            "firing": "{{ .Alerts.Firing | len }}",
            "resolved": "{{ .Alerts.Resolved | len }}",
        },
        "links": [{"href": '{{ template "fleetmedic.link" . }}', "text": "Runbook"}],
    }


def _wechat(channel: WeChat) -> dict[str, Any]:
    whom = {"to_user": channel.to_user, "to_party": channel.to_party, "to_tag": channel.to_tag}
    return {
        "corp_id": channel.corp_id,
        "agent_id": channel.agent_id,
        "api_secret_file": channel.secret_file,
        "api_url": channel.url,
        **{key: value for key, value in whom.items() if value},
        "message_type": "text",
        "message": '{{ template "fleetmedic.plain" . }}',
    }
