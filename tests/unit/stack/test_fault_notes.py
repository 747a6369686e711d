"""A fault that raises no alert is announced as such, by the values in the rules."""

from __future__ import annotations

import re

import pytest

from fleetmedic.hardware import faults
from fleetmedic.kernel.share import share
from fleetmedic.stack import fault_notes
from fleetmedic.stack.fault_notes import speed_note, xid_note
from rules import rulefile
from rules.detectors.peer_band import MIN_GAP


def expressions() -> dict[str, str]:
    """The expression of each shipped rule about XIDs, by its name."""
    found = {}
    for name in ("gpu.yml", "gpu-health.yml"):
        path = share("rules/static") / name
        for group in rulefile.parse(path.read_text(), path).groups:
            found |= {rule.name: rule.expr for rule in group.rules if "xid" in rule.expr}
    return found


def codes(text: str) -> list[frozenset[int]]:
    return [frozenset(map(int, one.split("|"))) for one in re.findall(r'xid=~?"([0-9|]+)"', text)]


def test_the_values_are_those_of_the_rules() -> None:
    found = expressions()
    fatal = codes(found["GpuXidFatalHardware"])
    assert fatal == [fault_notes.FATAL_XIDS, fault_notes.TEXT_XIDS]
    assert codes(found["GpuXidContained"]) == [fault_notes.CONTAINED_XIDS]
    application = codes(found["gpu:gpu_xid_errors_application:sum"])
    assert application == [fault_notes.APPLICATION_XIDS]
    assert found["GpuXidApplicationRepeated"].endswith(f"> {fault_notes.APPLICATION_COUNT}")
    assert found["GpuXidStorm"].endswith("(rate(gpu_xid_events_total[5m])) > 1")
    assert fault_notes.STORM_COUNT == 5 * 60
    assert fault_notes.LEAST_GAP == MIN_GAP


def test_no_other_rule_selects_xids() -> None:
    selecting = {name for name, expr in expressions().items() if codes(expr)}
    assert selecting == {
        "GpuXidFatalHardware", "GpuXidContained", "gpu:gpu_xid_errors_application:sum",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("xid", "count", "quiet"),
    [(31, 1, True), (31, 5, True), (31, 6, False), (999, 1, True), (144, 1, True), (79, 1, False), (94, 1, False),
     (999, 301, False)],
)  # fmt: skip
def test_an_xid_without_an_alert_is_announced(xid: int, count: int, quiet: bool) -> None:
    assert bool(xid_note(xid, count)) is quiet


def test_the_suggested_values_raise_an_alert() -> None:
    suggested = re.findall(r"--count (\d+)|--xid (\d+)", xid_note(31, 1))
    assert suggested == [("6", ""), ("", "79")]
    assert xid_note(31, 6) == xid_note(79, 1) == ""
    assert speed_note(float(speed_note(0.99).partition("--speed ")[2].split()[0])) == ""
    assert speed_note(0.75) == "", "the default"


def test_the_catalogue_of_faults_still_has_the_parameters() -> None:
    assert {one for fault in faults.FAULTS for one in fault.parameters} >= {"xid", "count", "speed"}
