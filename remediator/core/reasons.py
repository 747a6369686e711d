"""The reason codes of all decisions. They are used in logs, metric labels, the journal and the docs."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reason code of a decision to act, or not to act."""

    # incoming alerts
    ALERT_RECEIVED = "alert_received"
    ALERT_RESOLVED = "alert_resolved"
    NO_PLAYBOOK = "no_playbook"
    NO_TARGET = "no_target"
    OTHER_CLUSTER = "other_cluster"
    STAGE = "stage"
    APPLICATION_ERROR = "application_error"
    DEAD_MAN_SIGNAL = "dead_man_signal"
    SPENT = "spent"
    SILENCED = "silenced"
    INHIBITED = "inhibited"
    MUTED = "muted"
    ALERT_UNCONFIRMED = "alert_unconfirmed"
    ALERT_GONE = "alert_gone"
    RESOLVED_FIRST = "resolved_first"
    # routing
    ROUTED = "routed"
    ABSORBED = "absorbed"
    WIDENED = "widened"
    # holds
    PAUSED = "paused"
    RESUMED = "resumed"
    OTHER_OWNER = "other_owner"
    BUDGET_OUT = "budget_out"
    BUDGET_NEW = "budget_new"
    COOLDOWN = "cooldown"
    DEAD_MAN = "dead_man"
    SENSORS_BLIND = "sensors_blind"
    WITNESSES = "witnesses"
    HOLD = "hold"
    LEVEL = "level"
    OBSERVE_ONLY = "observe_only"
    FACTS_UNKNOWN = "facts_unknown"
    ATTEMPTS = "attempts"
    IDENTITY = "identity"
    STORM = "storm"
    JOBS_STALLED = "jobs_stalled"
    CAUSE_UNKNOWN = "cause_unknown"
    CLOCK_JUMP = "clock_jump"
    OTHER_INSTALLATION = "other_installation"
    PINNED = "pinned"
    # progress
    STEP_ALLOWED = "step_allowed"
    EFFECT_SEEN = "effect_seen"
    EFFECT_MISSING = "effect_missing"
    STEP_REFUSED = "step_refused"
    NOTIFIED = "notified"
    QUARANTINED = "quarantined"
    SAVING = "saving"
    MOVING_JOBS = "moving_jobs"
    JOBS_MOVED = "jobs_moved"
    NO_JOBS = "no_jobs"
    REPAIR_STARTS = "repair_starts"
    REPAIRED = "repaired"
    NOTHING_TO_REPAIR = "nothing_to_repair"
    HELD_LONG = "held_long"
    RESCALED = "rescaled"
    AT_LIMIT = "at_limit"
    VERIFIED = "verified"
    NOT_HEALED = "not_healed"
    ON_PROBATION = "on_probation"
    NEW_ALERT = "new_alert"
    READMITTED = "readmitted"
    JOB_RESTARTED = "job_restarted"
    HEALTHY_IN_SERVICE = "healthy_in_service"
    DEMAND_ROSE = "demand_rose"
    AWAIT_APPROVAL = "await_approval"
    APPROVED = "approved"
    RETRIED = "retried"
    # other ends
    LADDER_EXHAUSTED = "ladder_exhausted"
    UNVERIFIABLE = "unverifiable"
    EFFECT_UNKNOWN = "effect_unknown"
    JOB_STUCK = "job_stuck"
    JOB_FAILED = "job_failed"
    QUARANTINE_FAILED = "quarantine_failed"
    RELEASE_FAILED = "release_failed"
    RELEASED_BY_OTHERS = "released_by_others"
    UNSUPPORTED = "unsupported"
    PLAYBOOK_GONE = "playbook_gone"
    UNKNOWN_JOB = "unknown_job"
    TESTED_OFTEN = "tested_often"
    REJECTED = "rejected"
    APPROVAL_EXPIRED = "approval_expired"
    LANE_FAILED = "lane_failed"
    RELEASED_BY_PERSON = "released_by_person"
    CLOSED_BY_PERSON = "closed_by_person"


SENTENCES: dict[Reason, str] = {
    Reason.ALERT_RECEIVED: "An alert is firing; the journal has recorded it.",
    Reason.ALERT_RESOLVED: "An alert is resolved. That alone does not end an incident.",
    Reason.NO_PLAYBOOK: "No playbook matches this alert.",
    Reason.NO_TARGET: "The alert's labels identify no valid target.",
    Reason.OTHER_CLUSTER: "The alert's label `cluster` is missing, or differs from `cluster.name` in remediator.yml.",
    Reason.STAGE: "The alert's label `stage` allows notifications only: the remediator takes no other action.",
    Reason.APPLICATION_ERROR: "The alert reports an application error, and the hardware is healthy: the remediator does not quarantine it.",
    Reason.SILENCED: "The alert is silenced in Alertmanager.",
    Reason.INHIBITED: "Another alert inhibits this one in Alertmanager.",
    Reason.MUTED: "An active maintenance window covers the alert.",
    Reason.ALERT_UNCONFIRMED: "Alertmanager does not confirm that the alert is active.",
    Reason.ALERT_GONE: "No alert of the incident is still active.",
    Reason.DEAD_MAN_SIGNAL: "The Watchdog alert arrived, so the alert path works. No action.",
    Reason.SPENT: "The alert began before the last repair of the target, so it opens no new incident.",
    Reason.RESOLVED_FIRST: "Every alert was resolved before the remediator did anything.",
    Reason.ROUTED: "A playbook matches the alert, and the alert's labels identify the target.",
    Reason.ABSORBED: "The alert is added to the target's open incident.",
    Reason.WIDENED: "Several GPUs of the node failed, or its exporter is down: one incident for the node replaces the incidents for its GPUs.",
    Reason.PAUSED: "The remediator is paused manually; no action starts until `fleetmedic resume`.",
    Reason.RESUMED: "The remediator was resumed manually.",
    Reason.OTHER_OWNER: "Another user or program quarantined the target; the remediator takes no action on it.",
    Reason.BUDGET_OUT: "The budget is used up: too much of the pool is already out of service.",
    Reason.BUDGET_NEW: "The remediator recently quarantined as many targets as the budget allows.",
    Reason.COOLDOWN: "The same repair ran on the target recently, and its cooldown has not ended.",
    Reason.DEAD_MAN: "No Watchdog alert is arriving, so the alerting pipeline may be broken: disruptive steps are blocked.",
    Reason.SENSORS_BLIND: "Prometheus or too many exporters of the pool do not respond: disruptive steps are blocked.",
    Reason.WITNESSES: "Too few independent signals for a disruptive step.",
    Reason.HOLD: "The disruptive step is delayed briefly, because further alerts may show that more hardware has failed.",
    Reason.LEVEL: "The configured automation level does not allow this step.",
    Reason.OBSERVE_ONLY: "The automation level is observe: the remediator records what it would do and takes no action.",
    Reason.FACTS_UNKNOWN: "The cluster did not answer, or does not know the target: no action until the cluster reports the target.",
    Reason.ATTEMPTS: "This repair was tried on the target as often as the playbook allows.",
    Reason.IDENTITY: "The alert and the cluster's inventory refer to different hardware.",
    Reason.STORM: "Too much of the pool is reported unhealthy at the same time: disruptive steps are blocked.",
    Reason.JOBS_STALLED: "Several training jobs are stalled at the same time, which suggests a shared cause: no stalled job is restarted.",
    Reason.CAUSE_UNKNOWN: "It is unknown whether the job itself causes its failures, so the remediator does not fail the job.",
    Reason.CLOCK_JUMP: "The wall clock jumped: disruptive steps are blocked for ten minutes.",
    Reason.OTHER_INSTALLATION: "This remediator does not hold the cluster's lock, so it takes no action.",
    Reason.PINNED: "An operator recently returned the target to service: the remediator will not quarantine it again for now.",
    Reason.STEP_ALLOWED: "Every guard allows the step.",
    Reason.EFFECT_SEEN: "The step is done: the cluster confirms its effect.",
    Reason.EFFECT_MISSING: "The step timed out: the cluster did not confirm its effect before the deadline.",
    Reason.STEP_REFUSED: "The cluster refused the step.",
    Reason.NOTIFIED: "A notification is recorded for the addresses in notify.webhooks. The playbook takes no further action, so the incident closes even if its alert is still firing.",
    Reason.QUARANTINED: "The target is quarantined: it gets no new jobs.",
    Reason.SAVING: "The jobs on the target are signalled to write a checkpoint before they are moved.",
    Reason.MOVING_JOBS: "The jobs on the target are restarted elsewhere.",
    Reason.JOBS_MOVED: "No job is left on the target.",
    Reason.NO_JOBS: "No job ran on the target.",
    Reason.REPAIR_STARTS: "The next step of the playbook starts.",
    Reason.REPAIRED: "The repair is done; tests must show whether the target is healthy.",
    Reason.NOTHING_TO_REPAIR: "Only one signal reported the target unhealthy, and the active test passed: no repair.",
    Reason.HELD_LONG: "The step was on hold for so long that the evidence about the target is stale: the target is tested before any repair.",
    Reason.RESCALED: "The workload was scaled.",
    Reason.AT_LIMIT: "The workload is at its size limit.",
    Reason.VERIFIED: "The active test passed, and recent metrics are healthy.",
    Reason.NOT_HEALED: "A test or recent metrics report the target as unhealthy.",
    Reason.ON_PROBATION: "The target is healthy, and stays out of service until its probation ends.",
    Reason.NEW_ALERT: "A new alert arrived during probation: the target is tested again.",
    Reason.READMITTED: "The probation has ended: the target is back in service.",
    Reason.JOB_RESTARTED: "The job was restarted. If it has a checkpoint, it continues from there.",
    Reason.HEALTHY_IN_SERVICE: "Every alert is resolved, and the metrics stayed healthy while jobs ran.",
    Reason.DEMAND_ROSE: "The demand increased during the scale-in: the remediator scales out instead.",
    Reason.AWAIT_APPROVAL: "Metrics report the target as healthy, but no test under load is possible: an operator must approve its return to service.",
    Reason.APPROVED: "An operator approved the target's return to service.",
    Reason.RETRIED: "An operator requested a retry: the playbook starts again.",
    Reason.LADDER_EXHAUSTED: "Every allowed repair was tried, and the target is still unhealthy: manual intervention is required.",
    Reason.UNVERIFIABLE: "No test could show whether the target is healthy: manual intervention is required.",
    Reason.EFFECT_UNKNOWN: "It is unknown whether a disruptive step took effect: manual intervention is required.",
    Reason.JOB_STUCK: "A job could not be moved off the target: manual intervention is required.",
    Reason.JOB_FAILED: "The job keeps failing on different nodes, after as many restarts as the playbook allows: the remediator fails the job.",
    Reason.QUARANTINE_FAILED: "The target could not be quarantined, and the remediator took no further action: manual intervention is required.",
    Reason.RELEASE_FAILED: "The target is healthy, but its quarantine could not be released: manual intervention is required.",
    Reason.RELEASED_BY_OTHERS: "Another user or program released the quarantine; manual changes take precedence.",
    Reason.UNSUPPORTED: "This cluster does not support this step.",
    Reason.PLAYBOOK_GONE: "The incident's playbook is no longer configured: manual intervention is required.",
    Reason.UNKNOWN_JOB: "The cluster has no job of this name.",
    Reason.TESTED_OFTEN: "The incident has reached its limit of ten tests: manual intervention is required.",
    Reason.REJECTED: "An operator rejected the target's return to service: the target stays quarantined.",
    Reason.APPROVAL_EXPIRED: "No operator approved the target's return to service in time: the target stays quarantined.",
    Reason.LANE_FAILED: "The remediator failed with an internal error on this target three times: manual intervention is required.",
    Reason.RELEASED_BY_PERSON: "The target was returned to service manually.",
    Reason.CLOSED_BY_PERSON: "The incident was closed manually.",
}


def sentence(reason: Reason) -> str:
    """Return the default text of a reason, for decisions without a more specific text."""
    return SENTENCES[reason]
