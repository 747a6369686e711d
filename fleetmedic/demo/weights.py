"""Check that the training jobs ended with the correct weights and without much lost work."""

from __future__ import annotations

import json
from pathlib import Path

from fleetmedic.demo.timeline import Check
from fleetmedic.localcluster.client import LocalCluster


def training_checks(
    state: Path, cluster: LocalCluster, jobs: tuple[str, ...], seed: int, steps: int, every: int
) -> list[Check]:
    """Return the checks of the final weights and lost work of each training job.

    A job must complete, end with the weights of an uninterrupted run, and lose at most one checkpoint interval.
    """
    from fleetmedic.demo.training import undisturbed  # imports numpy

    expected = undisturbed(seed, steps)
    checks = []
    for job_id in jobs:
        job = cluster.job(job_id)
        if job.state != "COMPLETED":
            text = f"{job_id} is {job.state}, not COMPLETED; log: {state}/logs/localcluster.log"
            checks.append(Check(f"{job_id} ends", kept=False, text=text))
            continue
        final = json.loads((job.checkpoint_dir / "final.json").read_text())
        same = final["sha256"] == expected
        verdict = "equal" if same else "DIFFER from"
        text = f"after {final['restarts']} restart(s) the weights {verdict} those of an undisturbed run"
        checks.append(Check(f"{job_id}: same weights", kept=same, text=text))
        lost = max(final["done_twice"], default=0)
        text = f"at most {lost} steps were repeated; the checkpoint interval is {every} steps"
        checks.append(Check(f"{job_id}: work kept", kept=lost <= every, text=text))
    return checks
