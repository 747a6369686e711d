"""Anomaly detectors: scores, thresholds, and the metrics that the detectors read."""

from board import GPU, NODE, Board, Panel, Row

SCORE = 'detector=~"$detector",target_cluster=~"$cluster",target_node=~"$node"'
PEER = "{{node}}/{{gpu}} of {{job_id}}"

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 6, "Successful detectors", "Number of selected detectors whose latest run succeeded. "
              "Normal is all of them.", "short",
              (('sum(detector_run_success{detector=~"$detector"})', "successful"),)),
        Panel("stat", 6, "Anomalous targets", "Number of targets whose score is above the threshold of the "
              "detector. Normal is 0; see Anomaly scores and thresholds.", "short",
              ((f"count(detector_score{{{SCORE}}} > on (detector) group_left () detector_threshold) "
                "or vector(0)", "anomalous"),), bad_from=1),
        Panel("stat", 6, "Time since last detector run", "Longest time since the last successful run of a selected "
              "detector. Alert DetectorModelStale fires after three intervals of the detector.", "s",
              (('max(time() - detector_last_run_timestamp_seconds{detector=~"$detector"})', "time"),)),
        Panel("stat", 6, "Firing anomaly alerts", "Number of firing alerts that come from detectors, in all "
              "clusters. Normal is 0.", "short",
              (('count(ALERTS{alertstate="firing",source="detector"}) or vector(0)', "firing"),),
              bad_from=1),
    )),
    Row("Scores", 9, (
        Panel("lines", 24, "Anomaly scores and thresholds", "Score of each target, and the threshold of each "
              "detector. A target above the threshold is anomalous; compare its metrics below.",
              "none", (
                  (f"detector_score{{{SCORE}}}", "{{detector}} {{target_node}}/{{gpu}}"),
                  ('detector_threshold{detector=~"$detector"}', "{{detector}} threshold"))),
    )),
    Row("Metrics read by the detectors", 9, (
        Panel("lines", 12, "SM clock deviation from job peers", "Distance of the SM clock of each GPU from the "
              "median of the GPUs of the same model in its job, in robust standard deviations (z-score). Normal is "
              "close to 0; a slow GPU is negative (alert GpuPeerOutlier).", "none",
              ((f"gpu:sm_clock_peer_z:ratio{{{GPU}}}", PEER),), signed=True),
        Panel("lines", 12, "SM clock", "SM clock of each GPU, in Hz. The deviation from job peers is computed "
              "from it.", "hertz",
              ((f'gpu_clock_hertz{{{GPU},domain="sm"}}', "{{node}}/{{gpu}}"),), link="gpu"),
        Panel("lines", 8, "GPU utilization", "Share of time in which kernels ran on each GPU.", "percentunit",
              ((f"gpu_utilization_ratio{{{GPU}}}", "{{node}}/{{gpu}}"),), top=1),
        Panel("lines", 8, "GPU temperature", "Temperature of each GPU, in °C.", "celsius",
              ((f'gpu_temperature_celsius{{{GPU},sensor="gpu"}}', "{{node}}/{{gpu}}"),)),
        Panel("lines", 8, "GPU power draw", "Power draw of each GPU, in watts.", "watt",
              ((f'gpu_power_watts{{{GPU},scope="gpu"}}', "{{node}}/{{gpu}}"),)),
    )),
    Row("Alerts and jobs", 8, (
        Panel("states", 12, "Anomaly alerts over time", "Periods in which each alert of a detector fired. "
              "Normal is an empty panel.", "short",
              (('max by (alertname, node, gpu) (ALERTS{alertstate="firing",source="detector"})',
                "{{alertname}} {{node}}/{{gpu}}"),), states={"1": ("firing", "red")}),
        Panel("lines", 12, "Training step duration", "Duration of a recent step of each job, in seconds. It "
              "shows how much a slow GPU delays its job.", "s",
              ((f"training_step_duration_seconds{{{NODE}}}", "{{job_id}}"),), link="job"),
    )),
)  # fmt: skip

BOARD = Board(
    "anomalies", "Anomalies", "Anomaly scores and thresholds of the detectors, and the metrics that they read.",
    ("cluster", "node", "gpu", "detector"), ROWS,
)  # fmt: skip
