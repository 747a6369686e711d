"""An alert in an answer is active at once; that one is missing counts only in a complete answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.settings import Notifications
from remediator.alert_states import AlertStates
from remediator.alertmanager import AlertmanagerResponse, ListedAlert, Silence
from remediator.core.evidence import ACTIVE, OVER, AlertStatus, Evidence
from remediator.core.model import Alert
from remediator.core.reasons import Reason
from tests.unit.remediator.fake_alertmanager import WATCHDOG, FakeAlertmanager, states

NOW = 1_700_000_000.0  # Tuesday, 2023-11-14, 22:13:20 UTC
LONG_AGO = NOW - 3600
GPU_LOST = Alert("lost", NOW - 600, "x", True, {"alertname": "GpuLost", "node": "node1"})
RESOLVED = Alert("lost", NOW - 600, "x", False, {"alertname": "GpuLost", "node": "node1"})


def window() -> Notifications:
    """One maintenance of everything on node1, open at NOW and for 46 minutes and 40 seconds more."""
    times = [{"start_time": "22:00", "end_time": "23:00"}]
    one = {"name": "firmware", "match": {"node": "node1"}, "windows": [{"times": times}]}
    return msgspec.convert({"maintenance": [one]}, Notifications)


@dataclass
class Asked:
    """Alert states with a fake Alertmanager, a wall clock and a steady clock."""

    fake: FakeAlertmanager = field(default_factory=lambda: FakeAlertmanager(NOW - 3600))
    at: float = NOW
    steady: float = 1000.0
    given: Notifications = field(default_factory=Notifications)

    def __post_init__(self) -> None:
        self.states = states(self.fake, lambda: self.at, given=self.given)

    def ask(self, max_age: float = 0.0) -> AlertStates:
        self.steady += 0.0 if max_age else 0.001
        asyncio.run(self.states.refresh(max_age))
        return self.states

    def evidence(self, alert: Alert = GPU_LOST, received: float = LONG_AGO) -> Evidence:
        return self.ask().evidence(alert, received)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    one = Asked()
    monkeypatch.setattr("remediator.alert_states.monotonic", lambda: one.steady)
    return one


def test_a_listed_alert_is_active_at_once_whatever_else_is_missing(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST)
    asked.fake.forgets(WATCHDOG)
    asked.fake.started = NOW
    assert asked.evidence() is ACTIVE
    assert list(asked.states.active()) == [GPU_LOST]


def test_a_listed_alert_is_active_though_a_webhook_said_that_it_is_over(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST)
    assert asked.evidence(RESOLVED) is ACTIVE


def test_one_missing_from_a_complete_answer_is_over(asked: Asked) -> None:
    assert asked.evidence() is OVER
    assert asked.states.complete


def test_one_received_a_moment_ago_may_be_on_its_way_for_a_minute(asked: Asked) -> None:
    assert asked.evidence(received=NOW - 60.0).standing is AlertStatus.UNKNOWN
    assert asked.evidence(received=NOW - 60.1) is OVER


def test_one_that_was_listed_and_is_not_any_more_is_not_on_its_way(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST)
    asked.ask()
    asked.fake.forgets(GPU_LOST)
    assert asked.evidence(received=NOW - 1) is OVER
    again = replace(GPU_LOST, starts_at=NOW - 2)
    assert asked.states.evidence(again, NOW - 1).standing is AlertStatus.UNKNOWN, "a new episode"


def test_an_answer_without_the_watchdog_says_that_nothing_is_over(asked: Asked) -> None:
    asked.fake.forgets(WATCHDOG)
    found = asked.evidence()
    assert (found.standing, found.reason) == (AlertStatus.UNKNOWN, Reason.ALERT_UNCONFIRMED)
    assert "Watchdog" in found.text
    assert not asked.states.complete
    gone = asked.evidence(RESOLVED)
    assert gone.standing is AlertStatus.UNKNOWN, "it expires where its Prometheus is gone, too"


@pytest.mark.parametrize("alert", [GPU_LOST, RESOLVED])
@pytest.mark.parametrize(("age", "over"), [(0.0, False), (179.9, False), (180.0, True)])
def test_after_prometheus_has_come_back_nothing_is_over_until_its_alerts_fire_again(
    asked: Asked, alert: Alert, age: float, over: bool
) -> None:
    asked.fake.lists(replace(WATCHDOG, starts_at=NOW - age))
    assert (asked.evidence(alert) is OVER) is over
    assert asked.states.complete is over
    assert over or "Prometheus" in asked.evidence(alert).text


def test_of_two_watchdogs_the_younger_counts(asked: Asked) -> None:
    asked.fake.lists(replace(WATCHDOG, fingerprint="other", starts_at=NOW - 10))
    assert not asked.ask().complete


def test_a_watchdog_from_the_future_counts_from_the_first_answer_by_our_own_clock(
    asked: Asked,
) -> None:
    asked.fake.lists(replace(WATCHDOG, starts_at=NOW + 86_400))
    assert not asked.ask().complete
    asked.at = NOW + 180
    assert asked.ask().complete


def test_a_withheld_watchdog_is_still_a_watchdog(asked: Asked) -> None:
    asked.fake.lists(WATCHDOG, muted_by=("night",))
    assert asked.evidence() is OVER


@pytest.mark.parametrize(("age", "complete"), [(0.0, False), (179.9, False), (180.0, True)])
def test_after_its_start_nothing_is_over_until_everything_was_sent_again(
    asked: Asked, age: float, complete: bool
) -> None:
    asked.fake.started = NOW - age
    assert asked.ask().complete is complete
    assert (asked.evidence() is OVER) is complete
    assert complete or "22:1" in asked.evidence().text


def test_a_start_in_the_future_counts_from_the_first_answer_by_our_own_clock(asked: Asked) -> None:
    asked.fake.started = NOW + 86_400
    assert not asked.ask().complete
    asked.at = NOW + 179
    assert not asked.ask().complete
    asked.at = NOW + 180
    assert asked.ask().complete


def test_another_start_settles_again(asked: Asked) -> None:
    assert asked.ask().complete
    asked.at = NOW + 10
    asked.fake.started = NOW + 9
    assert not asked.ask().complete


def test_before_the_first_answer_and_after_an_error_nothing_is_known(asked: Asked) -> None:
    assert asked.states.evidence(GPU_LOST, LONG_AGO).standing is AlertStatus.UNKNOWN
    assert not asked.states.complete
    asked.fake.lists(GPU_LOST)
    assert asked.evidence() is ACTIVE
    asked.fake.error = "http://a:9093/api/v2/status answered 503."
    found = asked.evidence()
    assert (found.standing, found.text) == (AlertStatus.UNKNOWN, asked.fake.error)
    assert list(asked.states.active()) == []
    assert asked.states.confirmed(GPU_LOST)
    assert asked.states.evidence(RESOLVED, LONG_AGO).standing is AlertStatus.UNKNOWN


def test_an_answer_older_than_a_minute_says_nothing_about_the_present(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST)
    asked.ask()
    asked.steady += 60.0
    assert asked.states.answered
    asked.steady += 0.1
    assert not asked.states.answered
    assert asked.states.evidence(GPU_LOST, LONG_AGO).standing is AlertStatus.UNKNOWN
    assert list(asked.states.active()) == []
    assert not asked.states.complete


def test_it_is_asked_no_more_often_than_is_wanted(asked: Asked) -> None:
    asked.ask(1.0)
    asked.steady += 1.0
    asked.ask(1.0)
    assert asked.fake.asked == 1
    asked.steady += 0.1
    before = asked.states.version
    asked.ask(1.0)
    assert asked.fake.asked == 2
    assert asked.states.version != before


def test_a_very_slow_answer_is_asked_for_again_before_it_is_stale(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asked.fake.query_alerts

    async def slowly() -> AlertmanagerResponse:
        asked.steady += 5.0
        return await answer()

    monkeypatch.setattr(asked.fake, "query_alerts", slowly)
    asked.ask()
    for _ in range(12):
        asked.steady += 10.0
        asked.ask(1.0)
        assert asked.states.answered


def test_a_slow_answer_is_asked_for_less_often_except_where_it_must_be_new(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly() -> AlertmanagerResponse:
        asked.steady += 2.0
        return await FakeAlertmanager.query_alerts(asked.fake)

    monkeypatch.setattr(asked.fake, "query_alerts", slowly)
    asked.ask(1.0)
    asked.steady = 1010.0
    asked.ask(1.0)
    assert asked.fake.asked == 1
    for urgent in (0.0, 0.1):
        before = asked.fake.asked
        asked.steady += 1.0
        asked.ask(urgent)
        assert asked.fake.asked == before + 1


def test_a_silence_that_alertmanager_lost_counts_until_its_end(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, silenced_by=("s1",))
    asked.fake.known = {"s1": Silence("alice", "new board", NOW + 3600)}
    assert asked.evidence().group == "silence/s1"
    asked.fake.lists(GPU_LOST)
    asked.fake.known = {}
    found = asked.evidence()
    assert (found.standing, found.group) == (AlertStatus.WITHHELD, "silence-lost/s1")
    assert "has lost this silence" in found.text
    assert list(asked.states.active()) == [WATCHDOG]
    asked.at = NOW + 3600
    assert asked.evidence() is ACTIVE


def test_a_silence_that_a_person_expired_counts_no_longer(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, silenced_by=("s1",))
    asked.fake.known = {"s1": Silence("alice", "new board", NOW + 3600)}
    asked.ask()
    asked.fake.lists(GPU_LOST)
    asked.fake.known = {"s1": Silence("alice", "new board", NOW + 1, active=False)}
    assert asked.evidence() is ACTIVE
    asked.fake.known = {}
    assert asked.evidence() is ACTIVE


def test_an_event_whose_alert_ended_under_a_silence_stays_silenced(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, silenced_by=("s1",))
    asked.fake.known = {"s1": Silence("alice", "new board", NOW + 3600)}
    asked.ask()
    assert asked.states.silence_of(replace(GPU_LOST, fingerprint="other")) is None
    asked.fake.forgets(GPU_LOST)
    found = asked.ask().silence_of(GPU_LOST)
    assert found is not None
    assert (found.standing, found.group) == (AlertStatus.WITHHELD, "silence/s1")
    asked.fake.known = {"s1": Silence("alice", "new board", NOW + 3600, active=False)}
    assert asked.ask().silence_of(GPU_LOST) is None


def test_a_silence_names_who_why_and_until_when_and_is_never_over(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, silenced_by=("s1", "s2"))
    asked.fake.known = {"s1": Silence("alice", "new\nboard", NOW + 3600)}
    found = asked.evidence()
    assert found == Evidence(
        AlertStatus.WITHHELD, Reason.SILENCED,
        "alice silenced the alert until 2023-11-14 23:13 UTC: new board", "silence/s1",
    )  # fmt: skip
    assert asked.evidence(RESOLVED).standing is AlertStatus.WITHHELD
    assert list(asked.states.active()) == [WATCHDOG]
    assert list(asked.states.withheld()) == [(GPU_LOST, found)]
    assert asked.states.confirmed(GPU_LOST)


def test_a_silence_whose_author_is_not_known_is_a_silence(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, silenced_by=("s9",))
    found = asked.evidence()
    assert found.standing is AlertStatus.WITHHELD
    assert "silence s9" in found.text


def test_an_inhibited_alert_names_the_alert_that_inhibits_it(asked: Asked) -> None:
    down = Alert("down", NOW, "x", True, {"alertname": "NodeDown"})
    asked.fake.lists(GPU_LOST, inhibited_by=("down",))
    assert asked.evidence().text == "GpuLost is inhibited by another alert."
    asked.fake.lists(down)
    found = asked.evidence()
    assert (found.standing, found.reason) == (AlertStatus.WITHHELD, Reason.INHIBITED)
    assert (found.text, found.group) == ("GpuLost is inhibited by NodeDown.", "inhibited/down")


def test_a_muted_alert_is_withheld(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, muted_by=("night", "day"))
    found = asked.evidence()
    assert (found.standing, found.reason) == (AlertStatus.WITHHELD, Reason.MUTED)
    assert found.text == "The maintenance window night, day is open."


@pytest.mark.parametrize("listed", [True, False])
def test_our_own_window_mutes_where_alertmanager_cannot_say_so(asked: Asked, listed: bool) -> None:
    asked.given = window()
    asked.__post_init__()
    if listed:
        asked.fake.lists(GPU_LOST)
    found = asked.evidence()
    assert (found.standing, found.reason) == (AlertStatus.WITHHELD, Reason.MUTED)
    assert found.text == "The maintenance window firmware is open."
    assert list(asked.states.active()) == [WATCHDOG]
    asked.at = NOW + 3600
    assert asked.evidence() is (ACTIVE if listed else OVER)


def test_a_window_mutes_also_while_alertmanager_does_not_answer(asked: Asked) -> None:
    asked.given = window()
    asked.__post_init__()
    asked.fake.error = "gone"
    assert asked.evidence().standing is AlertStatus.WITHHELD


def test_without_an_alertmanager_what_was_received_is_all_that_there_is() -> None:
    alone = states(None, lambda: NOW)
    assert alone.answered
    assert alone.complete
    assert alone.evidence(GPU_LOST, NOW) is ACTIVE
    assert alone.evidence(RESOLVED, NOW) is OVER
    assert list(alone.active()) == []
    assert list(alone.withheld()) == []
    assert alone.confirmed(GPU_LOST)
    muted = states(None, lambda: NOW, given=window())
    assert muted.evidence(GPU_LOST, NOW).standing is AlertStatus.WITHHELD


def test_what_people_wrote_is_one_line_of_bounded_length(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST, silenced_by=("s" * 100,))
    asked.fake.known = {"s" * 100: Silence("", "\x1b[2J" + "x" * 500, 1e18)}
    found = asked.evidence()
    assert "(empty) silenced the alert until" in found.text
    assert "\x1b" not in found.text
    assert len(found.text) < 300
    assert found.group == "silence/" + "s" * 40


@given(
    watchdog=st.booleans(), age=st.floats(0, 1000), received=st.floats(0, 1000), error=st.booleans(),
    withheld=st.sampled_from(["", "silenced_by", "inhibited_by", "muted_by"]), listed=st.booleans(),
)  # fmt: skip
def test_over_means_a_complete_settled_answer_that_does_not_hold_it(
    watchdog: bool, age: float, received: float, error: bool, withheld: str, listed: bool
) -> None:
    asked = Asked()
    asked.fake.started = NOW - age
    asked.fake.error = "gone" if error else ""
    if listed:
        asked.fake.lists(GPU_LOST, **({withheld: ("x",)} if withheld else {}))
    if not watchdog:
        asked.fake.forgets(WATCHDOG)
    found = asked.evidence(received=NOW - received)
    may_be_over = watchdog and not error and not listed and age >= 180.0 and received > 60.0
    assert (found.standing is AlertStatus.OVER) is may_be_over
    assert (found.standing is AlertStatus.ACTIVE) is (listed and not withheld and not error)
    assert (found.standing is AlertStatus.WITHHELD) is (listed and bool(withheld) and not error)


def test_a_fingerprint_that_belongs_to_another_alert_confirms_nothing(asked: Asked) -> None:
    asked.fake.lists(GPU_LOST)
    other = replace(GPU_LOST, labels={**GPU_LOST.labels, "node": "node9"})
    asyncio.run(asked.states.refresh(0.0))
    assert asked.states.evidence(GPU_LOST, NOW) is ACTIVE
    assert asked.states.evidence(other, NOW).standing is AlertStatus.UNKNOWN
    assert not asked.states.confirmed(other)


@pytest.mark.parametrize(("lasts", "counts"), [(240.0, True), (3600.0, False)])
def test_a_watchdog_that_lasts_longer_than_prometheus_lets_it_is_not_from_prometheus(
    asked: Asked, lasts: float, counts: bool
) -> None:
    """Somebody posted it by hand, and it would stop all alerts from counting as over."""
    other = replace(WATCHDOG, fingerprint="f0", labels={**WATCHDOG.labels, "prometheus": "old"})
    asked.fake.listed["f0"] = ListedAlert(other, NOW - 150, NOW - 150 + lasts)
    found = asked.evidence(GPU_LOST).standing
    assert found is (AlertStatus.UNKNOWN if counts else AlertStatus.OVER)


def test_an_answer_stays_complete_until_the_next_question_is_due(asked: Asked) -> None:
    """The Watchdog of an answer is as old as the answer; an idle remediator asks only every 30 seconds."""
    asked.fake.listed[WATCHDOG.fingerprint] = ListedAlert(WATCHDOG, NOW - 100)
    assert asked.ask().complete
    asked.at, asked.steady = NOW + 59, asked.steady + 59
    assert asked.states.complete
    asked.at, asked.steady = NOW + 62, asked.steady + 3
    assert not asked.states.complete


def test_a_prometheus_that_stops_sending_ends_no_alert(asked: Asked) -> None:
    """Alerts of fast rules expire in Alertmanager before the Watchdog does."""
    asked.fake.listed[WATCHDOG.fingerprint] = ListedAlert(WATCHDOG, NOW - 0.79 * 180)
    assert asked.evidence(GPU_LOST).standing is AlertStatus.OVER
    assert asked.states.complete
    asked.fake.listed[WATCHDOG.fingerprint] = ListedAlert(WATCHDOG, NOW - 0.81 * 180)
    assert asked.evidence(GPU_LOST).standing is AlertStatus.UNKNOWN
    assert asked.evidence(RESOLVED).standing is AlertStatus.UNKNOWN
    assert not asked.states.complete
    asked.fake.lists(GPU_LOST)
    assert asked.evidence(GPU_LOST) is ACTIVE, "an alert in an answer is active at once"
