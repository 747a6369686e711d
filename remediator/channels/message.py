"""Render messages for alert groups from Alertmanager. Pure functions.

Labels and annotations are untrusted input. Templates must use `tojson` for values in JSON, and `line` or
`markdown` for text that people read, so that the input cannot add lines, links or mentions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import jinja2
import jinja2.sandbox
import msgspec

from fleetmedic.alerting import stages
from fleetmedic.kernel.errors import UserError, shortened
from fleetmedic.kernel.settings import parse_json
from fleetmedic.wording.counts import counted

MAX_ALERTS = 10
MAX_LINE = 240
MAX_TEXT = 2000
MAX_MESSAGE = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
# Not every Markdown dialect supports backslashes or entities, so harmful characters are replaced by similar
# ones.
_HARMLESS = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "@\u200b", "]": "]\u200b"})


class ChannelAlert(msgspec.Struct, frozen=True, rename="camel"):
    """One alert of a webhook payload. Times are strings in Alertmanager's format."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: Annotated[str, msgspec.Meta(max_length=64)] = ""
    ends_at: Annotated[str, msgspec.Meta(max_length=64)] = ""
    fingerprint: str = ""


class ChannelAlertGroup(msgspec.Struct, frozen=True, rename="camel"):
    """The payload of Alertmanager's webhook, version 4. Unknown fields are ignored."""

    status: str
    alerts: Annotated[tuple[ChannelAlert, ...], msgspec.Meta(min_length=1)]
    common_labels: dict[str, str] = {}
    common_annotations: dict[str, str] = {}
    external_url: str = msgspec.field(default="", name="externalURL")

    @property
    def firing(self) -> bool:
        """Return whether at least one alert of the group is firing."""
        return self.status == "firing"


@dataclass(frozen=True, slots=True)
class Signature:
    """The timestamp and signature that a service requires in the message; empty if it requires none."""

    timestamp: str = ""
    sign: str = ""


def read(body: bytes) -> ChannelAlertGroup:
    """Decode the alert group of a webhook payload. Raises UserError with the path of the invalid field."""
    return parse_json(body, ChannelAlertGroup, "body")


def line(text: object) -> str:
    """Return the text on one line, at most MAX_LINE characters long."""
    plain = _CONTROL.sub(" ", str(text))
    return shortened(plain, MAX_LINE)


def markdown(text: object) -> str:
    """Return the text on one line, without characters that create links, tags or mentions in Markdown."""
    return line(text).translate(_HARMLESS)


def title(group: ChannelAlertGroup) -> str:
    """Return the title of a message, such as `[FIRING 1] GpuLost on node1 GPU 3 (main)`."""
    labels = group.common_labels
    count = sum(alert.status == "firing" for alert in group.alerts)
    head = f"[FIRING {count}]" if group.firing else "[RESOLVED]"
    name = labels.get("alertname") or counted(len(group.alerts), "alert")
    where = [
        f"{word} {labels[label]}"
        for word, label in (
            ("on", "node"),
            ("GPU", "gpu"),
            ("job", "job_id"),
            ("service", "service"),
        )
        if labels.get(label)
    ]
    cluster = f"({labels['cluster']})" if labels.get("cluster") else ""
    return line(" ".join(part for part in (head, name, *where, cluster) if part))


def done(alert: ChannelAlert) -> str:
    """Return a sentence about the automatic action that an alert starts."""
    playbook = alert.annotations.get("playbook", "")
    notifies_only = not stages.may_act(alert.labels.get(stages.LABEL, ""))
    if notifies_only or playbook in ("", "none", "notify-only"):
        return "No automatic action."
    return f"Automatic action: playbook {line(playbook)}."


def facts(alert: ChannelAlert) -> dict[str, str]:
    """Return the fields of one alert that a template can use."""
    said = alert.annotations
    ended = "" if alert.status == "firing" else "Resolved: "
    return {
        "summary": ended
        + line(said.get("summary") or alert.labels.get("alertname") or "An alert."),
        "description": _CONTROL.sub(" ", said.get("description", ""))[:MAX_TEXT],
        "runbook": line(said.get("runbook_url", "")),
        "dashboard": line(said.get("dashboard_url", "")),
        "since": line(alert.starts_at)[:19].replace("T", " "),
        "severity": line(alert.labels.get("severity", "")),
        "done": done(alert),
    }


class Templates:
    """Parses channel templates in a sandbox."""

    def __init__(self) -> None:
        self._environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters |= {"line": line, "markdown": markdown}

    def parse(self, text: str, where: str) -> jinja2.Template:
        """Return the parsed channel template. Raises UserError with file and line."""
        try:
            return self._environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"{where}:{error.lineno}: {error.message}; fix the template.") from None


def fill(
    template: jinja2.Template, group: ChannelAlertGroup, where: str, signature: Signature
) -> bytes:
    """Render the message for a channel as UTF-8.

    Raises UserError if the template uses an undefined name or the message is too large.
    """
    context: dict[str, Any] = {
        "title": title(group),
        "firing": group.firing,
        "alerts": [facts(alert) for alert in group.alerts[:MAX_ALERTS]],
        "count": len(group.alerts),
        "more": max(0, len(group.alerts) - MAX_ALERTS),
        "severity": line(group.common_labels.get("severity", "")),
        "labels": {line(k): line(v) for k, v in group.common_labels.items()},
        "timestamp": signature.timestamp,
        "sign": signature.sign,
    }
    try:
        text = template.render(context)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise UserError(f"{where}: {str(error)[:200]}; fix the template.") from None
    message = text.encode("utf-8", "replace")
    if len(message) > MAX_MESSAGE:
        raise UserError(
            f"{where}: the message is larger than {MAX_MESSAGE} bytes; shorten the template."
        )
    return message
