"""Fleet overview: health of all GPUs and nodes, firing alerts, incidents and actions."""

from board import CLUSTER, NODE, UP, YES, Board, Panel, Row
from remediation import ACTIONS, OPEN, PAUSED, WAITING

FIRING = 'ALERTS{alertstate="firing",severity!="none",cluster=~"$cluster|"}'

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 3, "GPUs up", "Number of GPUs that are present and respond. Normal is the expected "
              "number of GPUs; the difference is shown in GPUs missing.", "short",
              ((f"sum(gpu_up{{{NODE}}})", "up"),)),
        Panel("stat", 3, "GPUs missing", "Number of expected GPUs minus GPUs up. Normal is 0. GPUs by state "
              "shows whether the missing GPUs are lost or hung.",
              "short", ((f"sum(gpu_expected{{{NODE}}}) - sum(gpu_up{{{NODE}}})", "missing"),),
              bad_from=1),
        Panel("stat", 3, "Nodes down", "Number of nodes whose exporter does not respond. Normal is 0. The "
              "state of their GPUs is unknown, and the GPU panels do not count them.",
              "short", ((f'sum(1 - up{{job="node",{NODE}}})', "down"),), bad_from=1),
        Panel("stat", 3, "Critical alerts", "Number of firing alerts of severity critical in all clusters. "
              "Normal is 0; see Firing alerts below.", "short",
              (('count(ALERTS{alertstate="firing",severity="critical"}) or vector(0)', "critical"),),
              bad_from=1),
        Panel("stat", 3, "Out of service", "Number of GPUs and nodes that are out of service, by any owner. "
              "Normal is 0; see the Remediation dashboard.", "short",
              (("sum(remediator_targets_out) or vector(0)", "out of service"),),
              bad_from=1),
        Panel("stat", 3, "Held or escalated", "Number of incidents that are held, await approval or are "
              "escalated to an operator. Normal is 0; see the Remediation dashboard.", "short", WAITING,
              bad_from=1),
        Panel("stat", 3, "Paused", "Whether an operator has paused the remediator. Normal is no; a paused "
              "remediator takes no action.", "short",
              PAUSED, states=YES),
        Panel("stat", 3, "Simulated GPUs", "Whether any of the selected nodes has simulated GPUs.", "short",
              ((f"max(gpu_exporter_simulated{{{NODE}}})", "simulated"),),
              states={"0": ("no", "green"), "1": ("yes", "blue")}),
    )),
    Row("Alerts and incidents", 8, (
        Panel("list", 12, "Firing alerts", "All firing alerts except the Watchdog, with their targets. Each "
              "alert has a runbook.", "short",
              ((f"max by (severity, alertname, cluster, node, gpu, job_id) ({FIRING})", "alert"),)),
        Panel("states", 12, "Firing alerts over time", "Periods in which each alert fired, in all clusters. "
              "The Watchdog is not shown.", "short",
              (('max by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"})',
                "{{alertname}}"),), states={"1": ("firing", "red")}),
        Panel("stacked", 12, "Incidents by state", "Number of open incidents in each state. "
              "Normal is 0; the Remediation dashboard has the details.", "short",
              ((f"sum by (state) ({OPEN})", "{{state}}"),),
              link="remediation"),
        Panel("lines", 12, "Remediation actions", "Number of actions that ended, by action and result. "
              "The Remediation dashboard lists the failed actions.", "short",
              ACTIONS, link="remediation"),
    )),
    Row("GPUs", 8, (
        Panel("stacked", 12, "GPUs by state", "Number of GPUs that are up, hung or lost. Normally all "
              "expected GPUs are up.", "short", (
                  (f"sum(gpu_up{{{NODE}}})", "up"),
                  (f"sum(1 - gpu_responding{{{NODE}}})", "hung"),
                  (f"sum(gpu_lost{{{NODE}}})", "lost"))),
        Panel("states", 12, "Lost or hung GPUs", "State of each GPU that was lost or hung at any time in the "
              "selected time range. Normal is an empty panel; see the GPU dashboard.", "short",
              ((f"gpu_up{{{NODE}}} and on (cluster, uuid) (min_over_time(gpu_up[$__range]) == 0)",
                "{{node}}/{{gpu}}"),), states=UP, link="gpu"),
        Panel("lines", 12, "GPU utilization by node", "Share of time in which kernels ran, averaged over "
              "the GPUs of each node.",
              "percentunit", ((f"avg by (node) (gpu_utilization_ratio{{{NODE}}})", "{{node}}"),),
              top=1),
        Panel("lines", 12, "SM clock relative to peers", "SM clock of each busy GPU (utilization above 50 %) "
              "divided by the median of the busy GPUs of its node. Normal is close to 100 %. A single GPU "
              "below its peers is slow: look for throttling on the GPU dashboard.", "percentunit",
              ((f'(gpu_clock_hertz{{{NODE},domain="sm"}} and on (cluster, uuid) '
                f"gpu_utilization_ratio{{{NODE}}} > 0.5) / on (cluster, node) group_left () "
                f'quantile by (cluster, node) (0.5, gpu_clock_hertz{{{NODE},domain="sm"}} and on '
                f"(cluster, uuid) gpu_utilization_ratio{{{NODE}}} > 0.5)", "{{node}}/{{gpu}}"),)),
        Panel("lines", 8, "Highest GPU temperature by node", "Temperature of the hottest GPU of each node, "
              "in °C. The line \"slowdown\" is the lowest temperature at which a GPU reduces its clocks.",
              "celsius",
              ((f'max by (node) (gpu_temperature_celsius{{{NODE},sensor="gpu"}})', "{{node}}"),
               (f'min(gpu_temperature_threshold_celsius{{{NODE},threshold="slowdown"}})',
                "slowdown"))),
        Panel("lines", 8, "GPU power draw by node", "Sum of the power draw of all GPUs of a node, in watts.",
              "watt",
              ((f'sum by (node) (gpu_power_watts{{{NODE},scope="gpu"}})', "{{node}}"),)),
        Panel("lines", 8, "XID errors by code", "Number of XID errors that the driver reported, by node and "
              "code. Normal is none; the runbooks of the XID alerts explain the codes.", "short",
              ((f"round(sum by (node, xid) (increase(gpu_xid_errors_total{{{NODE}}}[$__rate_interval]))) > 0",
                "{{node}} XID {{xid}}"),)),
    )),
    Row("Jobs, services and capacity", 8, (
        Panel("stacked", 8, "Allocated and free GPUs", "Number of GPUs that jobs or containers hold, and "
              "number of GPUs that are up and not allocated.", "short",
              ((f"count by (cluster) (count by (cluster, node, gpu, uuid) (gpu_allocation_info{{{NODE}}}))",
                "{{cluster}} allocated"),
               (f"count by (cluster) (gpu_up{{{NODE}}} == 1 unless on (cluster, node, gpu, uuid) "
                "gpu_allocation_info)", "{{cluster}} free"))),
        Panel("lines", 8, "Training step duration", "Duration of a recent training step of each job, in "
              "seconds. One slow GPU slows down the whole job; see the Training jobs dashboard.", "s",
              ((f"training_step_duration_seconds{{{NODE}}}", "{{job_id}}"),),
              link="job"),
        Panel("lines", 8, "Inference requests waiting", "Number of requests that wait for a replica, by "
              "service. A growing queue usually means too few replicas; see the Services and SLOs dashboard.", "short",
              ((f"sum by (service) (inference_requests_waiting{{{CLUSTER}}})", "{{service}}"),),
              link="service"),
        Panel("lines", 8, "Inference replicas", "Number of replicas that take requests, by service.", "short",
              ((f"max by (service) (inference_replicas{{{CLUSTER}}})", "{{service}}"),),
              link="service"),
    )),
)  # fmt: skip

BOARD = Board(
    "fleet", "Fleet overview", "Health of all GPUs and nodes, firing alerts, incidents and remediation actions.",
    ("cluster", "node"), ROWS, since="now-30m",
)  # fmt: skip
