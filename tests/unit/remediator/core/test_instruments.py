from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.instruments import EVENTS, LOST_OR_HUNG, Instrument, instrument, signals

RULES = Path(__file__).parents[4] / "rules" / "static"
OF_EXPORTER = (
    "NodeDown", "NodeExporterDown", "NodeMassOutage", "ExporterDataStale", "ExporterCollectorFailing",
    "ExporterAllocationUnknown", "GpuCountMismatch", "TargetDown",
)  # fmt: skip
NAMES = (
    *OF_EXPORTER,
    "GpuLost",
    "GpuHung",
    "GpuXidFatalHardware",
    "GpuPeerOutlier",
    "TrainingStalled",
    "X",
)
alerts = st.lists(st.sampled_from(NAMES), max_size=6)


def shipped() -> set[str]:
    """The names of every alert that the shipped rules raise."""
    return {
        rule["alert"]
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NodeDown", Instrument.EXPORTER),
        ("ExporterOfTomorrow", Instrument.EXPORTER),
        ("GpuCountMismatch", Instrument.EXPORTER),
        ("GpuXidFatalHardware", Instrument.KERNEL_LOG),
        ("NodeOomKill", Instrument.KERNEL_LOG),
        ("GpuPeerOutlier", Instrument.PEERS),
        ("TrainingStraggler", Instrument.PEERS),
        ("GpuLost", Instrument.DRIVER),
        ("GpuEccUncorrectable", Instrument.DRIVER),
        ("NodeMemoryPressure", Instrument.NODE),
        ("TrainingStalled", Instrument.JOB),
        ("InferenceQueueGrowing", Instrument.JOB),
        ("MyOwnAlert", Instrument.UNLISTED),
        ("", Instrument.UNLISTED),
    ],
)
def test_an_alert_is_read_from_one_instrument(name: str, expected: Instrument) -> None:
    assert instrument(name) is expected


def test_one_dead_exporter_is_one_signal_however_it_shows() -> None:
    assert len(signals(OF_EXPORTER, identified=True)) == 1
    assert len(signals(OF_EXPORTER, identified=False)) == 1


def test_driver_and_kernel_log_are_two_signals_only_of_identified_hardware() -> None:
    pair = ("GpuLost", "GpuXidFatalHardware")
    assert len(signals(pair, identified=True)) == 2
    assert signals(pair, identified=False) == {"the GPU's driver"}
    assert len(signals((*pair, "GpuPeerOutlier"), identified=False)) == 1
    assert signals(("GpuXidFatalHardware",), identified=False) == {"the GPU's driver"}


def test_other_instruments_count_beside_an_unidentified_gpu() -> None:
    found = signals(("GpuLost", "GpuPeerOutlier", "NodeDown", "TrainingStalled"), identified=False)
    assert found == {"the GPU's driver", "an unavailable exporter", "the job"}


def test_two_alerts_of_one_instrument_are_one_signal() -> None:
    assert len(signals(("GpuLost", "GpuHung"), identified=True)) == 1


@given(alerts, alerts, st.booleans())
def test_more_alerts_are_never_fewer_signals(some, more, identified) -> None:
    fewer = signals(some, identified=identified)
    assert fewer <= signals(some + more, identified=identified)


@given(alerts)
def test_identification_never_takes_a_signal_away(some) -> None:
    assert len(signals(some, identified=False)) <= len(signals(some, identified=True))
    assert bool(signals(some, identified=False)) is bool(some)


def test_every_name_in_the_tables_is_an_alert_that_is_shipped() -> None:
    assert not EVENTS.union(*LOST_OR_HUNG.values()) - shipped()


def test_what_is_lost_or_hung_is_a_state_and_no_event() -> None:
    assert not frozenset().union(*LOST_OR_HUNG.values()) & EVENTS
