"""What an event says: its reason, its text, and the sentence of its reason where there is no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remediator.core import events
from remediator.core.events import Kind
from remediator.core.model import Alert, IncidentState
from remediator.core.reasons import Reason, sentence
from tests.unit.remediator.core.examples import GPU, NOW

ALERT = Alert("aa", NOW, "2026-11-22T21:47:28Z", True, {"alertname": "GpuLost"})


@pytest.mark.parametrize(
    ("firing", "reason", "text"),
    [
        (True, Reason.ALERT_RECEIVED, "GpuLost is firing."),
        (False, Reason.ALERT_RESOLVED, "GpuLost is resolved."),
    ],
)
def test_a_received_alert_says_whether_it_fires(firing: bool, reason: Reason, text: str) -> None:
    event = events.alert_received(replace(ALERT, firing=firing), GPU, NOW, "webhook")
    assert (event.reason, event.text) == (reason, text)
    assert event.data["status"] in text


def test_an_alert_without_a_name_is_called_so() -> None:
    event = events.alert_received(replace(ALERT, labels={}), None, NOW, "webhook")
    assert event.text == "(alert without a name) is firing."


@pytest.mark.parametrize(("given", "said"), [("Why.", "Why."), ("", sentence(Reason.STORM))])
def test_the_sentence_of_the_reason_stands_where_there_is_no_other(
    incident, given: str, said: str
) -> None:
    one = incident(IncidentState.HELD)
    assert events.moved(one, IncidentState.HELD, NOW, Reason.STORM, given).text == said
    assert events.noted(Kind.HELD, one, NOW, Reason.STORM, given).text == said
