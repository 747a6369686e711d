"""A table of late calls and the GPUs that cause them."""

import pytest

from exporter.reading.heartbeat import Beat
from exporter.reading.liveness import Liveness, check_liveness, next_check_at
from exporter.reading.liveness import is_fast as fast
from exporter.reading.protocol import GroupReadings, Present
from exporter.sources.base import Group

FINE, OVERDUE, HOGGED = Liveness.FINE, Liveness.OVERDUE, Liveness.HOGGED
UNCONNECTED, SILENT = Liveness.UNCONNECTED, Liveness.SILENT


@pytest.mark.parametrize(
    ("slot", "group", "since", "waited", "state", "patient", "finding"),
    [
        (3, "presence", 0.7, 0.7, "S", False, FINE),
        (3, "presence", 0.9, 0.9, "S", False, OVERDUE),
        (3, "load", 0.9, 0.9, "D", False, OVERDUE),
        (3, "load", 1.4, 0.1, "S", False, FINE),
        (3, "load", 1.6, 0.1, "S", False, HOGGED),
        (3, "presence", 3.1, 3.1, "R", False, FINE),
        (3, "presence", 3.3, 3.3, "R", False, OVERDUE),
        (3, "presence", 4.0, 4.0, "S", True, FINE),
        (3, "load", 60.0, 4.0, "S", True, FINE),
        (3, "load", 60.0, 5.1, "S", True, OVERDUE),
        (3, "identify", 1.9, 1.9, "S", False, FINE),
        (3, "identify", 2.1, 2.1, "S", False, OVERDUE),
        (None, "open", 14.9, 14.9, "S", False, FINE),
        (None, "open", 15.1, 15.1, "S", False, UNCONNECTED),
        (None, "open", 15.1, 15.1, "S", True, UNCONNECTED),
        (None, None, 9.9, 9.9, "S", False, FINE),
        (None, None, 10.1, 10.1, "S", False, SILENT),
        (3, "load", 9.9, 9.9, "T", False, FINE),
        (3, "load", 10.1, 10.1, "T", False, SILENT),
    ],
)
def test_what_a_look_finds(
    slot: int | None, group: Group | None, since: float, waited: float, state: str, patient: bool,
    finding: Liveness,
) -> None:  # fmt: skip
    beat = Beat(7, 100.0 - since, 100.0 - waited, slot, group)
    assert check_liveness(beat, 100.0, state, patient=patient) is finding
    if finding is not FINE and state == "S":
        assert next_check_at(beat, patient=patient) <= 100.0


@pytest.mark.parametrize(
    ("message", "is_fast"),
    [
        (Present(1, 0.1), True),
        (Present(1, 0.5), False),
        (GroupReadings(1, "load", 0.0, (), slowest=0.1, took=0.2), True),
        (GroupReadings(1, "load", 0.0, (), slowest=0.5, took=0.5), False),
        (GroupReadings(1, "load", 0.0, (), slowest=0.1, took=2.0), False),
    ],
)
def test_fast_again_is_well_below_slow(message: Present | GroupReadings, is_fast: bool) -> None:
    assert fast(message) is is_fast
