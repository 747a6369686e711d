"""Monitoring health: scrape targets, collectors, rules and notifications."""

from board import NODE, UP, Board, Panel, Row

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 4, "Targets down", "Number of scrape targets that Prometheus cannot scrape, of all jobs. "
              "Normal is 0; see Target status.", "short",
              (("sum(1 - up)", "down"),), bad_from=1),
        Panel("stat", 4, "Watchdog alert", "State of the Watchdog, an alert that always fires. If it is missing, "
              "Prometheus does not evaluate its rules, and no other alert can fire.", "short",
              (('max(ALERTS{alertname="Watchdog",alertstate="firing"}) or vector(0)', "Watchdog"),),
              states={"0": ("missing", "red"), "1": ("firing", "green")}),
        Panel("stat", 4, "Failing collectors", "Number of exporter collectors on the selected nodes whose latest "
              "run failed. Normal is 0; see the runbook of alert ExporterCollectorFailing.", "short",
              ((f"sum(1 - gpu_exporter_collector_success{{{NODE}}})", "failing"),), bad_from=1),
        Panel("stat", 4, "Rule failures", "Number of failed rule evaluations in the selected time range. Normal "
              "is 0; see the runbook of alert PrometheusRuleFailures.", "short",
              (("round(sum(increase(prometheus_rule_evaluation_failures_total[$__range])))", "failed"),),
              bad_from=1),
        Panel("stat", 4, "Failed notifications", "Number of notifications that Alertmanager could not send in "
              "the selected time range. Normal is 0; see the runbook of alert "
              "AlertmanagerNotificationsFailing.", "short",
              (("round(sum(increase(alertmanager_notifications_failed_total[$__range])))", "failed"),),
              bad_from=1),
        Panel("stat", 4, "Active series", "Number of time series in the memory of Prometheus (TSDB head). A jump "
              "often comes from a label with many values.", "short",
              (("sum(prometheus_tsdb_head_series)", "series"),)),
    )),
    Row("Scraping", 8, (
        Panel("states", 12, "Target status", "Whether Prometheus can scrape each target. Normal is up.", "short",
              (("min by (job, node) (up)", "{{job}} {{node}}"),), states=UP),
        Panel("lines", 12, "Scrape duration", "Duration of the slowest scrape of each job, in seconds.", "s",
              (("max by (job) (scrape_duration_seconds)", "{{job}}"),)),
        Panel("lines", 12, "Samples per scrape", "Number of samples of the largest target of each job. A jump "
              "usually means that a label has too many values.", "short",
              (("max by (job) (scrape_samples_scraped)", "{{job}}"),)),
        Panel("lines", 12, "Sample ingestion rate", "Samples that Prometheus stores per second.", "short",
              (("sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))", "samples"),)),
    )),
    Row("Exporters", 8, (
        Panel("lines", 12, "Time since last successful collection", "Longest time since a collector last "
              "succeeded, in seconds, by collector. Normal is a sawtooth up to the interval of the collector; for a "
              "steady rise see the runbook of alert ExporterDataStale.", "s",
              ((f"time() - min by (collector) (gpu_exporter_collector_last_success_timestamp_seconds"
                f"{{{NODE}}})", "{{collector}}"),)),
        Panel("lines", 12, "Collector duration", "Duration of the latest run of each collector on the slowest "
              "node, in seconds.", "s",
              ((f"max by (collector) (gpu_exporter_collector_duration_seconds{{{NODE}}})",
                "{{collector}}"),)),
        Panel("lines", 8, "GPU worker restarts", "Number of times that the exporter replaced the process that "
              "reads the GPUs. Normal is 0; a restart usually means that a driver call hung.", "short",
              ((f"round(increase(gpu_exporter_worker_restarts_total{{{NODE}}}[$__rate_interval]))",
                "{{node}}"),)),
        Panel("lines", 8, "Dropped kernel log records", "Number of kernel log records that were lost. Normal is "
              "0; XID errors and other events in lost records can be missed.", "short",
              ((f"round(increase(gpu_exporter_kmsg_dropped_total{{{NODE}}}[$__rate_interval]))", "{{node}}"),)),
        Panel("lines", 8, "Authentication failures", "Requests per minute that the exporters rejected because "
              "credentials were missing or wrong. Normal is 0; see the runbook of alert ExporterLoginsFailing.",
              "short",
              ((f"60 * rate(gpu_exporter_auth_failures_total{{{NODE}}}[$__rate_interval])",
                "{{node}}"),)),
    )),
    Row("Rules and alerts", 8, (
        Panel("lines", 12, "Rule group evaluation duration", "Duration of the latest evaluation of each rule "
              "group, in seconds. A group that takes longer than its interval misses evaluations.", "s",
              (("max by (rule_group) (prometheus_rule_group_last_duration_seconds)", "{{rule_group}}"),)),
        Panel("lines", 12, "Missed rule group evaluations", "Number of evaluations missed in 10 minutes, by rule "
              "group. Normal is 0; see the runbook of alert PrometheusRuleGroupSlow.", "short",
              (("round(sum by (rule_group) (increase(prometheus_rule_group_iterations_missed_total[10m])))",
                "{{rule_group}}"),), bad_from=1),
        Panel("lines", 8, "Alerts by state", "Number of firing and pending alerts. At least one, the Watchdog, "
              "always fires.", "short",
              (("count by (alertstate) (ALERTS)", "{{alertstate}}"),)),
        Panel("lines", 8, "Notifications by integration", "Notifications that Alertmanager sends per minute, by "
              "integration.", "short",
              (("60 * sum by (integration) (rate(alertmanager_notifications_total[$__rate_interval])) > 0",
                "{{integration}}"),)),
        Panel("lines", 8, "Time since last detector run", "Time since the last successful run of each anomaly detector, in "
              "seconds. Alert DetectorModelStale fires after three intervals of the detector.", "s",
              (("time() - detector_last_run_timestamp_seconds", "{{detector}}"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "meta", "Monitoring health", "Scrape targets, collectors, rules and notifications.", ("cluster", "node"), ROWS,
)  # fmt: skip
