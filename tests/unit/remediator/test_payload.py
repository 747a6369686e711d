"""What a webhook may hold: everything else is refused with its place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from fleetmedic.kernel.errors import UserError
from remediator import payload
from remediator.admission import RefusedError
from remediator.payload import (
    EARLIEST_START,
    MAX_BODY,
    MAX_LABEL,
    MAX_LABELS,
    START_AHEAD,
    body_of,
    read_webhook,
)

NOW = 1_795_000_000.0


def _body(*alerts: dict[str, Any], **more: Any) -> bytes:
    one = {"status": "firing", "labels": {}, "startsAt": _text(NOW), "fingerprint": "ab12"}
    return json.dumps({"alerts": [one | changes for changes in alerts]} | more).encode()


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", _text(NOW + START_AHEAD + 1),
    ],
)  # fmt: skip
def test_a_start_that_no_clock_shows_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UserError, match=r"^body: at \$\.alerts\[1\]\.startsAt: "):
        read_webhook(_body({}, {"startsAt": text}), NOW)


@given(st.floats(EARLIEST_START, NOW + START_AHEAD))
def test_a_start_up_to_a_day_ahead_is_taken_as_it_is(at: float) -> None:
    (alert,) = read_webhook(_body({"startsAt": _text(at)}), NOW).alerts
    assert abs(alert.starts_at - at) < 0.001


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(UserError, match=r"alerts\[0\]\.startsAt: expected an RFC 3339 time"):
        read_webhook(_body({"startsAt": "2026-11-22T21:47:28"}), NOW)


@pytest.mark.parametrize(
    "text", ["", "ab12\n", "\nab12", "a b", "../x", "ä", "\u0661", "a" * 65, "ab12\r\n"]
)
def test_a_fingerprint_is_letters_and_digits_alone(text: str) -> None:
    with pytest.raises(UserError, match=r"at \$\.alerts\[0\]\.fingerprint: "):
        read_webhook(_body({"fingerprint": text}), NOW)


def test_a_status_and_what_was_left_out_are_read() -> None:
    body = _body({}, {"status": "resolved", "odd": 1}, truncatedAlerts=2, receiver="fleetmedic")
    found = read_webhook(body, NOW)
    assert [alert.firing for alert in found.alerts] == [True, False]
    assert (found.truncated, found.receiver) == (True, "fleetmedic")
    whole = read_webhook(_body({}, truncatedAlerts=0), NOW)
    assert (whole.truncated, whole.receiver) == (False, "")


@given(st.dictionaries(st.text(max_size=2000), st.text(max_size=2000), max_size=3))
def test_labels_are_cut_and_never_refused(labels: dict[str, str]) -> None:
    (alert,) = read_webhook(_body({"labels": labels}), NOW).alerts
    assert all(len(text) <= MAX_LABEL for pair in alert.labels.items() for text in pair)


def test_of_too_many_labels_those_that_decide_are_kept() -> None:
    kept = {"node": "node1", "gpu": "3", "uuid": "GPU-1", "instrument": "driver", "stage": "notify"}
    labels = {f"a{n}": "x" for n in range(1000)} | kept
    (alert,) = read_webhook(_body({"labels": labels}), NOW).alerts
    assert len(alert.labels) == MAX_LABELS
    assert alert.labels.items() >= kept.items()


def test_as_many_labels_as_are_allowed_are_all_kept() -> None:
    labels = {f"a{n}": "x" * MAX_LABEL for n in range(MAX_LABELS)}
    (alert,) = read_webhook(_body({"labels": labels}), NOW).alerts
    assert alert.labels == labels


def _read(receive: Callable[[], Awaitable[dict[str, Any]]]) -> bytes:
    return asyncio.run(body_of(Request({"type": "http", "method": "POST"}, receive)))


def _in_parts(*parts: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    left = list(parts)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_refused() -> None:
    half = b" " * (MAX_BODY // 2)
    assert len(_read(_in_parts(half, half))) == MAX_BODY
    with pytest.raises(RefusedError) as refused:
        _read(_in_parts(half, half, b" "))
    assert refused.value.status == 413


def test_a_body_that_stalls_is_refused_after_a_while(monkeypatch) -> None:
    monkeypatch.setattr(payload, "BODY_TIMEOUT", 0.01)

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(RefusedError) as refused:
        _read(never)
    assert refused.value.status == 408


def test_a_body_whose_sender_goes_away_is_refused_whatever_came_of_it() -> None:
    parts = iter([{"type": "http.request", "body": b"{}", "more_body": True},
                  {"type": "http.disconnect"}])  # fmt: skip

    async def receive() -> dict[str, Any]:
        return next(parts)

    with pytest.raises(RefusedError) as refused:
        _read(receive)
    assert refused.value.status == 400


def _error(body: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read_webhook(body, NOW)
    return str(caught.value)


def test_a_start_too_far_ahead_names_the_limit_and_the_clock_of_this_machine() -> None:
    said = _error(_body({"startsAt": _text(NOW + START_AHEAD + 3600)}))
    assert (
        "from the year 2000 to 24 h after now (2026-11-18T11:06:40Z on this machine), got" in said
    )
    assert "2026-11-19T12:06:40" in said


@pytest.mark.parametrize("fingerprint", ["", "a" * 65, "a/b", "a\n", "\u0663", "../x"])
def test_a_fingerprint_is_described_in_words(fingerprint: str) -> None:
    said = _error(_body({}, {"fingerprint": fingerprint}))
    assert said.startswith(
        "body: at $.alerts[1].fingerprint: expected 1 to 64 letters and digits, got "
    )
    assert "regex" not in said


def test_a_negative_number_of_truncated_alerts_is_refused() -> None:
    assert "at $.truncatedAlerts: expected `int` >= 0" in _error(_body({}, truncatedAlerts=-5))


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"\x1f\x8b\x08\x00abc", "compressed with gzip; send it uncompressed"),
        (b"\xef\xbb\xbf" + _body({}), "byte order mark; send UTF-8 without it"),
        (_body({}).decode().encode("utf-16"), "byte order mark"),
        (b"", "the text is empty"), (b" \n", "the text is empty"),
        (_body(receiver="\ud800"), "\\ud800 is half of a surrogate pair"),
        (_body(receiver="x\udc00"), "\\udc00 is half of a surrogate pair"),
        (_body()[:-3], "Input data was truncated"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_is_refused_with_the_cause(body: bytes, cause: str) -> None:
    said = _error(body)
    assert said.startswith("body: at $: invalid JSON (")
    assert cause in said


def test_a_complete_surrogate_pair_is_a_character() -> None:
    assert read_webhook(_body(receiver="\U0001f600"), NOW).receiver == "\U0001f600"
