"""Which stages allow more than a notification."""

from __future__ import annotations

import pytest

from fleetmedic.alerting.stages import Stage, may_act


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("", True),
        ("act", True),
        ("notify", False),
        ("shadow", False),
        ("Act", False),
        ("acts", False),
    ],
)
def test_only_the_stage_act_and_no_stage_allow_actions(stage: str, expected: bool) -> None:
    assert may_act(stage) is expected


def test_one_stage_acts() -> None:
    assert [stage for stage in Stage if may_act(stage)] == [Stage.ACT]
