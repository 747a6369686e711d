"""What the detectors see: scores against their thresholds, and the series themselves."""

from board import GPU, NODE, Board, Panel, Row

SCORE = 'detector=~"$detector",target_cluster=~"$cluster",target_node=~"$node"'
PEER = "{{node}}/{{gpu}} of {{job_id}}"

ROWS = (
    Row("Now", 4, (
        Panel("stat", 6, "Detectors that ran", "Whose latest run succeeded.", "short",
              (('sum(detector_run_success{detector=~"$detector"})', "ran"),)),
        Panel("stat", 6, "Targets called sick", "Whose score lies above the threshold.", "short",
              ((f"count(detector_score{{{SCORE}}} > on (detector) group_left () detector_threshold) "
                "or vector(0)", "sick"),), bad_from=1),
        Panel("stat", 6, "Oldest run", "Since a detector last ran; rules that are too old are no longer "
              "believed.", "s",
              (('max(time() - detector_last_run_timestamp_seconds{detector=~"$detector"})', "since"),)),
        Panel("stat", 6, "Anomaly alerts", "Alerts of detectors that fire.", "short",
              (('count(ALERTS{alertstate="firing",source="detector"}) or vector(0)', "fire"),),
              bad_from=1),
    )),
    Row("Scores", 9, (
        Panel("lines", 24, "Scores and thresholds", "Above the line a detector calls its target sick.",
              "none", (
                  (f"detector_score{{{SCORE}}}", "{{detector}} {{target_node}}/{{gpu}}"),
                  ('detector_threshold{detector=~"$detector"}', "{{detector}}: threshold"))),
    )),
    Row("The series", 9, (
        Panel("lines", 12, "Clock against the job's peers", "How far a GPU lies from the middle of its "
              "job, in spreads: the band of the healthy is narrow around 0.", "none",
              ((f"gpu:sm_clock_peer_z:ratio{{{GPU}}}", PEER),)),
        Panel("lines", 12, "SM clock", "What that is computed from.", "hertz",
              ((f'gpu_clock_hertz{{{GPU},domain="sm"}}', "{{node}}/{{gpu}}"),), link="gpu"),
        Panel("lines", 8, "Utilization", "Of each GPU.", "percentunit",
              ((f"gpu_utilization_ratio{{{GPU}}}", "{{node}}/{{gpu}}"),), top=1),
        Panel("lines", 8, "Temperature", "Of each GPU.", "celsius",
              ((f'gpu_temperature_celsius{{{GPU},sensor="gpu"}}', "{{node}}/{{gpu}}"),)),
        Panel("lines", 8, "Power", "Of each GPU.", "watt",
              ((f'gpu_power_watts{{{GPU},scope="gpu"}}', "{{node}}/{{gpu}}"),)),
    )),
    Row("Alerts and jobs", 8, (
        Panel("states", 12, "Alerts of detectors", "When which one fired.", "short",
              (('max by (alertname, node, gpu) (ALERTS{alertstate="firing",source="detector"})',
                "{{alertname}} {{node}}/{{gpu}}"),), states={"1": ("firing", "red")}),
        Panel("lines", 12, "Training step", "What a slow GPU costs its job.", "s",
              ((f"training_step_duration_seconds{{{NODE}}}", "{{job_id}}"),), link="job"),
    )),
)  # fmt: skip

BOARD = Board(
    "anomalies", "anomalies", "Scores of the detectors beside the series that they judge.",
    ("cluster", "node", "gpu", "detector"), ROWS,
)  # fmt: skip
