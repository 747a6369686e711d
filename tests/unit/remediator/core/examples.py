"""Example targets, jobs and playbooks for the tests of decisions."""

from __future__ import annotations

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core.facts import TargetJob
from remediator.core.model import FaultClass, JobsPlan, Level, Playbook, ScalePlan

NOW = 1_700_000_000.0
GPU, NODE = Target(TargetKind.GPU, "node2", 3), Target(TargetKind.NODE, "node2")
SERVE, TRAIN = Target(TargetKind.WORKLOAD, "serve"), Target(TargetKind.JOB, "train-a")
DEAD, RUNNING = (TargetJob("train-a", False),), (TargetJob("train-a", True),)
OURS = {"node_quarantine_owner": "fleetmedic"}
FEW = {"witnesses": frozenset({"one"})}
JOB = Playbook(
    "job-stalled", (), (), TargetKind.JOB, FaultClass.SERVICE, Level.DRAIN,
    jobs=JobsPlan(False, True, 10.0, 60.0, 2, 3600.0),
)  # fmt: skip
SCALE = Playbook(
    "scale-out", (), (), TargetKind.WORKLOAD, FaultClass.SERVICE, Level.REPAIR,
    scale=ScalePlan(1, 4.0, 60.0, 3),
)  # fmt: skip
