"""Judge alerts by the steps that jobs complete: a job that completes steps refutes alerts on its hardware."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fleetmedic.alerting.reports import AlertReport
from fleetmedic.kernel.labels import TargetKind
from remediator.clusters.base import JobFacts
from remediator.core.facts import Facts
from remediator.core.model import Episode, Incident, Playbook
from remediator.core.reasons import Reason
from remediator.core.storm import stalled_together
from remediator.sensors import Sensors

# The job of a lost GPU completes no step, so a step this long (seconds) after the alert's start refutes the
# alert.
STEP_MARGIN = 1.0


async def refuted_alerts(
    sensors: Sensors,
    incident: Incident,
    alerts: Collection[Episode],
    jobs: tuple[JobFacts, ...],
) -> tuple[Episode, ...]:
    """Return the alerts that report the loss of a GPU, if all its jobs have completed a step since then."""
    refutable = tuple(one for one in alerts if _reports_lost_gpu(one))
    running = [job.job_id for job in jobs if job.running]
    if not refutable or not running:
        return ()
    began = max(one.starts_at for one in incident.alerts if _reports_lost_gpu(one))
    return refutable if await _stepped_since(sensors, running, began) else ()


async def is_dead(
    sensors: Sensors, incident: Incident, facts: Facts, alerts: Collection[Episode]
) -> bool:
    """Return whether the target certainly does not work at all: by two signals, or by one signal while its
    jobs make no progress."""
    # The loss of a GPU is not the loss of its node, whose other GPUs still work.
    whole = incident.target.kind is not TargetKind.GPU
    lost = any(one.report is AlertReport.LOSS and whole is not bool(one.gpu) for one in alerts)
    if not lost or not facts.identity.confirmed:
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
    if not playbook.ends_jobs and await _stepped_since(sensors, [incident.target.name], began):
        return (
            f"{incident.target} has completed a step since its alert began, so it is not restarted."
        )
    found = await sensors.stalled_share()
    return stalled_together(*found) if found else ""


def _reports_lost_gpu(alert: Episode) -> bool:
    return alert.report is AlertReport.LOSS and bool(alert.gpu)


async def _stepped_since(sensors: Sensors, jobs: Sequence[str], began: float) -> bool:
    """Return whether each of these jobs has completed a step since an alert began (Unix seconds)."""
    step = await sensors.last_step(jobs)
    return step is not None and step > began + STEP_MARGIN
