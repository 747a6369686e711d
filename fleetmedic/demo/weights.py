"""Whether the training jobs came through unharmed: their final weights, and how much work was lost."""

from __future__ import annotations

import json
from pathlib import Path

from fleetmedic.demo.timeline import Check
from fleetmedic.localcluster.client import LocalCluster


def training_checks(
    state: Path, cluster: LocalCluster, jobs: tuple[str, ...], seed: int, steps: int, every: int
) -> list[Check]:
    """One check a job: it ended, with the weights of an undisturbed run, losing one interval at most."""
    from fleetmedic.demo.training import undisturbed  # brings numpy: only when it is needed

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
        verdict = "equal those" if same else "DIFFER from those"
        text = f"after {final['restarts']} restart(s) its final weights {verdict} of an undisturbed run"
        checks.append(Check(f"{job_id}: same weights", kept=same, text=text))
        lost = max(final["done_twice"], default=0)
        text = f"at most {lost} steps were done twice; the checkpoint interval is {every}"
        checks.append(Check(f"{job_id}: work kept", kept=lost <= every, text=text))
    return checks
