"""Training jobs: progress, slow ranks, data loading, checkpoints, and the GPUs that they hold."""

from board import JOB, YES, Board, Panel, Row

OF_JOB = (
    "on (cluster, node, gpu, uuid) group_left (job_id) max by (cluster, node, gpu, uuid, job_id)"
)
HELD = f"{OF_JOB} (gpu_allocation_info{{{JOB}}})"

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 4, "Running jobs", "Number of selected jobs that report that they run.", "short",
              ((f"count(count by (job_id) (training_running{{{JOB}}} == 1)) or vector(0)", "jobs"),)),
        Panel("stat", 4, "Allocated GPUs", "Number of GPUs that the selected jobs hold.", "short",
              ((f'count(count by (cluster, uuid) (gpu_allocation_info{{{JOB},job_id!=""}}))', "GPUs"),)),
        Panel("stat", 4, "Longest step", "Duration of a recent step of the slowest job, in seconds.", "s",
              ((f"max(training_step_duration_seconds{{{JOB}}})", "step"),)),
        Panel("stat", 4, "Time since last step", "Longest time since a job completed a step. It grows while a "
              "job stalls; see the runbook of alert TrainingStalled.", "s",
              ((f"max(training_step_age_seconds{{{JOB}}})", "time"),)),
        Panel("stat", 4, "Oldest checkpoint", "Longest time since a job completed a checkpoint. A failure "
              "loses the work since the last checkpoint.",
              "s", ((f"max(time() - training_checkpoint_last_success_timestamp_seconds{{{JOB}}})",
                     "age"),)),
        Panel("stat", 4, "Restarts", "Number of restarts of the selected jobs in the selected time range. "
              "Normal is 0; see the runbook of alert TrainingRestartLoop.", "short",
              ((f"round(sum(max by (job_id) (increase(training_restarts_total{{{JOB}}}[$__range]))))",
                "restarts"),), warn_from=1),
    )),
    Row("Progress", 8, (
        Panel("lines", 8, "Step duration", "Duration of a recent step of each job, in seconds. A jump often "
              "means that a rank, the network or the data loader became slow.", "s",
              ((f"max by (job_id) (training_step_duration_seconds{{{JOB}}})", "{{job_id}}"),)),
        Panel("lines", 8, "Data loader wait", "Share of a step in which the job waits for its data loader. "
              "Alert DataLoaderStarvesGpu fires above 30 %.",
              "percentunit",
              ((f"max by (job_id) (training_data_wait_seconds{{{JOB}}} / training_step_duration_seconds)",
                "{{job_id}}"),), bad_from=0.3, alert="DataLoaderStarvesGpu"),
        Panel("lines", 8, "Training throughput", "Samples per second over all ranks of each job.", "short",
              ((f"sum by (job_id) (rate(training_samples_total{{{JOB}}}[$__rate_interval]))",
                "{{job_id}}"),)),
        Panel("lines", 12, "Compute time per step by rank", "Time that each rank computes in a step, in seconds, "
              "without waiting. A rank above the others is a straggler and delays them; check its GPU and "
              "node.", "s",
              ((f"training_step_compute_seconds{{{JOB}}}", "{{job_id}} rank {{rank}} on {{node}}"),)),
        Panel("lines", 12, "Current step", "Number of the latest step. It stays constant while a job stalls, "
              "and returns to the step of the checkpoint after a restart.", "short",
              ((f"max by (job_id) (training_step{{{JOB}}})", "{{job_id}}"),)),
        Panel("lines", 12, "Training loss", "Latest loss that each job reports. There is no value while the "
              "loss is NaN or Inf.", "none",
              ((f"max by (job_id) (training_loss{{{JOB}}})", "{{job_id}}"),), signed=True),
        Panel("states", 12, "Loss is finite (no NaN or Inf)", "Whether the latest loss is finite. After NaN or "
              "Inf the job does no useful work; see the runbook of alert TrainingLossNotFinite.", "short",
              ((f"min by (job_id) (training_loss_finite{{{JOB}}})", "{{job_id}}"),),
              states={"0": ("no", "red"), "1": ("yes", "green")}),
    )),
    Row("Checkpoints and restarts", 8, (
        Panel("lines", 12, "Checkpoint age by job", "Time since the latest complete checkpoint. Normal is a "
              "sawtooth; a steady rise means that checkpoints are overdue (alert TrainingCheckpointOverdue).",
              "s",
              ((f"time() - max by (job_id) (training_checkpoint_last_success_timestamp_seconds{{{JOB}}})",
                "{{job_id}}"),)),
        Panel("lines", 12, "Total restarts by job", "Number of restarts of each job since the job began.", "short",
              ((f"max by (job_id) (max_over_time(training_restarts_total{{{JOB}}}[1m]))",
                "{{job_id}}"),)),
    )),
    Row("GPUs of the jobs", 8, (
        Panel("lines", 8, "GPU utilization", "Share of time in which kernels ran, averaged over the GPUs of each "
              "job.", "percentunit",
              ((f"avg by (job_id) (gpu_utilization_ratio * {HELD})", "{{job_id}}"),), top=1,
              link="gpu"),
        Panel("lines", 8, "SM clock", "SM clock of each GPU of the jobs, in Hz. A GPU below the others "
              "is slow; see the GPU dashboard.", "hertz",
              ((f'gpu_clock_hertz{{domain="sm"}} * {HELD}', "{{job_id}} {{node}}/{{gpu}}"),),
              link="gpu"),
        Panel("lines", 8, "GPU power draw", "Sum of the power draw of all GPUs of each job, in watts.", "watt",
              ((f'sum by (job_id) (gpu_power_watts{{scope="gpu"}} * {HELD})', "{{job_id}}"),)),
        Panel("list", 12, "GPU allocations", "Node and GPU of each GPU that the selected jobs hold.", "short",
              ((f'max by (job_id, user, node, gpu) (gpu_allocation_info{{{JOB},job_id!=""}})', "GPU"),)),
        Panel("states", 12, "Job holds a lost GPU", "Whether at least one GPU of the job is lost. Normal is no; "
              "see the runbook of alert GpuLost.", "short",
              ((f"max by (job_id) (gpu_lost * {HELD})", "{{job_id}}"),), states=YES),
    )),
)  # fmt: skip

BOARD = Board(
    "job", "Training jobs", "Progress, ranks, data loading, checkpoints, restarts and GPUs of training jobs.",
    ("cluster", "job_id"), ROWS,
)  # fmt: skip
