"""The remediator's own metrics: counters fed from the journal's events, and gauges read when scraped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from remediator.clusters.base import NodeFacts
from remediator.core.book import Book
from remediator.core.events import Event, Kind
from remediator.core.model import Incident, State
from remediator.core.reasons import Reason
from remediator.discovery.watch import Discovery
from remediator.gauges import FromBook, FromCall, FromCluster, FromHosts

# Seconds from an incident's opening to a stage of it.
STAGES = {
    State.QUARANTINED: "quarantined", State.JOBS_MOVED: "jobs_moved", State.VERIFYING: "repaired",
    State.PROBATION: "verified", State.CLOSED: "closed",
}  # fmt: skip
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 7200, float("inf"))


class Metrics:
    """All metrics of one remediator, in a registry of their own. `now` gives Unix seconds."""

    def __init__(self, book: Book, now: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._reasons: dict[Reason, Any] = {}
        counters: tuple[tuple[str, str, list[str]], ...] = (
            ("incidents", "Incidents opened.", ["playbook"]),
            ("decisions", "Decisions written to the journal, by reason.", ["reason"]),
            ("actions", "Steps that ended, by action and result.", ["action", "result"]),
            ("guard_holds", "Times that a guard held an incident back, by reason.", ["reason"]),
            ("webhook_alerts", "Alerts received by the webhook.", []),
            ("webhook_auth_failures", "Requests without the right credential.", []),
            ("journal_events", "Events made durable.", []),
            ("notifications", "Messages to people, by channel and result.", ["channel", "result"]),
            ("lane_failures", "Errors of the remediator itself while it looked at a target.", []),
        )
        self._counters: dict[str, Any] = {
            name: Counter(f"remediator_{name}", text, labels, registry=self.registry)
            for name, text, labels in counters
        }
        self._reconciled = Gauge(
            "remediator_reconcile_last_timestamp_seconds",
            "When Alertmanager, cluster and journal were last compared.",
            registry=self.registry,
        )
        self._stages = Histogram(
            "remediator_stage_seconds",
            "Time from an incident's opening to a stage of it.",
            ["stage"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(FromBook(book, now))
        self._cluster = FromCluster()
        self.registry.register(self._cluster)

    def expect(
        self, actions: Iterable[str], channels: Iterable[str], playbooks: Iterable[str]
    ) -> None:
        """Begin every counter at 0: Prometheus sees no increase in a series that is born at 1, and the
        first failure, the first incident and its stages would pass unseen."""
        for reason in Reason:
            self._decided(reason)
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

    def discovers(self, discovery: Discovery) -> None:
        """Export the state of the host list as well."""
        self.registry.register(FromHosts(discovery))

    def lock(self, held: Callable[[], bool]) -> None:
        """Export whether this installation holds the cluster's lock; absent until called."""
        self._gauge(
            "instance_lock_held", "Whether this installation holds the cluster's lock.", held
        )

    def pending(self, count: Callable[[], int]) -> None:
        """Export how many messages to people are not yet delivered or expired; absent until called."""
        self._gauge(
            "notifications_pending", "Messages to people that are not yet delivered.", count
        )

    def alertmanager(self, complete: Callable[[], bool]) -> None:
        """Export whether Alertmanager's latest answer is complete; absent until called."""
        text = "Whether Alertmanager has settled and its latest answer held the Watchdog."
        self._gauge("alertmanager_complete", text, complete)

    def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        self.registry.register(FromCall(name, text, read))

    def saw(self, event: Event, incident: Incident | None) -> None:
        """Count one durable event; `incident` is what it belongs to."""
        self._counters["journal_events"].inc()
        if event.reason is not None:
            self._decided(event.reason).inc()
        if event.kind is Kind.INCIDENT_OPENED:
            self._counters["incidents"].labels(event.data["playbook"]).inc()
        elif event.kind is Kind.HELD:
            self._counters["guard_holds"].labels(str(event.reason)).inc()
        elif event.kind in (Kind.STEP_DONE, Kind.STEP_FAILED):
            result = "done" if event.kind is Kind.STEP_DONE else "failed"
            self._counters["actions"].labels(event.data["action"], result).inc()
        elif event.kind is Kind.STATE_CHANGED and incident is not None:
            stage = STAGES.get(State(event.data["state"]))
            if stage is not None:
                self._stages.labels(stage).observe(max(0.0, event.at - incident.opened))

    def _decided(self, reason: Reason) -> Any:
        """The counter of a reason, looked up once."""
        found = self._reasons.get(reason)
        if found is None:
            found = self._reasons[reason] = self._counters["decisions"].labels(str(reason))
        return found

    def received(self, alerts: int) -> None:
        """Count alerts that came by the webhook."""
        self._counters["webhook_alerts"].inc(alerts)

    def refused(self) -> None:
        """Count a request without the credential."""
        self._counters["webhook_auth_failures"].inc()

    def lane_failed(self) -> None:
        """Count an exception in a lane: the remediator itself failed on a target."""
        self._counters["lane_failures"].inc()

    def told(self, channel: str, result: str) -> None:
        """Count a message to people: `delivered` or `failed`."""
        self._counters["notifications"].labels(channel, result).inc()

    def reconciled(self, at: float) -> None:
        """Remember a reconciliation (Unix seconds)."""
        self._reconciled.set(at)

    def out(self, nodes: tuple[NodeFacts, ...] | None) -> None:
        """Remember what is out of service; None: the cluster did not answer, and the series are withheld."""
        self._cluster.nodes = nodes

    def page(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
