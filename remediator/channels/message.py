"""What Alertmanager says of a group of alerts, and the text that a template makes of it. Pure.

Labels and annotations come from outside. A template gets them as data: text that is put into JSON
passes through `tojson`, and text that people read through `line` or `markdown`, which leave it no way
to begin a line, a link or a call to everybody of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import jinja2
import jinja2.sandbox
import msgspec

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import parse_json

MAX_ALERTS = 10
MAX_LINE = 240
MAX_TEXT = 2000
MAX_MESSAGE = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
# Not every service that calls it Markdown knows backslashes or entities, so the few marks that could do
# harm become signs that look alike.
_HARMLESS = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "@\u200b", "]": "]\u200b"})


class Alert(msgspec.Struct, frozen=True, rename="camel"):
    """One alert of the group; times as Alertmanager writes them."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: Annotated[str, msgspec.Meta(max_length=64)] = ""
    ends_at: Annotated[str, msgspec.Meta(max_length=64)] = ""
    fingerprint: str = ""


class Group(msgspec.Struct, frozen=True, rename="camel"):
    """The body of a webhook, version 4; what it has besides is ignored."""

    status: str
    alerts: Annotated[tuple[Alert, ...], msgspec.Meta(min_length=1)]
    common_labels: dict[str, str] = {}
    common_annotations: dict[str, str] = {}
    external_url: str = msgspec.field(default="", name="externalURL")

    @property
    def firing(self) -> bool:
        """Whether any of the alerts still fires."""
        return self.status == "firing"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a service asks for besides the message; empty where it asks for nothing."""

    timestamp: str = ""
    sign: str = ""


def read(body: bytes) -> Group:
    """The group in a webhook's body. Raises UserError naming the place."""
    return parse_json(body, Group, "body")


def line(text: object) -> str:
    """A text on one line and of a bearable length."""
    plain = _CONTROL.sub(" ", str(text))
    return plain if len(plain) <= MAX_LINE else plain[: MAX_LINE - 3] + "..."


def markdown(text: object) -> str:
    """A text on one line that makes no link, no tag and no call to anybody where Markdown is read."""
    return line(text).translate(_HARMLESS)


def title(group: Group) -> str:
    """`[FIRING 1] GpuLost on node1 GPU 3 (main)`."""
    labels = group.common_labels
    count = sum(alert.status == "firing" for alert in group.alerts)
    head = f"[FIRING {count}]" if group.firing else "[RESOLVED]"
    name = labels.get("alertname") or f"{len(group.alerts)} alerts"
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


def done(alert: Alert) -> str:
    """What is done about an alert without anybody's help."""
    playbook = alert.annotations.get("playbook", "")
    if playbook in ("", "none", "notify-only"):
        return "Nothing is done by itself."
    return f"fleetmedic acts by the playbook {line(playbook)}."


def facts(alert: Alert) -> dict[str, str]:
    """One alert as a template reads it."""
    said = alert.annotations
    ended = "" if alert.status == "firing" else "Over: "
    return {
        "summary": ended + line(said.get("summary") or alert.labels.get("alertname", "An alert.")),
        "description": _CONTROL.sub(" ", said.get("description", ""))[:MAX_TEXT],
        "runbook": line(said.get("runbook_url", "")),
        "dashboard": line(said.get("dashboard_url", "")),
        "since": line(alert.starts_at)[:19].replace("T", " "),
        "severity": line(alert.labels.get("severity", "")),
        "done": done(alert),
    }


class Templates:
    """The templates of channels, parsed once."""

    def __init__(self) -> None:
        self._environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
        )
        self._environment.filters |= {"line": line, "markdown": markdown}

    def parse(self, text: str, where: str) -> jinja2.Template:
        """A template. Raises UserError naming file and line."""
        try:
            return self._environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise UserError(
                f"{where}:{error.lineno}: {error.message}; mend the template."
            ) from None


def fill(template: jinja2.Template, group: Group, where: str, signature: Signature) -> bytes:
    """The message. Raises UserError when the template asks for what is not there, or says too much."""
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
        raise UserError(f"{where}: {str(error)[:200]}; mend the template.") from None
    message = text.encode("utf-8", "replace")
    if len(message) > MAX_MESSAGE:
        raise UserError(f"{where}: the message is larger than {MAX_MESSAGE} bytes; say less in it.")
    return message
