"""Independent signals are counted by the instruments that alerts declare, and never by their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.instruments import UNKNOWN_SOURCE, Instrument
from remediator.core.instruments import adds_signal, signals
from remediator.core.model import Episode
from tests.unit.remediator.shipped_alerts import instruments

OF_EXPORTER = (
    "NodeDown", "NodeExporterDown", "NodeMassOutage", "ExporterDataStale", "ExporterCollectorFailing",
    "ExporterAllocationUnknown", "GpuCountMismatch", "TargetDown",
)  # fmt: skip
alerts = st.lists(st.sampled_from([*Instrument, "", "guess"]), max_size=6)


def _of(*labels: str) -> tuple[Episode, ...]:
    """One alert for each label, all with the same name."""
    return tuple(
        Episode(f"a/{n}/1", str(n), 1.0, "x", "A", "", "", label) for n, label in enumerate(labels)
    )


def _shipped(*names: str) -> tuple[Episode, ...]:
    return _of(*(instruments()[name] for name in names))


def test_one_dead_exporter_is_one_signal_however_it_shows() -> None:
    assert signals(_shipped(*OF_EXPORTER), identified=True) == {"an unavailable exporter"}
    assert len(signals(_shipped(*OF_EXPORTER), identified=False)) == 1


def test_driver_and_kernel_log_are_two_signals_only_of_identified_hardware() -> None:
    pair = _shipped("GpuLost", "GpuXidFatalHardware")
    assert len(signals(pair, identified=True)) == 2
    assert signals(pair, identified=False) == {"the GPU's driver"}
    assert len(signals((*pair, *_shipped("GpuPeerOutlier")), identified=False)) == 1
    assert signals(_of("kernel_log"), identified=False) == {"the GPU's driver"}


def test_other_instruments_count_beside_an_unidentified_gpu() -> None:
    found = signals(_of("driver", "peers", "liveness", "job"), identified=False)
    assert found == {"the GPU's driver", "an unavailable exporter", "the job"}


def test_two_alerts_of_one_instrument_are_one_signal() -> None:
    assert len(signals(_shipped("GpuLost", "GpuHung"), identified=True)) == 1


def test_alerts_without_a_valid_label_are_together_one_signal() -> None:
    assert signals(_of("", "guess", ""), identified=True) == {UNKNOWN_SOURCE}
    assert signals(_of(""), identified=False) == {UNKNOWN_SOURCE}


@pytest.mark.parametrize("label", ["driver", "liveness"])
def test_an_unknown_source_is_not_independent_of_a_declared_one(label: str) -> None:
    """While rules are upgraded, one fault fires with the label and without the label."""
    assert signals(_of("", label), identified=True) == signals(_of(label), identified=True)


@pytest.mark.parametrize(
    ("known", "further", "expected"),
    [
        (("driver",), (), False),
        (("driver",), ("driver", ""), False),
        (("driver",), ("kernel_log",), True),
        (("liveness",), ("staleness",), False),
        (("",), ("driver",), False),
    ],
)
def test_only_an_alert_of_another_source_is_an_additional_signal(known, further, expected) -> None:
    assert adds_signal(_of(*known), _of(*further)) is expected


@given(alerts, alerts, st.booleans())
def test_more_alerts_are_never_fewer_signals(some, more, identified) -> None:
    fewer = signals(_of(*some), identified=identified)
    assert len(fewer) <= len(signals(_of(*some, *more), identified=identified))


@given(alerts)
def test_identification_never_takes_a_signal_away(some) -> None:
    found = signals(_of(*some), identified=False)
    assert len(found) <= len(signals(_of(*some), identified=True))
    assert bool(found) is bool(some)
