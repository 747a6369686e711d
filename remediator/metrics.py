"""The remediator's own metrics: counters of journal events, and gauges computed at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from remediator.clusters.base import NodeFacts
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState
from remediator.core.model import Incident, IncidentState
from remediator.core.reasons import Reason
from remediator.discovery.watch import Discovery
from remediator.gauges import CallableGauge, ClusterGauges, JournalGauges, TargetListGauges

# The stages of an incident that remediator_stage_seconds measures, by state.
STAGES = {
    IncidentState.QUARANTINED: "quarantined",
    IncidentState.JOBS_MOVED: "jobs_moved",
    IncidentState.VERIFYING: "repaired",
    IncidentState.PROBATION: "verified",
    IncidentState.CLOSED: "closed",
}
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 7200, float("inf"))


class RemediatorMetrics:
    """All metrics of one remediator, in their own registry. `now` returns Unix seconds."""

    def __init__(self, journal_state: JournalState, now: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self._reasons: dict[Reason, Any] = {}
        counters: tuple[tuple[str, str, list[str]], ...] = (
            ("incidents", "Incidents opened.", ["playbook"]),
            ("decisions", "Decisions written to the journal, by reason.", ["reason"]),
            (
                "evaluations",
                "Decisions made about open incidents, including those that only repeat a hold.",
                [],
            ),
            ("actions", "Finished steps, by action and result.", ["action", "result"]),
            (
                "guard_holds",
                "Times that a safety check (guard) put an incident on hold, by reason.",
                ["reason"],
            ),
            ("webhook_alerts", "Alerts received by webhook.", []),
            (
                "webhook_auth_failures",
                "Requests rejected because the credentials were missing or wrong.",
                [],
            ),
            ("journal_events", "Events written to the journal.", []),
            (
                "notifications",
                "Notifications sent for Alertmanager, by channel and result.",
                ["channel", "result"],
            ),
            ("lane_failures", "Internal errors of the remediator while it handled a target.", []),
        )
        self._counters: dict[str, Any] = {
            name: Counter(f"remediator_{name}", text, labels, registry=self.registry)
            for name, text, labels in counters
        }
        self._reconciled = Gauge(
            "remediator_reconcile_last_timestamp_seconds",
            "Unix time of the latest comparison of alerts, cluster and journal.",
            registry=self.registry,
        )
        self._stages = Histogram(
            "remediator_stage_seconds",
            "Time from the opening of an incident until it reached the stage.",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(JournalGauges(journal_state, now))
        self._cluster = ClusterGauges()
        self.registry.register(self._cluster)

    def initialize(
        self, actions: Iterable[str], channels: Iterable[str], playbooks: Iterable[str]
    ) -> None:
        """Create the series of every counter with the value 0.

        `increase` ignores the first value of a series. Without this, the first failure or incident
        would be missed.
        """
        for reason in Reason:
            self._decision_counter(reason)
            self._counters["guard_holds"].labels(str(reason))
        for stage in STAGES.values():
            self._stages.labels(stage)
        for playbook in playbooks:
            self._counters["incidents"].labels(playbook)
        for action in actions:
            for result in ("done", "failed"):
                self._counters["actions"].labels(action, result)
        for channel in channels:
            for result in ("delivered", "failed"):
                self._counters["notifications"].labels(channel, result)

    def export_target_list(self, discovery: Discovery) -> None:
        """Add the state of the scrape target list to the exported metrics."""
        self.registry.register(TargetListGauges(discovery))

    def export_lock(self, held: Callable[[], bool]) -> None:
        """Add the metric that shows whether this installation holds the cluster's lock.

        Without this call the metric is absent.
        """
        self._gauge(
            "instance_lock_held", "1 while this installation holds the cluster's lock.", held
        )

    def export_pending_notifications(self, count: Callable[[], int]) -> None:
        """Export the number of notifications that are neither delivered nor expired.

        Without this call the metric is absent.
        """
        self._gauge("notifications_pending", "Notifications that are not yet delivered.", count)

    def export_alertmanager_completeness(self, complete: Callable[[], bool]) -> None:
        """Export whether Alertmanager's latest response is complete.

        Without this call the metric is absent.
        """
        text = "1 while Alertmanager has settled and its latest response contained the Watchdog."
        self._gauge("alertmanager_complete", text, complete)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        self.registry.register(CallableGauge(name, text, read))

    def count_event(self, event: Event, incident: Incident | None) -> None:
        """Count one event of the journal. `incident` is the incident to which it belongs."""
        self._counters["journal_events"].inc()
        if event.reason is not None:
            self._decision_counter(event.reason).inc()
        if event.kind is Kind.ALERT_RECEIVED and "suppressed" in event.data:
            # The event contains two decisions: the alert is received, and leads to no action.
            self._decision_counter(Reason.ALERT_RECEIVED).inc()
        if event.kind is Kind.INCIDENT_OPENED:
            self._counters["incidents"].labels(event.data["playbook"]).inc()
        elif event.kind is Kind.HELD:
            self._counters["guard_holds"].labels(str(event.reason)).inc()
        elif event.kind in (Kind.STEP_DONE, Kind.STEP_FAILED):
            result = "done" if event.kind is Kind.STEP_DONE else "failed"
            self._counters["actions"].labels(event.data["action"], result).inc()
        elif event.kind is Kind.STATE_CHANGED and incident is not None:
            stage = STAGES.get(IncidentState(event.data["state"]))
            if stage is not None:
                self._stages.labels(stage).observe(max(0.0, event.at - incident.opened))

    def _decision_counter(self, reason: Reason) -> Any:
        """Return the counter of a reason, cached."""
        found = self._reasons.get(reason)
        if found is None:
            found = self._reasons[reason] = self._counters["decisions"].labels(str(reason))
        return found

    def count_alerts(self, alerts: int) -> None:
        """Count the alerts that arrived by webhook."""
        self._counters["webhook_alerts"].inc(alerts)

    def count_auth_failure(self) -> None:
        """Count a request with a missing or wrong credential."""
        self._counters["webhook_auth_failures"].inc()

    def count_evaluation(self) -> None:
        """Count a decision about an open incident, also if it only repeats a hold."""
        self._counters["evaluations"].inc()

    def count_internal_error(self) -> None:
        """Count an internal error of the remediator in the task of a target."""
        self._counters["lane_failures"].inc()

    def count_notification(self, channel: str, result: str) -> None:
        """Count a notification with the result `delivered` or `failed`."""
        self._counters["notifications"].labels(channel, result).inc()

    def set_last_reconciliation(self, at: float) -> None:
        """Record the time of a reconciliation (Unix seconds)."""
        self._reconciled.set(at)

    def set_nodes(self, nodes: tuple[NodeFacts, ...] | None) -> None:
        """Store the cluster's nodes for the gauge of quarantined targets.

        None means that the cluster did not respond, so the gauge has no samples.
        """
        self._cluster.nodes = nodes

    def render(self) -> bytes:
        """Return all metrics of the remediator in Prometheus' text format."""
        return generate_latest(self.registry)
