"""What the remediator decides, does, and leaves: incidents, stages, guards, actions."""

from board import YES, Board, Panel, Row

OPEN = 'remediator_incidents{state!~"CLOSED|SUPPRESSED|FAILED|OVERRIDDEN"}'
# What the fleet's dashboard shows of it, too.
WAITING = (('sum(remediator_incidents{state=~"HELD|AWAIT_APPROVAL|ESCALATED"})', "wait"),)
PAUSED = (("max(remediator_paused)", "paused"),)
ACTIONS = (
    (
        "round(sum by (action, result) (increase(remediator_actions_total[$__rate_interval]))) > 0",
        "{{action}} {{result}}",
    ),
)

HELD = {"0": ("no", "red"), "1": ("yes", "green")}

ROWS = (
    Row("Now", 4, (
        Panel("stat", 4, "Open incidents", "Of all states.", "short", ((f"sum({OPEN})", "open"),)),
        Panel("stat", 4, "Waiting for people", "Held, awaiting approval or escalated.", "short",
              WAITING,
              bad_from=1),
        Panel("stat", 4, "Actions under way", "Now.", "short",
              (("sum(remediator_action_in_progress)", "under way"),)),
        Panel("stat", 4, "Failed actions", "In this range.", "short",
              (('round(sum(increase(remediator_actions_total{result="failed"}[$__range]))) or vector(0)',
                "failed"),), bad_from=1),
        Panel("stat", 4, "Held back by guards", "In this range: budgets, cooldowns, trust in sensors.",
              "short", (("round(sum(increase(remediator_guard_holds_total[$__range]))) or vector(0)", "held"),),
              warn_from=1),
        Panel("stat", 4, "Paused", "Whether somebody has told it to do nothing.", "short",
              PAUSED, states=YES),
        Panel("stat", 4, "Held longest", "The longest time for which an open incident has been held.", "s",
              (("max(remediator_held_longest_seconds)", "held"),), bad_from=1800,
              alert="RemediatorIncidentHeldLong"),
        Panel("stat", 4, "Storms", "Pools in which too much hardware is reported unhealthy at once. "
              "Nothing disruptive is done there.", "short",
              (("sum(remediator_storms)", "storms"),), bad_from=1),
        Panel("stat", 4, "Lock held", "Whether this installation holds the cluster's lock and may act.",
              "short", (("min(remediator_instance_lock_held)", "lock"),), states=HELD),
        Panel("stat", 4, "Alertmanager complete", "Whether Alertmanager has settled and its latest answer "
              "held the Watchdog. If not, no missing alert is taken as resolved.", "short",
              (("min(remediator_alertmanager_complete)", "complete"),), states=HELD),
        Panel("stat", 4, "Messages pending", "Messages to people that are not yet delivered to every address.",
              "short", (("sum(remediator_notifications_pending)", "pending"),), warn_from=1),
        Panel("stat", 4, "Internal errors", "Errors of the remediator itself, in this range.", "short",
              (("round(sum(increase(remediator_lane_failures_total[$__range])))", "errors"),), bad_from=1),
    )),
    Row("Out of service", 8, (
        Panel("lines", 12, "Quarantined, by owner", "GPUs and nodes that are out of service. A GPU of a "
              "quarantined node counts only if another owner quarantined the GPU.", "short",
              (("sum by (kind, owner) (remediator_targets_out)", "{{kind}} {{owner}}"),)),
        Panel("lines", 12, "Held, by reason", "Open incidents that are held now.", "short",
              (("sum by (reason) (remediator_held) > 0", "{{reason}}"),)),
    )),
    Row("Incidents", 8, (
        Panel("stacked", 12, "Incidents by state", "How many are in each state.", "short",
              ((f"sum by (state) ({OPEN})", "{{state}}"),)),
        Panel("lines", 12, "Opened", "By the playbook that treats them.", "short",
              (("round(sum by (playbook) (increase(remediator_incidents_total[$__rate_interval]))) > 0",
                "{{playbook}}"),)),
        Panel("lines", 12, "Time to each stage", "Mean seconds from the opening of an incident to the "
              "stage, of those that came to it in the last hour.", "s",
              (("sum by (stage) (increase(remediator_stage_seconds_sum[1h])) / "
                "(sum by (stage) (increase(remediator_stage_seconds_count[1h])) > 0)", "{{stage}}"),)),
        Panel("table", 12, "Time to each stage, slowest tenth", "Nine of ten incidents were faster.",
              "s", (("histogram_quantile(0.9, sum by (stage, le) "
                     "(increase(remediator_stage_seconds_bucket[$__range]))) >= 0", "stage"),)),
    )),
    Row("Decisions and actions", 8, (
        Panel("lines", 12, "Actions", "What was done, and how it ended.", "short",
              ACTIONS),
        Panel("lines", 12, "Why nothing was done", "Actions that a guard held, by its reason.", "short",
              (("round(sum by (reason) (increase(remediator_guard_holds_total[$__rate_interval]))) > 0",
                "{{reason}}"),)),
        Panel("table", 12, "Decisions", "By reason, in this range.", "short",
              (("round(sum by (reason) (increase(remediator_decisions_total[$__range]))) > 0", "reason"),)),
        Panel("table", 12, "Actions in this range", "By action and result.", "short",
              (("round(sum by (action, result) (increase(remediator_actions_total[$__range]))) > 0",
                "action"),)),
    )),
    Row("The chain", 8, (
        Panel("lines", 8, "Alerts received", "Made durable, a second.", "short",
              (("sum(rate(remediator_webhook_alerts_total[$__rate_interval]))", "alerts"),)),
        Panel("lines", 8, "Messages to people", "By channel and result.", "short",
              (("round(sum by (channel, result) (increase(remediator_notifications_total[$__rate_interval])))"
                " > 0", "{{channel}} {{result}}"),)),
        Panel("lines", 8, "Reconciler", "Since it last compared what is with what should be.", "s",
              (("time() - max(remediator_reconcile_last_timestamp_seconds > 0)", "age"),), bad_from=120),
        Panel("lines", 12, "Journal", "Events written, a second.", "short",
              (("sum(rate(remediator_journal_events_total[$__rate_interval]))", "events"),)),
        Panel("lines", 12, "Requests refused", "Without the webhook's token, a minute.", "short",
              (("60 * sum(rate(remediator_webhook_auth_failures_total[$__rate_interval]))",
                "refused"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "remediation", "remediation", "Incidents, what was done, what was not, and why.", (), ROWS,
    since="now-3h",
)  # fmt: skip
