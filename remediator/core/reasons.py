"""Why: one word for every decision. The same value is log key, metric label, journal field and docs row."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something was done, or was not."""

    # what came in
    ALERT_RECEIVED = "alert_received"
    ALERT_RESOLVED = "alert_resolved"
    NO_PLAYBOOK = "no_playbook"
    NO_TARGET = "no_target"
    OTHER_CLUSTER = "other_cluster"
    DEAD_MAN_SIGNAL = "dead_man_signal"
    DUPLICATE = "duplicate"
    SPENT = "spent"
    SILENCED = "silenced"
    INHIBITED = "inhibited"
    MUTED = "muted"
    ALERT_UNCONFIRMED = "alert_unconfirmed"
    ALERT_GONE = "alert_gone"
    RESOLVED_FIRST = "resolved_first"
    # how it was routed
    ROUTED = "routed"
    ABSORBED = "absorbed"
    WIDENED = "widened"
    # why it waits
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
    CLOCK_JUMP = "clock_jump"
    OTHER_INSTALLATION = "other_installation"
    PINNED = "pinned"
    # what went on
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
    RETRIED = "retried"
    # how it ended otherwise
    LADDER_EXHAUSTED = "ladder_exhausted"
    UNVERIFIABLE = "unverifiable"
    EFFECT_UNKNOWN = "effect_unknown"
    JOB_STUCK = "job_stuck"
    QUARANTINE_FAILED = "quarantine_failed"
    RELEASE_FAILED = "release_failed"
    RELEASED_BY_OTHERS = "released_by_others"
    UNSUPPORTED = "unsupported"
    PLAYBOOK_GONE = "playbook_gone"
    UNKNOWN_JOB = "unknown_job"
    TESTED_OFTEN = "tested_often"
    LANE_FAILED = "lane_failed"
    RELEASED_BY_PERSON = "released_by_person"
    CLOSED_BY_PERSON = "closed_by_person"


SENTENCES: dict[Reason, str] = {
    Reason.ALERT_RECEIVED: "An alert fires and is kept durably.",
    Reason.ALERT_RESOLVED: "An alert is over; incidents do not end by that.",
    Reason.NO_PLAYBOOK: "No playbook matches this alert.",
    Reason.NO_TARGET: "The alert's labels name no usable target.",
    Reason.OTHER_CLUSTER: "The alert's label `cluster` is missing, or names another cluster than remediator.yml.",
    Reason.SILENCED: "The alert is silenced in Alertmanager.",
    Reason.INHIBITED: "Another alert inhibits this one in Alertmanager.",
    Reason.MUTED: "A maintenance window is open for the alert.",
    Reason.ALERT_UNCONFIRMED: "Alertmanager does not confirm that the alert is active.",
    Reason.ALERT_GONE: "No alert of the incident is active any more.",
    Reason.DEAD_MAN_SIGNAL: "The Watchdog says that the alert path works; nothing else follows.",
    Reason.DUPLICATE: "The target's open incident already knows this alert.",
    Reason.SPENT: "The alert began before the target was last repaired and re-admitted.",
    Reason.RESOLVED_FIRST: "Every alert was over before anything was done.",
    Reason.ROUTED: "A playbook matches and the target is known.",
    Reason.ABSORBED: "The target's open incident takes this alert in.",
    Reason.WIDENED: "Several GPUs of the node, or its exporter, are gone: the node is the patient.",
    Reason.PAUSED: "A person paused every action.",
    Reason.RESUMED: "A person let actions go on.",
    Reason.OTHER_OWNER: "Somebody else quarantined the target; theirs is left alone.",
    Reason.BUDGET_OUT: "As much of the pool as the budget allows is already out by us.",
    Reason.BUDGET_NEW: "As many targets as the budget allows were quarantined lately.",
    Reason.COOLDOWN: "The target was treated this way a short while ago.",
    Reason.DEAD_MAN: "No Watchdog alert arrives: the alert path may be broken, so nothing disruptive.",
    Reason.SENSORS_BLIND: "Too few exporters of the pool answer to trust what the sensors say.",
    Reason.WITNESSES: "Too few independent witnesses for a disruptive step.",
    Reason.HOLD: "A short hold before a disruptive step, so that a larger fault can show itself.",
    Reason.LEVEL: "The level in force goes no further.",
    Reason.OBSERVE_ONLY: "The level in force is observe: the plan is written down and not carried out.",
    Reason.FACTS_UNKNOWN: "The cluster did not answer, or does not know the target; unknown is not healthy.",
    Reason.ATTEMPTS: "This repair was tried as often as is allowed on this target.",
    Reason.IDENTITY: "The alert and the cluster's inventory do not name the same hardware.",
    Reason.STORM: "Too much of the pool is reported unhealthy at once; nothing disruptive is done.",
    Reason.CLOCK_JUMP: "The wall clock jumped; nothing disruptive is done until it has been steady.",
    Reason.OTHER_INSTALLATION: "Another remediator acts on this cluster; this one acts on nothing.",
    Reason.PINNED: "A person returned the target to service; it is not quarantined again for a while.",
    Reason.STEP_ALLOWED: "Every guard allows the step.",
    Reason.EFFECT_SEEN: "The step's effect was read back from the cluster.",
    Reason.EFFECT_MISSING: "The step's effect did not show within its deadline.",
    Reason.STEP_REFUSED: "The cluster refused the step.",
    Reason.NOTIFIED: "People were told, and this playbook does no more.",
    Reason.QUARANTINED: "New jobs are kept off the target.",
    Reason.SAVING: "The jobs on the target are asked for a checkpoint first.",
    Reason.MOVING_JOBS: "The jobs on the target are restarted elsewhere.",
    Reason.JOBS_MOVED: "No job is on the target any more.",
    Reason.NO_JOBS: "No job was on the target.",
    Reason.REPAIR_STARTS: "The next rung of the ladder is tried.",
    Reason.REPAIRED: "The repair was carried out; tests must say whether it healed.",
    Reason.NOTHING_TO_REPAIR: "One witness alone said it was sick and the active test disagrees.",
    Reason.HELD_LONG: "The repair was held for long, and what was known is old: it is tested first.",
    Reason.RESCALED: "The workload was given another size.",
    Reason.AT_LIMIT: "The workload is at the limit of its size.",
    Reason.VERIFIED: "The active test and fresh metrics both say healthy.",
    Reason.NOT_HEALED: "Tests after the repair say that it is still sick.",
    Reason.ON_PROBATION: "Healthy, and kept out a while longer before jobs come back.",
    Reason.NEW_ALERT: "A new alert on the target came during probation: it is tested again.",
    Reason.READMITTED: "Probation passed: the target takes jobs again.",
    Reason.JOB_RESTARTED: "The job was restarted from its checkpoint.",
    Reason.HEALTHY_IN_SERVICE: "Every alert is over and the metrics stayed healthy while jobs ran.",
    Reason.DEMAND_ROSE: "Demand rose: scaling out takes over from scaling in.",
    Reason.RETRIED: "A person ordered a retry: the playbook starts again.",
    Reason.LADDER_EXHAUSTED: "Every allowed repair was tried and none healed it: a person is needed.",
    Reason.UNVERIFIABLE: "Nothing could say whether it is healthy: a person is needed.",
    Reason.EFFECT_UNKNOWN: "Whether a disruptive step happened cannot be seen: a person is needed.",
    Reason.JOB_STUCK: "A job could not be moved away: a person is needed.",
    Reason.QUARANTINE_FAILED: "The target could not be quarantined, so nothing else was done.",
    Reason.RELEASE_FAILED: "The target is healthy and could not be released: a person is needed.",
    Reason.RELEASED_BY_OTHERS: "Somebody else released the target: a person's hand goes first.",
    Reason.UNSUPPORTED: "This cluster cannot do that step.",
    Reason.PLAYBOOK_GONE: "The incident's playbook is no longer configured: a person is needed.",
    Reason.UNKNOWN_JOB: "The cluster knows no such job.",
    Reason.TESTED_OFTEN: "The target was tested ten times without a lasting result: a person is needed.",
    Reason.LANE_FAILED: "The remediator failed on this target three times: a person is needed.",
    Reason.RELEASED_BY_PERSON: "A person returned the target to service.",
    Reason.CLOSED_BY_PERSON: "A person closed the incident.",
}


def sentence(reason: Reason) -> str:
    """The sentence that stands for a reason where nothing more particular is known."""
    return SENTENCES[reason]
