"""The fleet at a glance: what works, what does not, what is being done about it."""

from board import CLUSTER, NODE, UP, YES, Board, Panel, Row
from remediation import ACTIONS, OPEN, PAUSED, WAITING

OUT_OF_SERVICE = "QUARANTINED|CHECKPOINTING|DRAINING|JOBS_MOVED|REPAIRING|VERIFYING"
FIRING = 'ALERTS{alertstate="firing",severity!="none",cluster=~"$cluster|"}'

ROWS = (
    Row("Now", 4, (
        Panel("stat", 3, "GPUs up", "GPUs that are present and answer.", "short",
              ((f"sum(gpu_up{{{NODE}}})", "up"),)),
        Panel("stat", 3, "GPUs missing", "GPUs that the nodes should have and that are not up.",
              "short", ((f"sum(gpu_expected{{{NODE}}}) - sum(gpu_up{{{NODE}}})", "missing"),),
              bad_from=1),
        Panel("stat", 3, "Nodes silent", "Nodes whose exporter does not answer: their GPUs are unknown.",
              "short", ((f'sum(1 - up{{job="node",{NODE}}})', "silent"),), bad_from=1),
        Panel("stat", 3, "Critical alerts", "Critical alerts that fire.", "short",
              (('count(ALERTS{alertstate="firing",severity="critical"}) or vector(0)', "critical"),),
              bad_from=1),
        Panel("stat", 3, "Out of service", "Incidents whose target is quarantined and being treated.",
              "short", ((f'sum(remediator_incidents{{state=~"{OUT_OF_SERVICE}"}})', "treated"),),
              bad_from=1),
        Panel("stat", 3, "Waiting for people", "Incidents held, awaiting approval or escalated.",
              "short", WAITING,
              bad_from=1),
        Panel("stat", 3, "Paused", "Whether somebody has told the remediator to do nothing.", "short",
              PAUSED, states=YES),
        Panel("stat", 3, "Simulated", "Whether GPUs shown here are simulated.", "short",
              ((f"max(gpu_exporter_simulated{{{NODE}}})", "simulated"),),
              states={"0": ("no", "green"), "1": ("yes", "blue")}),
    )),
    Row("Alerts and incidents", 8, (
        Panel("list", 12, "Alerts firing", "Every alert that fires, save the Watchdog; each has a page "
              "of what to do.", "short",
              ((f"max by (severity, alertname, cluster, node, gpu, job_id) ({FIRING})", "alert"),)),
        Panel("states", 12, "Alerts over time", "When which alert fired.", "short",
              (('max by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"})',
                "{{alertname}}"),), states={"1": ("firing", "red")}),
        Panel("stacked", 12, "Incidents by state", "Open incidents, by the state they are in.", "short",
              ((f"sum by (state) ({OPEN})", "{{state}}"),),
              link="remediation"),
        Panel("lines", 12, "Actions", "What was done, and how it ended.", "short",
              ACTIONS, link="remediation"),
    )),
    Row("GPUs", 8, (
        Panel("stacked", 12, "GPUs by state", "Up, hung and lost GPUs; together they are what the "
              "nodes should have.", "short", (
                  (f"sum(gpu_up{{{NODE}}})", "up"),
                  (f"sum(1 - gpu_responding{{{NODE}}})", "hung"),
                  (f"sum(gpu_lost{{{NODE}}})", "lost"))),
        Panel("states", 12, "Lost or silent", "Each GPU that was lost, or did not answer, at some time "
              "of the range.", "short",
              ((f"gpu_up{{{NODE}}} and on (cluster, uuid) (min_over_time(gpu_up[$__range]) == 0)",
                "{{node}}/{{gpu}}"),), states=UP, link="gpu"),
        Panel("lines", 12, "Utilization by node", "Mean share of time in which kernels ran.",
              "percentunit", ((f"avg by (node) (gpu_utilization_ratio{{{NODE}}})", "{{node}}"),),
              top=1),
        Panel("lines", 12, "SM clock against its peers", "Each busy GPU's clock as a share of the "
              "median of the busy GPUs of its node: a slow GPU lies below 1 alone.", "percentunit",
              ((f'(gpu_clock_hertz{{{NODE},domain="sm"}} and on (cluster, uuid) '
                f"gpu_utilization_ratio{{{NODE}}} > 0.5) / on (cluster, node) group_left () "
                f'quantile by (cluster, node) (0.5, gpu_clock_hertz{{{NODE},domain="sm"}} and on '
                f"(cluster, uuid) gpu_utilization_ratio{{{NODE}}} > 0.5)", "{{node}}/{{gpu}}"),)),
        Panel("lines", 8, "Temperature", "The hottest GPU of each node.", "celsius",
              ((f'max by (node) (gpu_temperature_celsius{{{NODE},sensor="gpu"}})', "{{node}}"),
               (f'min(gpu_temperature_threshold_celsius{{{NODE},threshold="slowdown"}})',
                "slowdown"))),
        Panel("lines", 8, "Power", "All GPUs of a node together.", "watt",
              ((f'sum by (node) (gpu_power_watts{{{NODE},scope="gpu"}})', "{{node}}"),)),
        Panel("lines", 8, "XIDs", "Errors of the driver, by code.", "short",
              ((f"round(sum by (node, xid) (increase(gpu_xid_errors_total{{{NODE}}}[$__rate_interval]))) > 0",
                "{{node}} XID {{xid}}"),)),
    )),
    Row("Jobs, services, capacity", 8, (
        Panel("stacked", 8, "GPUs in use", "GPUs that jobs or containers hold, and those that are up and "
              "free.", "short",
              ((f"count by (cluster) (count by (cluster, node, gpu, uuid) (gpu_allocation_info{{{NODE}}}))",
                "{{cluster}} held"),
               (f"count by (cluster) (gpu_up{{{NODE}}} == 1 unless on (cluster, node, gpu, uuid) "
                "gpu_allocation_info)", "{{cluster}} free"))),
        Panel("lines", 8, "Training step", "Duration of a step of each job: a slow GPU lengthens its "
              "whole job's.", "s", ((f"training_step_duration_seconds{{{NODE}}}", "{{job_id}}"),),
              link="job"),
        Panel("lines", 8, "Queue", "Requests that wait for a worker.", "short",
              ((f"sum by (service) (inference_requests_waiting{{{CLUSTER}}})", "{{service}}"),),
              link="service"),
        Panel("lines", 8, "Replicas", "Workers that serve.", "short",
              ((f"max by (service) (inference_replicas{{{CLUSTER}}})", "{{service}}"),),
              link="service"),
    )),
)  # fmt: skip

BOARD = Board(
    "fleet", "the fleet", "What works, what does not, and what is done about it.",
    ("cluster", "node"), ROWS, since="now-30m",
)  # fmt: skip
