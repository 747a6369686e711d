"""Remediation: incidents, stages, guards, decisions and actions of the remediator."""

from board import YES, Board, Panel, Row

OPEN = 'remediator_incidents{state!~"CLOSED|SUPPRESSED|FAILED|OVERRIDDEN"}'
# The Fleet overview dashboard shows these queries as well.
WAITING = (('sum(remediator_incidents{state=~"HELD|AWAIT_APPROVAL|ESCALATED"})', "incidents"),)
PAUSED = (("max(remediator_paused)", "paused"),)
ACTIONS = (
    (
        "round(sum by (action, result) (increase(remediator_actions_total[$__rate_interval]))) > 0",
        "{{action}} {{result}}",
    ),
)

HELD = {"0": ("no", "red"), "1": ("yes", "green")}

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 4, "Open incidents", "Number of open incidents in all states. Normal is 0; see Incidents "
              "by state.", "short", ((f"sum({OPEN})", "open"),)),
        Panel("stat", 4, "Held or escalated", "Number of incidents that are held, await approval or are "
              "escalated to an operator. Normal is 0; `fleetmedic why TARGET` explains each of them.", "short",
              WAITING,
              bad_from=1),
        Panel("stat", 4, "Actions in progress", "Number of actions that are in progress now.", "short",
              (("sum(remediator_action_in_progress)", "in progress"),)),
        Panel("stat", 4, "Failed actions", "Number of actions that failed in the selected time range. Normal is "
              "0; see Actions by result.", "short",
              (('round(sum(increase(remediator_actions_total{result="failed"}[$__range]))) or vector(0)',
                "failed"),), bad_from=1),
        Panel("stat", 4, "Guard holds", "Number of times that a guard, for example a budget, a cooldown or a check "
              "of the sensors, held an action in the selected time range. See Guard holds by reason.",
              "short", (("round(sum(increase(remediator_guard_holds_total[$__range]))) or vector(0)", "holds"),),
              warn_from=1),
        Panel("stat", 4, "Paused", "Whether an operator has paused the remediator. Normal is no; a paused "
              "remediator takes no action.", "short",
              PAUSED, states=YES),
        Panel("stat", 4, "Longest hold", "Longest time for which an open incident has been held. Alert "
              "RemediatorIncidentHeldLong fires above 30 minutes.", "s",
              (("max(remediator_held_longest_seconds)", "held"),), bad_from=1800,
              alert="RemediatorIncidentHeldLong"),
        Panel("stat", 4, "Alert storms", "Number of pools in which too much hardware is reported unhealthy at "
              "once. Normal is 0; in these pools the remediator takes no disruptive action.", "short",
              (("sum(remediator_storms)", "storms"),), bad_from=1),
        Panel("stat", 4, "Cluster lock held", "Whether this installation holds the lock of the cluster. Normal "
              "is yes (no value at level observe); without the lock the remediator takes no action.",
              "short", (("min(remediator_instance_lock_held)", "lock"),), states=HELD),
        Panel("stat", 4, "Alertmanager complete", "Whether Alertmanager has settled after its start and its "
              "latest answer contains the Watchdog. Normal is yes; while it is no, a missing alert is not "
              "treated as resolved.", "short",
              (("min(remediator_alertmanager_complete)", "complete"),), states=HELD),
        Panel("stat", 4, "Pending notifications", "Number of the remediator's own notifications that are not "
              "yet delivered to every recipient. Normal is 0.",
              "short", (("sum(remediator_notifications_pending)", "pending"),), warn_from=1),
        Panel("stat", 4, "Internal errors", "Number of internal errors of the remediator in the selected time "
              "range. Normal is 0; see the runbook of alert RemediatorLaneFailing.", "short",
              (("round(sum(increase(remediator_lane_failures_total[$__range])))", "errors"),), bad_from=1),
    )),
    Row("Out of service", 8, (
        Panel("lines", 12, "Quarantined targets by owner", "Number of GPUs and nodes that are out of service, by "
              "owner of the quarantine. A GPU of a quarantined node counts only if another owner quarantined the "
              "GPU.", "short",
              (("sum by (kind, owner) (remediator_targets_out)", "{{kind}} {{owner}}"),)),
        Panel("lines", 12, "Held incidents by reason", "Number of open incidents that are held, by reason. Normal "
              "is none; `fleetmedic why TARGET` explains each hold.", "short",
              (("sum by (reason) (remediator_held) > 0", "{{reason}}"),)),
    )),
    Row("Incidents", 8, (
        Panel("stacked", 12, "Incidents by state", "Number of open incidents in each state. An incident that "
              "stays in one state needs attention.", "short",
              ((f"sum by (state) ({OPEN})", "{{state}}"),)),
        Panel("lines", 12, "Opened incidents by playbook", "Number of incidents opened, by the playbook that "
              "handles them.", "short",
              (("round(sum by (playbook) (increase(remediator_incidents_total[$__rate_interval]))) > 0",
                "{{playbook}}"),)),
        Panel("lines", 12, "Mean time to each stage", "Mean time from the opening of an incident to each stage, in "
              "seconds, over the incidents that reached the stage in the last hour.", "s",
              (("sum by (stage) (increase(remediator_stage_seconds_sum[1h])) / "
                "(sum by (stage) (increase(remediator_stage_seconds_count[1h])) > 0)", "{{stage}}"),)),
        Panel("table", 12, "Time to each stage (p90)", "90th percentile of the time from the opening of an "
              "incident to each stage, in seconds, over the selected time range.",
              "s", (("histogram_quantile(0.9, sum by (stage, le) "
                     "(increase(remediator_stage_seconds_bucket[$__range]))) >= 0", "p90"),)),
    )),
    Row("Decisions and actions", 8, (
        Panel("lines", 12, "Actions by result", "Number of actions that ended, by action and result.", "short",
              ACTIONS),
        Panel("lines", 12, "Guard holds by reason", "Number of actions that a guard held, by reason. Each "
              "reason explains why the remediator took no action.", "short",
              (("round(sum by (reason) (increase(remediator_guard_holds_total[$__rate_interval]))) > 0",
                "{{reason}}"),)),
        Panel("table", 12, "Decisions by reason", "Number of decisions in the selected time range, by reason.",
              "short",
              (("round(sum by (reason) (increase(remediator_decisions_total[$__range]))) > 0", "decisions"),)),
        Panel("table", 12, "Actions in the time range", "Number of actions that ended in the selected time range, "
              "by action and result.", "short",
              (("round(sum by (action, result) (increase(remediator_actions_total[$__range]))) > 0",
                "actions"),)),
    )),
    Row("Alerts, notifications and journal", 8, (
        Panel("lines", 8, "Alerts received", "Alerts per second that the webhook received and wrote to the "
              "journal.", "short",
              (("sum(rate(remediator_webhook_alerts_total[$__rate_interval]))", "alerts"),)),
        Panel("lines", 8, "Notifications by channel", "Number of notifications that the remediator sent for "
              "Alertmanager, by channel and result. A failed notification fires alert NotificationChannelFailing.", "short",
              (("round(sum by (channel, result) (increase(remediator_notifications_total[$__rate_interval])))"
                " > 0", "{{channel}} {{result}}"),)),
        Panel("lines", 8, "Time since last reconciliation", "Time since the remediator last compared alerts, "
              "cluster and journal, in seconds. Normal is below 120 s.", "s",
              (("time() - max(remediator_reconcile_last_timestamp_seconds > 0)", "time"),), bad_from=120),
        Panel("lines", 12, "Journal event rate", "Events written to the journal per second.", "short",
              (("sum(rate(remediator_journal_events_total[$__rate_interval]))", "events"),)),
        Panel("lines", 12, "Authentication failures", "Requests per minute that the remediator rejected because "
              "credentials were missing or wrong. Normal is 0; see the runbook of alert "
              "RemediatorLoginsFailing.", "short",
              (("60 * sum(rate(remediator_webhook_auth_failures_total[$__rate_interval]))",
                "rejected"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "remediation", "Remediation", "Open incidents, decisions, actions, and the reasons for held or missing actions.", (), ROWS,
    since="now-3h",
)  # fmt: skip
