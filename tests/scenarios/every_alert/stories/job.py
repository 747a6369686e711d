"""Faults of jobs, pipelines and services, which report through fleetmedic.progress, and GPU allocation."""

from __future__ import annotations

import math

from every_alert import forge
from every_alert.fleet import Fleet
from every_alert.story import Story
from fleetmedic.hardware.faults import inject

SATURATED = 40.0  # requests per second above the capacity of the two workers of the pool
SLOW_QUEUE = 20_000.0


def _of(job: str) -> dict[str, str]:
    return {"cluster": "hall", "job_id": job}


def _stalls(fleet: Fleet) -> None:
    fleet.training["train-a"].stalled = True


def _diverges(fleet: Fleet) -> None:
    fleet.training["train-b"].loss = math.nan


def _restarts(fleet: Fleet) -> None:
    fleet.training["train-c"].start(restarts=5)


def _keeps_nothing(fleet: Fleet) -> None:
    fleet.training["train-d"].checkpoints = False


def _lags(fleet: Fleet) -> None:
    fleet.training["train-e"].slow_rank = 2


def _starves(fleet: Fleet) -> None:
    fleet.training["train-f"].waits = 0.3


def _slows_down(fleet: Fleet) -> None:
    for gpu in forge.gpus(fleet):
        inject(forge.hardware(fleet), "node1", gpu, "slow", speed=0.7)


def _leaves(fleet: Fleet) -> None:
    fleet.loads.set(fleet.rack, "node1", (fleet.gpu_of("notebook"),), 0.0)


def _idles(fleet: Fleet) -> None:
    fleet.loads.set(fleet.rack, "node1", (fleet.gpu_of("meagre"),), 0.08)


def _last_gpu(fleet: Fleet) -> None:
    fleet.hold("one-more")


def _queue(fleet: Fleet) -> None:
    fleet.each_beat(lambda: fleet.outside.waits.extend([SLOW_QUEUE] * 3))


def _pipeline_stalls(fleet: Fleet) -> None:
    fleet.data["tokenise"].backlog = 50
    fleet.data["tokenise"].stopped = True


def _pipeline_late(fleet: Fleet) -> None:
    fleet.data["nightly"].stopped = True


def _rush(fleet: Fleet) -> None:
    fleet.demand(SATURATED + 40.0)


def _nobody(fleet: Fleet) -> None:
    fleet.demand(0.0)


def _slow_answers(fleet: Fleet) -> None:
    fleet.servers["search"].seconds = 4.0


def _stuck(fleet: Fleet) -> None:
    fleet.servers["draft"].stuck = True


def _errors(fleet: Fleet) -> None:
    fleet.servers["chat"].failing = 1


STORIES = (
    Story("Training job train-a completes no more steps, and its processes keep running.", {"TrainingStalled": _of("train-a")}, _stalls),
    Story("The loss of train-b becomes NaN.", {"TrainingLossNotFinite": _of("train-b")}, _diverges),
    Story("train-c restarts five times.", {"TrainingRestartLoop": _of("train-c")}, _restarts),
    Story("train-d, with a checkpoint interval of 4 s, stops writing checkpoints.", {"TrainingCheckpointOverdue": _of("train-d")}, _keeps_nothing),
    Story("One of the four ranks of train-e computes 40 % longer than the others.", {"TrainingStraggler": {**_of("train-e"), "rank": "2"}}, _lags),
    Story(
        "All four GPUs of a job of cluster forge run at 70 % of their clock, without an error.",
        {"GpuJobClockDropped": {"cluster": "forge", "job_id": forge.JOB}},
        _slows_down,
    ),
    Story("train-f waits for data for 0.3 s in each step of 0.5 s.", {"DataLoaderStarvesGpu": _of("train-f")}, _starves),
    Story("A job of cluster rack stops using the GPU that it holds.", {"GpuAllocatedIdle": {"cluster": "rack", "job_id": "notebook"}}, _leaves),
    Story("A job of cluster rack uses 8 % of its GPU.", {"GpuJobLowEfficiency": {"cluster": "rack", "job_id": "meagre"}}, _idles, slow=True),
    Story("Three of the twelve GPUs of cluster hall, all in hall-1, are down.", {"GpuPoolShrunk": {"cluster": "hall"}}, lambda _: None, after=frozenset({"GpuLost", "GpuHung"})),
    Story("A job takes the last free GPU of cluster rack.", {"GpuPoolSaturated": {"cluster": "rack"}}, _last_gpu, factor=720),
    Story(
        "Most jobs of a queue wait more than five hours before they start.",
        {"GpuQueueWaitLong": {"cluster": "hall", "queue": "big"}},
        _queue, instead="the scheduler of the site: a page with its histogram",
    ),
    Story("Pipeline tokenise processes nothing, with 50 records in its input.", {"PipelineProgressStalled": {"pipeline": "tokenise"}}, _pipeline_stalls),
    Story("Pipeline nightly, with an interval of 6 s, no longer completes.", {"PipelineLate": {"pipeline": "nightly"}}, _pipeline_late),
    Story("The worker pool receives twice as many requests as it can handle.", {"InferenceQueueGrowing": {"cluster": "rack", "service": "serve"}}, _rush),
    Story(
        "The worker pool receives no more requests.",
        {"InferenceOverProvisioned": {"cluster": "rack", "service": "serve"}},
        _nobody, after=frozenset({"InferenceQueueGrowing"}),
    ),
    Story(
        "Service search, with a latency objective of 1 s, takes 4 s per request.",
        {"InferenceLatencyHigh": {"service": "search"}},
        _slow_answers, instead="the metric with the site's latency objective: a page that exports it",
    ),
    Story("A replica of draft holds two requests and generates no tokens.", {"InferenceReplicaStuck": {"service": "draft", "replica": "a"}}, _stuck),
    Story(
        "One request in five to service chat fails with a server error.",
        {"InferenceErrorBudgetBurnFast": {"service": "chat"}, "InferenceErrorBudgetBurnSlow": {"service": "chat"}},
        _errors,
    ),
)  # fmt: skip
