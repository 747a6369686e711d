"""Which stages allow more than a notification."""

from __future__ import annotations

import pytest

from fleetmedic.alerting.stages import Stage, may_act


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, True),
        ({"stage": ""}, True),
        ({"stage": "act"}, True),
        ({"stage": "notify"}, False),
        ({"stage": "shadow"}, False),
        ({"stage": "Act"}, False),
        ({"stage": "acts"}, False),
    ],
)
def test_only_the_stage_act_and_no_stage_allow_actions(
    labels: dict[str, str], expected: bool
) -> None:
    assert may_act(labels) is expected


def test_one_stage_acts() -> None:
    assert [stage for stage in Stage if may_act({"stage": stage})] == [Stage.ACT]
