"""Assemble the facts about a GPU or node from what was gathered. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fleetmedic.kernel.labels import Target, TargetKind
from remediator import pools
from remediator.alert_evidence import IncidentEvidence
from remediator.cluster_snapshot import ClusterSnapshot
from remediator.clusters.base import JobFacts, NodeFacts
from remediator.core.facts import Facts, Identity, PoolFacts, TargetJob
from remediator.core.instruments import signals
from remediator.core.journal_state import JournalState
from remediator.core.model import Episode, Incident
from remediator.reported_hardware import Reported


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was gathered about an incident's GPU or node.

    `counted` are the alerts that are signals about the target. `other_hardware` contains the keys of
    alerts that name other hardware. `jobs` are the jobs on the target, `node_jobs` those on its node.
    """

    node: NodeFacts
    snapshot: ClusterSnapshot
    evidence: IncidentEvidence
    other_hardware: frozenset[str]
    counted: tuple[Episode, ...]
    identity: Identity
    pool: PoolFacts
    reported: Reported
    jobs: tuple[JobFacts, ...]
    node_jobs: tuple[JobFacts, ...]
    siblings: int
    widens: bool


def assemble(
    facts: Facts, incident: Incident, found: Gathered, journal_state: JournalState
) -> Facts:
    """Return the facts about an incident's GPU or node, without those that need a further query."""
    target, node = incident.target, found.node
    gpu = node.gpu(target.gpu) if target.gpu is not None else None
    own = gpu.quarantine if gpu is not None else node.quarantine
    whole = Target(TargetKind.NODE, node.name)
    witnesses = signals(found.counted, identified=found.identity.confirmed)
    # A dead job on a node with running jobs is no signal against the node.
    all_dead = bool(found.jobs) and not any(job.running for job in found.jobs)
    died = {"a job died on it"} if all_dead else set[str]()
    return replace(
        facts,
        identity=found.identity,
        evidence=found.evidence.combined(found.other_hardware),
        quarantine_owner=pools.owner_of(own, target, incident, journal_state),
        node_quarantine_owner=pools.owner_of(node.quarantine, whole, incident, journal_state),
        pool=found.pool,
        witnesses=witnesses | _complaints(target, node) | died,
        siblings=found.siblings,
        widens=found.widens,
        kept=pools.still_ours(incident, found.snapshot),
        node_others=pools.others_on(node, incident, journal_state),
        reported_hardware=found.reported.ordered,
        jobs=target_jobs(found.jobs),
        node_jobs=target_jobs(found.node_jobs),
    )


def target_jobs(found: Iterable[JobFacts]) -> tuple[TargetJob, ...]:
    """Return the properties of jobs that decisions use."""
    return tuple(TargetJob(job.job_id, job.running) for job in found)


def _complaints(target: Target, node: NodeFacts) -> frozenset[str]:
    """Return "the cluster" as a signal if the cluster itself reports the target as unhealthy."""
    gpu = node.gpu(target.gpu) if target.gpu is not None else None
    sick = not node.alive or (gpu is not None and gpu.marked is not None)
    return frozenset({"the cluster"} if sick else ())
