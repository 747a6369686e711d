"""Query Prometheus for decisions. A missing result means unknown, not zero or healthy."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetmedic.alerting import instruments, reports
from fleetmedic.kernel.clock import monotonic
from fleetmedic.kernel.labels import CLUSTER, GPU, JOB_ID, NODE, SERVICE, WATCHDOG, Target
from remediator.core.model import Alert
from remediator.health import WHERE_KNOWN, Health, HealthReport, judge_health
from remediator.http import HttpError
from remediator.prometheus import PrometheusClient, QuerySample

TTL = 1.0
FRESH_SCRAPES = 3
SCRAPE_MARGIN = 5.0
SICK_FOR_SURE = 15.0
# A job is stalled if its last step is older than this (seconds) and than ten step durations.
STALLED = 30.0
OLD_STALL = 3600.0


# An alert that is active in Alertmanager must have fired in Prometheus within this time (seconds), because a
# rule reload leaves gaps. The alert of an event may have ended long ago.
FIRED_LATELY = 60
FIRED_EVER = 6 * 3600
RULES_TTL = 60.0
# A node that two exporters reported within this time (seconds) is not identified.
DOUBLED_FOR = 300
# How long (seconds) the UUIDs that an exporter reported are remembered while Prometheus does not answer.
REPORTED_FOR = 300.0
# The instrument decides what a signal counts, so the rule itself must have declared it.
_ABOUT = (CLUSTER, NODE, GPU, JOB_ID, SERVICE, instruments.LABEL)


def _series_of(alert: Alert, **more: str) -> str:
    """Return the selector of the series `ALERTS` and `ALERTS_FOR_STATE` of an alert."""
    about = {name: alert.labels[name] for name in _ABOUT if alert.labels.get(name)}
    # A scraped series of that name has these two labels; the series of an alert has not.
    scraped = {name: alert.labels.get(name, "") for name in ("instance", "job")}
    # Without this label a copy of an alert would count as a condition, so its absence is compared too.
    declared = {reports.LABEL: alert.labels.get(reports.LABEL, "")}
    given = {"alertname": alert.name} | more | about | declared | scraped
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in given.items()) + "}"


@dataclass(slots=True)
class _Exporters:
    """The last result about which exporters are up, and its time (monotonic seconds)."""

    up: dict[str, bool] | None = None
    doubled: frozenset[str] = frozenset()
    asked: float = -1e9


class Sensors:
    """Queries Prometheus about nodes, GPUs, jobs and alerts.

    `prometheus` is None if none is configured. `now` returns Unix seconds. Every selector contains the label `cluster`, because
    node names can repeat across clusters.
    """

    def __init__(
        self,
        prometheus: PrometheusClient | None,
        *,
        cluster: str,
        scrape_interval: float,
        now: Callable[[], float],
    ) -> None:
        self._now = now
        self._prometheus = prometheus
        self._cluster = cluster
        self._scrape = scrape_interval
        self._exporters = _Exporters()
        self._rules: frozenset[str] | None = None
        self._rules_asked = -1e9
        # The last answer about the UUIDs that a node's exporter reported, and its time (monotonic seconds).
        self._reported: dict[str, tuple[float, dict[str, float]]] = {}

    async def exporters_up(self, *, fresh: bool = False) -> dict[str, bool] | None:
        """Return, for each node, whether the last scrape of at least one of its exporters
        succeeded. Returns None if this is unknown. `fresh`: do not use the last result."""
        if self._prometheus is None:
            return None
        if fresh or monotonic() - self._exporters.asked > TTL:
            self._exporters.asked = monotonic()
            found, stopped, doubled = await asyncio.gather(
                self._ask("up" + self._of(job="node")),
                self._scrapes_stopped(),
                self._doubled_lately(),
            )
            if stopped or doubled is None:
                found = None
            responding = {one.labels.get("node", "") for one in found or () if one.value == 1}
            self._exporters.doubled = doubled or frozenset()
            # A node with a target that is left over is up while its exporter responds.
            self._exporters.up = (
                None
                if found is None
                else {
                    node: node in responding
                    for node in {one.labels.get("node", "") for one in found}
                }
            )
        return self._exporters.up or None

    def doubled(self, node: str) -> bool:
        """Return whether two exporters reported the same node within DOUBLED_FOR seconds before the last
        result of `exporters_up`."""
        return node in self._exporters.doubled

    async def _scrapes_stopped(self) -> bool:
        """Return whether Prometheus has scraped no exporter lately, for example because it was suspended.

        Prometheus shows old samples for five minutes.
        """
        oldest = FRESH_SCRAPES * self._scrape + SCRAPE_MARGIN
        age = f"min(time() - timestamp(up{self._of(job='node')}))"
        return bool(await self._ask(f"{age} > {oldest:g}"))

    async def _doubled_lately(self) -> frozenset[str] | None:
        """Return the nodes that two exporters reported at the same time; None if unknown.

        Events on the pages of both still count after one of them is gone. A subquery is evaluated at multiples
        of its step only, so the present moment is asked about separately.
        """
        responding = f"count by (node) (up{self._of(job='node')} == 1)"
        step = max(1, math.ceil(self._scrape))
        lately = f"max_over_time({responding}[{DOUBLED_FOR}s:{step}s])"
        found = await self._ask(f"{lately} > 1 or {responding} > 1")
        return None if found is None else frozenset(one.labels.get("node", "") for one in found)

    async def health(
        self, target: Target, since: float, now: float, *, settles: bool = True
    ) -> HealthReport:
        """Judge a GPU or node by metrics sampled after `since` (Unix seconds)."""
        if self._prometheus is None:
            return HealthReport(Health.UNKNOWN, "No Prometheus is configured.")
        try:
            samples = await self._health_samples(self._prometheus, target, now)
            frozen = await self._page_is_frozen(self._prometheus, target.name)
        except HttpError as error:
            return HealthReport(Health.UNKNOWN, str(error))
        if frozen:
            text = f"The exporter of {target.name} is scraped, but its page does not change."
            return HealthReport(Health.UNKNOWN, text)
        settle = SICK_FOR_SURE if settles else 0.0
        return judge_health(
            samples, target, since, now, oldest=FRESH_SCRAPES * self._scrape, settle=settle
        )

    async def _page_is_frozen(self, prometheus: PrometheusClient, node: str) -> bool:
        """Return whether the last pages of a node's exporter are copies of one page, for example of a proxy.

        Prometheus dates the samples of a copy with the time of the scrape, so they look fresh. Raises
        HttpError.
        """
        page = f"node_time_seconds{self._of(node=node)}[{math.ceil(4 * self._scrape)}s]"
        return bool(
            await prometheus.query(f"changes({page}) == 0 and count_over_time({page}) >= 3")
        )

    async def last_xid(self, target: Target, xid: str = "") -> float | None:
        """Return when the latest XID of a GPU was logged (Unix seconds). With `xid`, only that code counts."""
        code = {"xid": xid} if xid else {}
        selector = self._of(node=target.name, gpu=str(target.gpu), **code)
        return await self._largest(self._node_time(f"gpu_xid_last_timestamp_seconds{selector}"))

    async def fires(self, alert: Alert, *, event: bool) -> bool | None:
        """Return whether the alert fires or recently fired in Prometheus; None if this is unknown.

        True without Prometheus, or if another ruler evaluates the project's rules.
        """
        if self._prometheus is None:
            return True
        rules = await self._rule_names(self._prometheus)
        if rules is None:
            return None
        if alert.name not in rules:
            # If Prometheus evaluates our rules, an alert without a rule there is not confirmed.
            return WATCHDOG not in rules
        # An event that is over was firing at some time since its alert began, and not only before.
        since_start = self._now() - alert.starts_at + FIRED_LATELY
        window = min(FIRED_EVER, max(FIRED_LATELY, since_start)) if event else FIRED_LATELY
        chosen = _series_of(alert, alertstate="firing")
        found = await self._ask(f"count(last_over_time(ALERTS{chosen}[{window:.0f}s]))")
        return None if found is None else bool(found)

    async def active_since(self, alert: Alert) -> float | None:
        """Return the time at which the alert's latest episode began in Prometheus (Unix seconds)."""
        chosen = _series_of(alert)
        return await self._largest(f"max(last_over_time(ALERTS_FOR_STATE{chosen}[{FIRED_EVER}s]))")

    async def last_uncorrectable(self, target: Target) -> float | None:
        """Return when the GPU's count of uncorrectable memory errors last rose (Unix seconds).

        Only the last hour is searched.
        """
        count = "gpu_ecc_errors_total" + self._of(
            node=target.name, gpu=str(target.gpu), error="uncorrected", scope="volatile"
        )
        step = f"{max(5, math.ceil(self._scrape))}s"
        rose = f"(timestamp({count}) and ({count} > {count} offset {step}))"
        return await self._largest(f"max(max_over_time({rose}[1h:{step}]))")

    async def _rule_names(self, prometheus: PrometheusClient) -> frozenset[str] | None:
        """Return the names of the alerts that Prometheus evaluates; None before its first response."""
        if monotonic() - self._rules_asked > (RULES_TTL if self._rules is not None else TTL):
            self._rules_asked = monotonic()
            try:
                self._rules = await prometheus.alert_rules()
            except HttpError:
                pass  # the last known rules are used until Prometheus answers again
        return self._rules

    async def boot_time(self, target: Target) -> float | None:
        """Return when the target's node booted (Unix seconds); None if unknown."""
        selector = self._of(node=target.name)
        return await self._largest(self._node_time(f"node_boot_time_seconds{selector}"))

    def _node_time(self, selector: str) -> str:
        """Return a query for a time that a node exports, by Prometheus's clock and never in the future.

        The clock of a node may be wrong; node_time_seconds shows by how much.
        """
        here = self._of()
        wrong = (
            f"max by (cluster, node) (node_time_seconds{here} - timestamp(node_time_seconds{here}))"
        )
        corrected = f"{selector} - on (cluster, node) group_left () {wrong}"
        return f"clamp_max(max({corrected} or {selector}), time())"

    async def reported_uuids(self, node: str) -> dict[str, float] | None:
        """Return when the node's exporter last reported each GPU UUID, within the last hour (Unix seconds).

        While Prometheus does not answer, the last answer about the node counts for REPORTED_FOR seconds, so that a
        known contradiction is not forgotten. None if unknown.
        """
        scraped = f"timestamp(gpu_info{self._of(node=node)})[1h:{math.ceil(self._scrape)}s]"
        found = await self._ask(f"max by (uuid) (max_over_time({scraped}))")
        if found is None:
            at, known = self._reported.get(node, (-math.inf, None))
            return known if monotonic() - at <= REPORTED_FOR else None
        reported = {one.labels["uuid"]: one.value for one in found if one.labels.get("uuid")}
        self._reported[node] = (monotonic(), reported)
        return reported

    async def saved_at(self, jobs: Sequence[str]) -> float | None:
        """Return the time of the last checkpoint (Unix seconds); for several jobs, the oldest of
        these times. Returns None if a job does not report its checkpoints."""
        metric = "training_checkpoint_last_success_timestamp_seconds"
        found = await self._ask(f"max by (job_id) ({metric}{self._jobs(jobs)})")
        return min(one.value for one in found) if found and len(found) == len(jobs) else None

    async def stalled(self, jobs: Sequence[str]) -> bool:
        """Return whether all these jobs are stalled: none has completed a step for a long time.

        A job that does not report its steps does not count as stalled.
        """
        chosen = self._jobs(jobs)
        found = await self._ask(
            f"min by (job_id) (training_step_age_seconds{chosen})"
            f" > max by (job_id) (clamp_min(10 * training_step_duration_seconds{chosen}, {STALLED:g}))"
        )
        return bool(found) and {one.labels.get("job_id") for one in found or ()} == set(jobs)

    async def stalled_share(self) -> tuple[int, int] | None:
        """Return how many running jobs of the cluster are stalled, and how many report their steps.

        A job whose last step is more than an hour ago does not count. None if unknown.
        """
        here = self._of()
        reports = f"training_step_duration_seconds{here}"
        running = f"max by (job_id) ({reports} and on (job_id) training_running{here} == 1)"
        age = f"min by (job_id) (training_step_age_seconds{here})"
        stalled = f"{age} > clamp_min(10 * {running}, {STALLED:g}) < {OLD_STALL:g}"
        found = await self._ask(f"count({stalled}) or vector(0)")
        total = await self._ask(f"count({running})")
        return (int(found[0].value), int(total[0].value)) if found and total else None

    async def last_step(self, jobs: Sequence[str]) -> float | None:
        """Return the time of the last step (Unix seconds); for several jobs, the oldest of these
        times. Returns None if a job does not report its steps."""
        age = f"training_step_age_seconds{self._jobs(jobs)}"  # the clock of a job may be wrong
        found = await self._ask(f"max by (job_id) (timestamp({age}) - {age})")
        return min(one.value for one in found) if found and len(found) == len(jobs) else None

    async def waiting(self, service: str) -> float | None:
        """Return the number of requests that wait for a service; None if unknown."""
        found = await self._ask(f"sum(inference_requests_waiting{self._of(service=service)})")
        return found[0].value if found else None

    async def _largest(self, expr: str) -> float | None:
        found = await self._ask(expr)
        return max((one.value for one in found or () if one.value > 0), default=None)

    async def _ask(self, expr: str) -> list[QuerySample] | None:
        if self._prometheus is None:
            return None
        try:
            return await self._prometheus.query(expr)
        except HttpError:
            return None

    def _of(self, **labels: str) -> str:
        given = {"cluster": self._cluster} | labels
        return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in given.items()) + "}"

    def _jobs(self, jobs: Sequence[str]) -> str:
        names = "|".join(name.replace(".", r"\.") for name in sorted(jobs))
        cluster = json.dumps(self._cluster)
        return f"{{cluster={cluster},job_id=~{json.dumps(names)}}}"

    async def _health_samples(
        self, prometheus: PrometheusClient, target: Target, now: float
    ) -> dict[str, list[QuerySample]]:
        own = {"node": target.name}
        if target.gpu is not None:
            own["gpu"] = str(target.gpu)
        names = ["gpu_lost", "gpu_up", *WHERE_KNOWN] + (["up"] if target.gpu is None else [])
        return {
            name: await prometheus.samples(
                name
                + (self._of(job="node", node=target.name) if name == "up" else self._of(**own)),
                at=now,
            )
            for name in names
        }
