"""The declared instruments, their sources, and the faults that they share."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from fleetmedic.alerting.instruments import (
    OF_ONE_EXPORTER,
    SOURCES,
    UNKNOWN_SOURCE,
    Instrument,
    source,
)


def test_each_instrument_has_a_source_in_words() -> None:
    assert set(SOURCES) == set(Instrument)
    assert UNKNOWN_SOURCE not in SOURCES.values()
    assert all(text and not text.endswith(".") for text in SOURCES.values())


def test_liveness_staleness_and_collectors_of_one_exporter_share_a_fault_and_no_others_do() -> None:
    shared = {pair for pair in combinations(Instrument, 2) if SOURCES[pair[0]] == SOURCES[pair[1]]}
    of_exporter = (Instrument.LIVENESS, Instrument.STALENESS, Instrument.EXPORTER)
    assert shared == set(combinations(of_exporter, 2))
    assert not OF_ONE_EXPORTER & set(of_exporter)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("driver", "the GPU's driver"),
        ("staleness", "an unavailable exporter"),
        ("", UNKNOWN_SOURCE),
        ("DRIVER", UNKNOWN_SOURCE),
        ("tea leaves", UNKNOWN_SOURCE),
    ],
)
def test_a_label_names_its_source(label: str, expected: str) -> None:
    assert source(label) == expected


def test_the_documentation_lists_each_instrument_with_its_source() -> None:
    page = (Path(__file__).parents[3] / "docs" / "remediator.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    assert {(one, text) for one, text in rows if one in set(Instrument)} == set(SOURCES.items())
