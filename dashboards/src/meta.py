"""The watchers themselves: targets, collectors, rules, notifications."""

from board import NODE, UP, Board, Panel, Row

ROWS = (
    Row("Now", 4, (
        Panel("stat", 4, "Targets down", "Of all jobs.", "short",
              (("sum(1 - up)", "down"),), bad_from=1),
        Panel("stat", 4, "Watchdog", "The alert that always fires: without it no alert arrives.", "short",
              (('max(ALERTS{alertname="Watchdog",alertstate="firing"}) or vector(0)', "watchdog"),),
              states=UP),
        Panel("stat", 4, "Collectors failing", "On the chosen nodes.", "short",
              ((f"sum(1 - gpu_exporter_collector_success{{{NODE}}})", "failing"),), bad_from=1),
        Panel("stat", 4, "Rules failing", "Evaluations in this range.", "short",
              (("round(sum(increase(prometheus_rule_evaluation_failures_total[$__range])))", "failed"),),
              bad_from=1),
        Panel("stat", 4, "Notifications failing", "In this range.", "short",
              (("round(sum(increase(alertmanager_notifications_failed_total[$__range])))", "failed"),),
              bad_from=1),
        Panel("stat", 4, "Series", "In Prometheus' memory.", "short",
              (("sum(prometheus_tsdb_head_series)", "series"),)),
    )),
    Row("Scraping", 8, (
        Panel("states", 12, "Targets", "Whether Prometheus reaches each process.", "short",
              (("min by (job, node) (up)", "{{job}} {{node}}"),), states=UP),
        Panel("lines", 12, "Duration of scrapes", "The slowest of each job.", "s",
              (("max by (job) (scrape_duration_seconds)", "{{job}}"),)),
        Panel("lines", 12, "Samples", "Of a scrape; a jump is a label that should not be one.", "short",
              (("max by (job) (scrape_samples_scraped)", "{{job}}"),)),
        Panel("lines", 12, "Samples stored", "A second.", "short",
              (("sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))", "samples"),)),
    )),
    Row("Exporters", 8, (
        Panel("lines", 12, "Scrape freshness", "Age of the oldest successful read, by collector: it "
              "climbs while a collector fails.", "s",
              ((f"time() - min by (collector) (gpu_exporter_collector_last_success_timestamp_seconds"
                f"{{{NODE}}})", "{{collector}}"),)),
        Panel("lines", 12, "Duration of collectors", "The slowest node.", "s",
              ((f"max by (collector) (gpu_exporter_collector_duration_seconds{{{NODE}}})",
                "{{collector}}"),)),
        Panel("lines", 8, "Workers restarted", "Processes that read GPUs and had to be replaced.", "short",
              ((f"round(increase(gpu_exporter_worker_restarts_total{{{NODE}}}[$__rate_interval]))",
                "{{node}}"),)),
        Panel("lines", 8, "Kernel log dropped", "Records that were lost.", "short",
              ((f"round(increase(gpu_exporter_kmsg_dropped_total{{{NODE}}}[$__rate_interval]))", "{{node}}"),)),
        Panel("lines", 8, "Logins refused", "By the exporters, a minute.", "short",
              ((f"60 * rate(gpu_exporter_auth_failures_total{{{NODE}}}[$__rate_interval])",
                "{{node}}"),)),
    )),
    Row("Rules and alerts", 8, (
        Panel("lines", 12, "Duration of rule groups", "One that lasts longer than its interval misses "
              "evaluations.", "s",
              (("max by (rule_group) (prometheus_rule_group_last_duration_seconds)", "{{rule_group}}"),)),
        Panel("lines", 12, "Evaluations missed", "In ten minutes.", "short",
              (("round(sum by (rule_group) (increase(prometheus_rule_group_iterations_missed_total[10m])))",
                "{{rule_group}}"),), bad_from=1),
        Panel("lines", 8, "Alerts", "Firing and pending.", "short",
              (("count by (alertstate) (ALERTS)", "{{alertstate}}"),)),
        Panel("lines", 8, "Notifications", "A minute, by integration.", "short",
              (("60 * sum by (integration) (rate(alertmanager_notifications_total[$__rate_interval])) > 0",
                "{{integration}}"),)),
        Panel("lines", 8, "Detectors", "Since each last ran.", "s",
              (("time() - detector_last_run_timestamp_seconds", "{{detector}}"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "meta", "the watchers", "Targets, collectors, rules and notifications.", ("cluster", "node"), ROWS,
)  # fmt: skip
