"""A seed decides everything, and stays within what the stack can show."""

from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.demo.scenario import APPLICATION_XIDS, plan


@given(st.integers(0, 2**31 - 1))
def test_the_same_seed_plans_the_same_demo_within_bounds(seed: int) -> None:
    scenario = plan(seed)
    assert scenario == plan(seed)
    assert 0 <= scenario.lost_rank < 4
    assert 0 <= scenario.slow_rank < 4
    assert 0 <= scenario.xid_gpu < 8
    assert scenario.xid in APPLICATION_XIDS
    assert scenario.xid_count > 5, "fewer would not raise the alert"
    assert scenario.speed <= 0.85, "a smaller gap is below the detector's 10 % and the noise"


def test_other_seeds_plan_other_demos() -> None:
    assert len({plan(seed) for seed in range(50)}) == 50
