"""Messages: what a template gets, and that what comes from outside stays data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.share import share
from remediator.channels.message import (
    MAX_ALERTS,
    MAX_MESSAGE,
    Signature,
    Templates,
    done,
    fill,
    line,
    markdown,
    read,
    title,
)

SHIPPED = sorted((share("alertmanager") / "http").glob("*.json.j2"))
NOTHING = Signature()


def body(
    labels: dict[str, str], *, count: int = 1, status: str = "firing", **annotations: str
) -> bytes:
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": "2026-01-02T03:04:05Z",
    }
    return json.dumps(
        {
            "version": "4",
            "status": status,
            "alerts": [alert] * count,
            "commonLabels": labels,
            "new": 1,
        }
    ).encode()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("", "Automatic action: playbook gpu-lost."),
        ("act", "Automatic action: playbook gpu-lost."),
        ("notify", "No automatic action."),
    ],
)
def test_a_message_announces_no_action_that_the_stage_of_the_alert_forbids(
    stage: str, expected: str
) -> None:
    (alert,) = read(body({"stage": stage}, playbook="gpu-lost")).alerts
    assert done(alert) == expected


def test_a_title_says_what_where_and_how_many() -> None:
    labels = {"alertname": "GpuLost", "node": "n1", "gpu": "3", "cluster": "main"}
    assert title(read(body(labels, count=2))) == "[FIRING 2] GpuLost on n1 GPU 3 (main)"
    assert (
        title(read(body({"node": "n1"}, count=3, status="resolved"))) == "[RESOLVED] 3 alerts on n1"
    )


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (b"", "$"),
        (b"[]", "$"),
        (b'{"status": "firing"}', "$"),
        (b'{"status": "firing", "alerts": []}', "$.alerts"),
        (b'{"status": "firing", "alerts": [{"status": 1, "labels": {}}]}', "$.alerts[0].status"),
        (
            b'{"status": "firing", "alerts": [{"status": "firing", "labels": {"a": 1}}]}',
            "$.alerts[0]",
        ),
        (b"\xff", "$"),
        (b"[" * 5000, "$"),
    ],
)
def test_a_body_that_is_no_group_is_one_sentence(given: bytes, place: str) -> None:
    with pytest.raises(UserError) as error:
        read(given)
    assert str(error.value).startswith(f"body: at {place}")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
@given(text=st.text(max_size=300))
def test_every_shipped_template_makes_json_of_any_text(path: Any, text: str) -> None:
    template = Templates().parse(path.read_text(), path.name)
    labels = {"alertname": text or "x", "node": text, "severity": text}
    group = read(
        body(labels, count=12, summary=text, description=text, runbook_url=text, playbook=text)
    )
    said = json.loads(fill(template, group, path.name, Signature("1", "s")))
    assert isinstance(said, dict)


@given(st.text(max_size=2000))
def test_a_line_has_no_line_end_and_a_bearable_length(text: str) -> None:
    assert len(line(text)) <= 240
    assert not set("\n\r\t\x00\u2028") & set(line(text))


@given(st.text(alphabet="<>@[]()!a`*", max_size=200))
def test_markdown_makes_no_link_tag_or_call(text: str) -> None:
    made = markdown(text)
    assert "](" not in made
    assert "<" not in made
    assert "@a" not in made


def test_of_many_alerts_the_first_are_told_and_the_rest_counted() -> None:
    template = Templates().parse("{{ alerts | length }} of {{ count }}, {{ more }} more", "t")
    said = fill(template, read(body({}, count=25)), "t", NOTHING)
    assert said == f"{MAX_ALERTS} of 25, {25 - MAX_ALERTS} more".encode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{% for %}", "t:1"),
        ("{{ nobody }}", "nobody"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ alerts.append(1) }}", "unsafe|not safely|append"),
        ("{{ 'x' * 100000 }}", "larger than"),
    ],
)
def test_a_template_that_cannot_be_is_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        fill(Templates().parse(text, "t"), read(body({})), "t", NOTHING)
    assert "\n" not in str(error.value)
    assert MAX_MESSAGE < 100_000


def test_a_label_is_never_a_template() -> None:
    group = read(body({"alertname": "{{ 7 * 7 }}"}, summary="{% raw %}{{ count }}"))
    said = fill(Templates().parse("{{ title }} {{ alerts[0].summary }}", "t"), group, "t", NOTHING)
    assert said == b"[FIRING 1] {{ 7 * 7 }} {% raw %}{{ count }}"


def test_the_end_of_an_alert_is_called_that() -> None:
    group = read(body({}, status="resolved", summary="It is lost."))
    said = fill(Templates().parse("{{ alerts[0].summary }}", "t"), group, "t", NOTHING)
    assert said == b"Resolved: It is lost."
