"""The stories that raise every alert, on real exporters and real programs; but for those that take longest,
which `make scenarios` tells."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from every_alert.fleet import running
from every_alert.index import STORIES, factors
from every_alert.pictures import empty
from every_alert.run import explain, run

pytestmark = pytest.mark.integration
QUICK = tuple(story for story in STORIES if not story.slow)
# True of a machine that is too busy for scrapes and evaluations a second or two apart.
BUSY = {
    "DetectorModelStale", "ExporterDataStale", "GpuHung", "InferenceLatencyHigh", "InferenceOverProvisioned",
    "InferenceQueueGrowing", "NodeDown", "NodeMassOutage", "PrometheusRuleGroupSlow", "TargetDown",
    "TrainingStalled",
}  # fmt: skip
PATIENCE = 400.0
# Queries of the dashboards that have no series on this fleet, and the test in which they have.
ELSEWHERE = {
    "fleetmedic-anomalies: Anomaly scores and thresholds, A": "test_dashboard_pages: detectors with a day of history",
    "fleetmedic-anomalies: Anomaly scores and thresholds, B": "test_dashboard_pages: detectors with a day of history",
    "fleetmedic-anomalies: SM clock deviation from job peers, A": "test_dashboard_pages: detectors with a day of history",
    "fleetmedic-anomalies: Anomaly alerts over time, A": "test_demo: a slow GPU is found by its peers",
    "fleetmedic-remediation: Guard holds by reason, A": "test_dashboard_pages: a second lost GPU is too many",
}


def test_a_fleet_that_is_well_is_quiet_and_every_story_raises_its_alerts(
    parts: dict[str, Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    for name in ("prometheus", "promtool", "alertmanager"):
        assert parts[name]
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS"):
            pytest.fail("there is no C compiler for the stand-in of two system calls: install gcc")
        pytest.skip("there is no C compiler for the stand-in of two system calls")
    with running(tmp_path, factors(QUICK)) as fleet:
        outcome = run(fleet, QUICK, PATIENCE, print)
        for line in explain(fleet, QUICK, outcome):
            print(line)
        silent = empty(fleet, outcome.seconds)
    record_property("seconds", outcome.took)
    assert outcome.missing == {}
    assert {name: expr for name, expr in silent.items() if name not in ELSEWHERE} == {}
    assert fleet.broken == []
    firing = [names for state, names in outcome.well.items() if "firing" in state]
    loud = {each.split()[0] for names in firing for each in names}
    assert loud - BUSY == set(), outcome.well
