"""A journal of an earlier version is read as if the present version had written it."""

from __future__ import annotations

import pytest

from fleetmedic.alerting.reports import AlertReport
from remediator.core.action import Effect
from remediator.core.events import Kind, step_of
from remediator.core.model import Episode
from remediator.journal_upgrades import EFFECTS, INSTRUMENTS, upgraded
from remediator.playbook_library import load_library
from tests.unit.remediator.catalogue import ACTIONS
from tests.unit.remediator.shipped_alerts import instruments

OLD = {
    "action": "reset_gpu", "step": "reset_gpu", "attempt": 1, "op_id": "a", "on": "gpu/node1/3",
    "deadline": 9.0, "jobs": [], "also": [], "replicas": None,
}  # fmt: skip


def test_an_announced_step_gets_the_effect_that_its_action_has() -> None:
    step = step_of(upgraded(Kind.STEP_PREPARED, OLD))
    assert (step.action, step.effect) == ("reset_gpu", Effect.REPAIRS)
    assert "effect" not in OLD, "the caller's data stays as it was"


def test_a_recorded_effect_and_other_events_stay_as_they_are() -> None:
    data = OLD | {"effect": "verifies"}
    assert upgraded(Kind.STEP_PREPARED, data) is data
    assert upgraded(Kind.STEP_DONE, OLD) is OLD


@pytest.mark.parametrize("name", EFFECTS)
def test_an_action_of_earlier_versions_has_the_effect_that_it_declares_today(name: str) -> None:
    data = upgraded(Kind.STEP_PREPARED, OLD | {"action": name})
    assert Effect(data["effect"]) is ACTIONS.named(name).effect


def test_an_unknown_action_is_named() -> None:
    with pytest.raises(ValueError, match="its action 'explode' is unknown"):
        upgraded(Kind.STEP_PREPARED, OLD | {"action": "explode"})


ABSORBED = {
    "key": "a/f/1", "fingerprint": "f", "starts_at": 1.0, "starts_text": "x", "alertname": "GpuLost",
}  # fmt: skip


def test_an_alert_of_an_earlier_version_gets_the_instrument_that_its_name_had() -> None:
    episode = Episode(**upgraded(Kind.ALERT_ABSORBED, ABSORBED))
    assert (episode.instrument, episode.uuid) == ("driver", "")
    assert episode.report is AlertReport.LOSS
    own = Episode(**upgraded(Kind.ALERT_ABSORBED, ABSORBED | {"alertname": "GpuOfTheSite"}))
    assert own.instrument == ""


def test_a_recorded_instrument_stays_as_it_is_even_if_it_is_missing_in_the_alert() -> None:
    data = ABSORBED | {"instrument": ""}
    assert upgraded(Kind.ALERT_ABSORBED, data) is data


def test_earlier_alerts_that_justify_actions_have_the_instrument_of_their_rule() -> None:
    acted_on = {
        name
        for playbook in load_library(())
        if not playbook.notify_only
        for name in playbook.alertnames
    }
    assert {name: instruments()[name] for name in acted_on} == INSTRUMENTS
