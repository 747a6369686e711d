"""Define the four stories of the demo: for each fault, the steps that must be observed.

A story is data. The director injects its fault and polls each expectation until it is met. An
expectation that is never met fails the demo.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fleetmedic.demo.observer import StackObserver
from fleetmedic.demo.timeline import TimelineRow
from fleetmedic.kernel.errors import shortened
from fleetmedic.kernel.labels import Target, TargetKind

Found = tuple[float, str, str]  # when, source, text
Find = Callable[[StackObserver, float], Found | None]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One step that must be observed. If it is not, `cause` is the likely reason and `log` the log to read."""

    what: str
    find: Find
    cause: str
    log: str


@dataclass(frozen=True, slots=True)
class Story:
    """A fault that was injected at `began` (Unix seconds), and the steps that must follow."""

    name: str
    began: float
    opening: TimelineRow
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class FaultTarget:
    """The GPU that gets the fault, and the job that runs on it ('' if none)."""

    node: str
    gpu: int
    uuid: str
    job_id: str = ""

    @property
    def target(self) -> str:
        """Return the GPU's name as in the journal, such as gpu/node1/0."""
        return str(Target(TargetKind.GPU, self.node, self.gpu))

    def selector(self, family: str, **labels: str) -> str:
        """Return a PromQL selector of this GPU's series."""
        every = {"node": self.node, "gpu": str(self.gpu), **labels}
        return family + "{" + ",".join(f'{key}="{value}"' for key, value in every.items()) + "}"


def _sample(what: str, selector: str, since: float, holds: Callable[[float], bool]) -> Expectation:
    def find(observer: StackObserver, now: float) -> Found | None:
        hit = observer.first_sample(selector, since, now, holds)
        return (
            None
            if hit is None
            else (hit[0], "Prometheus sample", f"{selector.split('{')[0]} = {hit[1]:g}")
        )

    return Expectation(what, find, "the exporter does not expose it, or is not scraped", "exporter")


def _alert(name: str, since: float, **labels: str) -> Expectation:
    def find(observer: StackObserver, _: float) -> Found | None:
        hit = observer.alert(since, name, **labels)
        return None if hit is None else (hit.starts_at, "Alertmanager startsAt", name)

    return Expectation("alert", find, f"the alert {name} does not fire", "prometheus")


def _journal(what: str, since: float, event: str, target: str = "", **data: str) -> Expectation:
    def find(observer: StackObserver, _: float) -> Found | None:
        hit = observer.event(since, event, target=target, **data)
        return None if hit is None else (hit["at"], f"journal {hit['seq']} {event}", _short(hit))

    cause = (
        "the remediator did not take this step; see `fleetmedic why " + (target or "TARGET") + "`"
    )
    return Expectation(what, find, cause, "remediator")


def _short(event: dict[str, Any]) -> str:
    return shortened(str(event["text"]).removesuffix("."), 90)


def _webhook(since: float, target: str, *alertnames: str) -> Expectation:
    """Return the expected step `webhook`: at least one of these alerts arrives.

    A fault can raise two alerts, and each of them starts the playbook.
    """
    kinds = [
        _journal("webhook", since, "AlertReceived", target, alertname=name) for name in alertnames
    ]

    def find(observer: StackObserver, now: float) -> Found | None:
        hits = [hit for kind in kinds if (hit := kind.find(observer, now)) is not None]
        return min(hits, default=None, key=lambda hit: hit[0])

    return replace(kinds[0], find=find)


def _steps(since: float, target: str, actions: tuple[tuple[str, str], ...]) -> list[Expectation]:
    return [_journal(what, since, "StepDone", target, action=action) for action, what in actions]


def _moved(fault_target: FaultTarget, since: float) -> Expectation:
    def find(observer: StackObserver, _: float) -> Found | None:
        job = observer.cluster.job(fault_target.job_id)
        if job.restarts == 0 or (job.node == fault_target.node and fault_target.gpu in job.gpus):
            return None
        said = observer.progress(job.node or "", fault_target.job_id)
        if said.get("restarts") != job.restarts or not said.get("step") or said["step_at"] < since:
            return None
        where = f"{job.node} GPUs {','.join(map(str, job.gpus))}"
        return float(said["step_at"]), "cluster store, job progress", f"trains on {where}"

    return Expectation(
        "job resumed",
        find,
        "no other node has enough free GPUs, or its start failed",
        "localcluster",
    )


def _closed(since: float, target: str) -> Expectation:
    return _journal("incident closed", since, "StateChanged", target, state="CLOSED")


def lost_story(fault_target: FaultTarget, at: float) -> Story:
    """Return the story of a GPU that falls off the bus under a training job."""
    target = fault_target.target
    steps = [
        *_steps(
            at, target, (("quarantine_gpu", "GPU quarantined"), ("restart_jobs", "job restarted"))
        ),
        _moved(fault_target, at),
        *_steps(
            at,
            target,
            (
                ("reset_gpu", "GPU reset"),
                ("verify", "repair verified"),
                ("release", "GPU back in service"),
            ),
        ),
    ]
    return Story(
        "GPU falls off the bus",
        at,
        TimelineRow(
            at,
            "GPU falls off the bus",
            "fault",
            "hardware directory",
            f"{target} of job {fault_target.job_id} lost",
        ),
        (
            _sample(
                "visible in metrics",
                fault_target.selector("gpu_lost"),
                at,
                lambda value: value == 1,
            ),
            _alert("GpuLost", at, node=fault_target.node, gpu=str(fault_target.gpu)),
            _webhook(at, target, "GpuLost", "GpuXidFatalHardware"),
            *steps,
            _closed(at, target),
        ),
    )


def slow_story(fault_target: FaultTarget, at: float, speed: float, usual_hertz: float) -> Story:
    """Return the story of a GPU that slows down without an error.

    Only a comparison with its peers in the job detects the fault.
    """
    target = fault_target.target
    name = "GPU slower than its peers"
    clock = fault_target.selector("gpu_clock_hertz", domain="sm")
    return Story(
        name,
        at,
        TimelineRow(
            at,
            name,
            "fault",
            "hardware directory",
            f"{target} of job {fault_target.job_id} at {speed:.0%} of its clock",
        ),
        (
            _sample("visible in metrics", clock, at, lambda value: value < 0.9 * usual_hertz),
            _alert("GpuPeerOutlier", at, node=fault_target.node, gpu=str(fault_target.gpu)),
            _webhook(at, target, "GpuPeerOutlier"),
            *_steps(
                at,
                target,
                (
                    ("quarantine_gpu", "GPU quarantined"),
                    ("signal_checkpoint", "checkpoint requested"),
                    ("restart_jobs", "job restarted"),
                ),
            ),
            _moved(fault_target, at),
            *_steps(
                at,
                target,
                (
                    ("reset_gpu", "GPU reset"),
                    ("verify", "repair verified"),
                    ("release", "GPU back in service"),
                ),
            ),
            _closed(at, target),
        ),
    )


def xid_story(fault_target: FaultTarget, at: float, xid: int, count: int) -> Story:
    """Return the story of an application error: a notification is sent, and nothing is quarantined."""
    name = "Application XID"
    target = fault_target.target
    errors = fault_target.selector("gpu_xid_errors_total", xid=str(xid))

    def not_quarantined(observer: StackObserver, now: float) -> Found | None:
        seen = observer.event(
            at, "AlertReceived", target=target, alertname="GpuXidApplicationRepeated"
        )
        if seen is None:
            return None
        passes = [
            e for e in observer.journal if e["event"] == "Reconciled" and e["at"] > seen["at"]
        ]
        if len(passes) < 2:
            return None
        views = [n for n in observer.cluster.nodes() if n.name == fault_target.node]
        touched = any(n.quarantined for n in views) or any(
            g.quarantined for n in views for g in n.gpus if g.index == fault_target.gpu
        )
        if touched or observer.event(at, "StepPrepared", target=target, action="quarantine_gpu"):
            return None
        source = f"journal {passes[1]['seq']} Reconciled"
        return passes[1]["at"], source, "not quarantined after two reconciler passes"

    return Story(
        name,
        at,
        TimelineRow(
            at, name, "fault", "hardware directory", f"{target} logs XID {xid} {count} times"
        ),
        (
            _sample("visible in metrics", errors, at, lambda value: value > 5),
            _alert(
                "GpuXidApplicationRepeated", at, node=fault_target.node, gpu=str(fault_target.gpu)
            ),
            _webhook(at, target, "GpuXidApplicationRepeated"),
            *_steps(at, target, (("notify", "notification recorded"),)),
            Expectation(
                "no quarantine",
                not_quarantined,
                "the GPU was quarantined because of an application error",
                "remediator",
            ),
        ),
    )


def load_story(at: float, replicas: int) -> Story:
    """Return the story of a load increase: the worker pool is scaled up until the queue is empty."""
    name = "Load increase"
    target = str(Target(TargetKind.WORKLOAD, "serve"))
    queue = 'inference_requests_waiting{service="serve"}'

    def grown(observer: StackObserver, now: float) -> Found | None:
        return _first(
            observer, 'inference_replicas{service="serve"}', at, now, lambda v: v > replicas
        )

    def drained(observer: StackObserver, now: float) -> Found | None:
        step = observer.event(at, "StepDone", target=target, action="scale")
        return None if step is None else _first(observer, queue, step["at"], now, lambda v: v <= 2)

    return Story(
        name,
        at,
        TimelineRow(
            at, name, "load", "load generator", f"more load than {replicas} workers can serve"
        ),
        (
            _sample("visible in metrics", queue, at, lambda value: value > 10),
            _alert("InferenceQueueGrowing", at, service="serve"),
            _webhook(at, target, "InferenceQueueGrowing"),
            *_steps(at, target, (("scale", "pool scaled"),)),
            Expectation(
                "new workers ready", grown, "the new workers did not start", "localcluster"
            ),
            Expectation(
                "queue drained", drained, "the pool is still too small for the load", "localcluster"
            ),
        ),
    )


def _first(
    observer: StackObserver, selector: str, since: float, now: float, holds: Callable[[float], bool]
) -> Found | None:
    hit = observer.first_sample(selector, since, now, holds)
    return (
        None
        if hit is None
        else (hit[0], "Prometheus sample", f"{selector.split('{')[0]} = {hit[1]:g}")
    )
