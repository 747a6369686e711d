"""An error names the key of a mapping, in files and in JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.settings import Notifications
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import convert, parse_json


class Alert(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}
    deep: dict[str, dict[str, int]] = {}


class Payload(msgspec.Struct, frozen=True):
    alerts: list[Alert] = []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"alerts": [{}, {"labels": {"a": "b", "job": 5}}]}, "x: at $.alerts[1].labels.job: expected `str`, got `int`."),
        ({"alerts": [{"labels": {"a b": 5}}, {"labels": 3}]}, 'x: at $.alerts[0].labels["a b"]: expected `str`, got `int`.'),
        ({"alerts": [{"deep": {"a": {"b": 1}, "c": {"d": 2, "e": "f"}}}]}, "x: at $.alerts[0].deep.c.e: expected `int`, got `str`."),
        ({"alerts": [{"deep": {"a": 1}}]}, "x: at $.alerts[0].deep.a: expected `object`, got `int`."),
    ],
)  # fmt: skip
def test_the_key_is_named(value: dict[str, Any], said: str) -> None:
    for read in (
        lambda: convert(value, Payload, "x"),
        lambda: parse_json(msgspec.json.encode(value), Payload, "x"),
    ):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == said


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=3), max_size=6), st.text(max_size=100))
def test_any_key_is_named_in_one_line(good: dict[str, str], bad: str) -> None:
    with pytest.raises(UserError) as caught:
        convert({"alerts": [{"labels": {**good, bad: None}}]}, Payload, "x")
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith("x: at $.alerts[0].labels")
    assert bad == "[...]" or "[...]" not in text


def test_json_that_breaks_off_after_the_error_keeps_the_path_of_msgspec() -> None:
    with pytest.raises(UserError, match=r"at \$\.alerts\[0\]\.labels\[\.\.\.\]: expected"):
        parse_json(b'{"alerts": [{"labels": {"a": 1', Payload, "x")


def test_an_unknown_kind_of_channel_is_followed_by_the_known_ones() -> None:
    value = {"channels": {"ops": {"kind": "fax"}}, "teams": []}
    with pytest.raises(UserError) as caught:
        convert(value, Notifications, "notifications.yml")
    assert str(caught.value) == (
        "notifications.yml: at $.channels.ops.kind: invalid value 'fax'; "
        "expected one of: email, slack, teams, pagerduty, wechat, http."
    )
