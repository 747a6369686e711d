"""Training jobs: their pace, who slows them, their checkpoints, and the GPUs they hold."""

from board import JOB, YES, Board, Panel, Row

OF_JOB = (
    "on (cluster, node, gpu, uuid) group_left (job_id) max by (cluster, node, gpu, uuid, job_id)"
)
HELD = f"{OF_JOB} (gpu_allocation_info{{{JOB}}})"

ROWS = (
    Row("Now", 4, (
        Panel("stat", 4, "Jobs", "Jobs that report that they run.", "short",
              ((f"count(count by (job_id) (training_running{{{JOB}}} == 1)) or vector(0)", "jobs"),)),
        Panel("stat", 4, "GPUs held", "GPUs that the chosen jobs hold.", "short",
              ((f'count(count by (cluster, uuid) (gpu_allocation_info{{{JOB},job_id!=""}}))', "GPUs"),)),
        Panel("stat", 4, "Slowest step", "Duration of a recent step of the slowest job.", "s",
              ((f"max(training_step_duration_seconds{{{JOB}}})", "step"),)),
        Panel("stat", 4, "Oldest step", "Since a job last made a step: a stall grows here.", "s",
              ((f"max(time() - training_last_step_timestamp_seconds{{{JOB}}})", "since"),)),
        Panel("stat", 4, "Oldest checkpoint", "Since a job last wrote one: so much work would be lost.",
              "s", ((f"max(time() - training_checkpoint_last_success_timestamp_seconds{{{JOB}}})",
                     "since"),)),
        Panel("stat", 4, "Restarts", "In this range.", "short",
              ((f"round(sum(max by (job_id) (increase(training_restarts_total{{{JOB}}}[$__range]))))",
                "restarts"),), warn_from=1),
    )),
    Row("Pace", 8, (
        Panel("lines", 8, "Step", "Duration of a recent step.", "s",
              ((f"max by (job_id) (training_step_duration_seconds{{{JOB}}})", "{{job_id}}"),)),
        Panel("lines", 8, "Waiting for data", "Share of a step in which the job waited for its loader.",
              "percentunit",
              ((f"max by (job_id) (training_data_wait_seconds{{{JOB}}} / training_step_duration_seconds)",
                "{{job_id}}"),), bad_from=0.3, alert="DataLoaderStarvesGpu"),
        Panel("lines", 8, "Samples", "A second, all ranks.", "short",
              ((f"sum by (job_id) (rate(training_samples_total{{{JOB}}}[$__rate_interval]))",
                "{{job_id}}"),)),
        Panel("lines", 12, "Computing, by rank", "Time of a step that each rank computes: the slowest "
              "one holds up the others.", "s",
              ((f"training_step_compute_seconds{{{JOB}}}", "{{job_id}} rank {{rank}} on {{node}}"),)),
        Panel("lines", 12, "Steps done", "It stands still in a stall, and goes back to the checkpoint "
              "when a job is restarted.", "short",
              ((f"max by (job_id) (training_step{{{JOB}}})", "{{job_id}}"),)),
        Panel("lines", 12, "Loss", "As the job reports it.", "none",
              ((f"max by (job_id) (training_loss{{{JOB}}})", "{{job_id}}"),)),
        Panel("states", 12, "Loss is a number", "No longer so, all further work is in vain.", "short",
              ((f"min by (job_id) (training_loss_finite{{{JOB}}})", "{{job_id}}"),),
              states={"0": ("no", "red"), "1": ("yes", "green")}),
    )),
    Row("Checkpoints", 8, (
        Panel("lines", 12, "Age of the checkpoint", "A saw; a tooth that goes on growing is overdue.", "s",
              ((f"time() - max by (job_id) (training_checkpoint_last_success_timestamp_seconds{{{JOB}}})",
                "{{job_id}}"),)),
        Panel("lines", 12, "Restarts so far", "Of each job, since it began.", "short",
              ((f"max by (job_id) (max_over_time(training_restarts_total{{{JOB}}}[1m]))",
                "{{job_id}}"),)),
    )),
    Row("Its GPUs", 8, (
        Panel("lines", 8, "Utilization", "Mean of the job's GPUs.", "percentunit",
              ((f"avg by (job_id) (gpu_utilization_ratio * {HELD})", "{{job_id}}"),), top=1,
              link="gpu"),
        Panel("lines", 8, "SM clock", "Each of the job's GPUs: a slow one lies below the others.", "hertz",
              ((f'gpu_clock_hertz{{domain="sm"}} * {HELD}', "{{job_id}} {{node}}/{{gpu}}"),),
              link="gpu"),
        Panel("lines", 8, "Power", "All of the job's GPUs.", "watt",
              ((f'sum by (job_id) (gpu_power_watts{{scope="gpu"}} * {HELD})', "{{job_id}}"),)),
        Panel("list", 12, "Where it runs", "GPUs that the chosen jobs hold.", "short",
              ((f'max by (job_id, user, node, gpu) (gpu_allocation_info{{{JOB},job_id!=""}})', "GPU"),)),
        Panel("states", 12, "A GPU of it is lost", "GPUs that are lost while the job holds them.", "short",
              ((f"max by (job_id) (gpu_lost * {HELD})", "{{job_id}}"),), states=YES),
    )),
)  # fmt: skip

BOARD = Board(
    "job", "a training job", "Pace, ranks, checkpoints and GPUs of training jobs.",
    ("cluster", "job_id"), ROWS,
)  # fmt: skip
