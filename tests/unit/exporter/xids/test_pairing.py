"""An event reported by two sources counts once, and identical repeats count exactly."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.xids.pairing import WINDOW_SECONDS, WITNESSES, Pairs, Witness

Reports = list[tuple[float, Witness]]
WITHIN = st.lists(
    st.tuples(st.floats(0, WINDOW_SECONDS), st.sampled_from(WITNESSES)), max_size=60
)  # fmt: skip


def counted(reports: Reports, what: str = "GPU-a 79") -> int:
    pairs = Pairs({})
    return sum(pairs.counts(what, witness, at) for at, witness in reports)


@given(WITHIN)
def test_within_the_window_as_many_count_as_the_witness_that_saw_more_tells(
    reports: Reports,
) -> None:
    told = [witness for _, witness in reports]
    assert counted(reports) == max(told.count("kernel"), told.count("nvml"))


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(-4.8, 4.8)), max_size=50),
)
def test_each_event_told_by_both_within_the_window_counts_once(
    events: list[tuple[float, float]],
) -> None:
    reports: Reports = []
    for at, late in events:
        reports += [(at, "kernel"), (at + late, "nvml")]
    assert counted(sorted(reports)) == len(events)


@given(st.lists(st.tuples(st.floats(0, 300), st.sampled_from(WITNESSES)), max_size=60))
def test_nothing_is_lost_and_nothing_counts_more_than_it_was_told(reports: Reports) -> None:
    told = [witness for _, witness in reports]
    both = max(told.count("kernel"), told.count("nvml"))
    assert both <= counted(sorted(reports)) <= len(reports)


@given(WITHIN, st.integers(0, 60))
def test_what_waits_can_be_stored_and_taken_up_again(reports: Reports, cut: int) -> None:
    first = Pairs({})
    count = sum(first.counts("x", witness, at) for at, witness in reports[:cut])
    first.forget(WINDOW_SECONDS)
    second = Pairs(first.open)
    count += sum(second.counts("x", witness, at) for at, witness in reports[cut:])
    assert count == counted(reports)


def test_other_gpus_and_codes_are_no_pair() -> None:
    pairs = Pairs({})
    assert pairs.counts("GPU-a 79", "kernel", 1.0)
    assert pairs.counts("GPU-b 79", "nvml", 1.0)
    assert pairs.counts("GPU-a 31", "nvml", 1.0)
    assert not pairs.counts("GPU-a 79", "nvml", 1.0)


def test_reports_too_far_apart_are_two_events() -> None:
    assert counted([(0.0, "kernel"), (5.1, "nvml")]) == 2
    assert counted([(0.0, "nvml"), (4.9, "kernel")]) == 1


def test_a_storm_waits_in_little_room_and_is_forgotten() -> None:
    pairs = Pairs({})
    for number in range(20_000):
        pairs.counts("x", "kernel", number / 1000)
        if number % 1000 == 0:
            pairs.forget(number / 1000)
    assert len(pairs.open["x"]["kernel"]) < 150
    pairs.forget(100.0)
    assert pairs.open == {}
