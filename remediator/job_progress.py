"""Judge alerts by the steps that jobs complete: a job that completes steps refutes alerts on its hardware."""

from __future__ import annotations

from collections.abc import Sequence

from remediator.clusters.base import JobFacts
from remediator.core.facts import Facts
from remediator.core.instruments import LOST_OR_HUNG
from remediator.core.model import Incident, Playbook
from remediator.core.reasons import Reason
from remediator.core.storm import stalled_together
from remediator.job_failures import ends_jobs
from remediator.sensors import Sensors

# The job of a lost or hung GPU completes no step, so a step this long (seconds) after the alert's start refutes
# these alerts.
REFUTABLE = frozenset({"GpuLost", "GpuHung"})
STEP_MARGIN = 1.0


async def refuted_alerts(
    sensors: Sensors, incident: Incident, names: frozenset[str], jobs: tuple[JobFacts, ...]
) -> frozenset[str]:
    """Return alerts that report a GPU as lost or hung, if all its jobs have completed a step since then."""
    refutable = names & REFUTABLE
    running = [job.job_id for job in jobs if job.running]
    if not refutable or not running:
        return frozenset()
    began = max(one.starts_at for one in incident.alerts if one.alertname in refutable)
    return refutable if await _stepped_since(sensors, running, began) else frozenset()


async def is_dead(
    sensors: Sensors, incident: Incident, facts: Facts, names: frozenset[str]
) -> bool:
    """Return whether the target is certainly lost or hung: by two signals, or by one signal while its
    jobs make no progress."""
    gone = LOST_OR_HUNG.get(incident.target.kind, frozenset())
    if not names & gone or not facts.identity.confirmed:
        return False
    if len(facts.witnesses) >= 2:
        return True
    running = [job.job_id for job in facts.jobs if job.running]
    if not facts.jobs or not running:
        return bool(facts.jobs)
    # Queried only for incidents that wait for budget, so that a slow Prometheus delays no other quarantine.
    if incident.held not in (Reason.BUDGET_OUT, Reason.BUDGET_NEW):
        return False
    return await sensors.stalled(running)


async def stalled_jobs(sensors: Sensors, incident: Incident, playbook: Playbook) -> str:
    """Return why the running job of an incident must not be restarted; empty if it may be.

    The job has completed a step since its alert began, or so many jobs are stalled at the same time that a
    shared cause is likely. A job that fails repeatedly completes steps between its failures.
    """
    began = max((one.starts_at for one in incident.alerts), default=0.0)
    if not ends_jobs(playbook) and await _stepped_since(sensors, [incident.target.name], began):
        return (
            f"{incident.target} has completed a step since its alert began, so it is not restarted."
        )
    found = await sensors.stalled_share()
    return stalled_together(*found) if found else ""


async def _stepped_since(sensors: Sensors, jobs: Sequence[str], began: float) -> bool:
    """Return whether each of these jobs has completed a step since an alert began (Unix seconds)."""
    step = await sensors.last_step(jobs)
    return step is not None and step > began + STEP_MARGIN
