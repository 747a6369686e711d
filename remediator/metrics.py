"""The remediator's own metrics. Each is fed from the journal's events or read from the book."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from remediator.core.book import Book
from remediator.core.events import Event, Kind
from remediator.core.model import Incident, State
from remediator.core.reasons import Reason
from remediator.discovery.watch import Discovery

# Seconds from an incident's opening to a stage of it.
STAGES = {
    State.QUARANTINED: "quarantined", State.JOBS_MOVED: "jobs_moved", State.VERIFYING: "repaired",
    State.PROBATION: "verified", State.CLOSED: "closed",
}  # fmt: skip
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 7200, float("inf"))


class Metrics:
    """All metrics of one remediator, in a registry of their own."""

    def __init__(self, book: Book) -> None:
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
        self.registry.register(_FromBook(book))

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
        """Tell of the host list, too."""
        self.registry.register(_FromHosts(discovery))

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

    def told(self, channel: str, result: str) -> None:
        """Count a message to people: `delivered` or `failed`."""
        self._counters["notifications"].labels(channel, result).inc()

    def reconciled(self, at: float) -> None:
        """Remember a reconciliation (Unix seconds)."""
        self._reconciled.set(at)

    def page(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


class _FromBook:
    """Gauges that are read when scraped."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def collect(self) -> Iterator[GaugeMetricFamily]:
        incidents = GaugeMetricFamily(
            "remediator_incidents", "Open incidents by state.", labels=["state"]
        )
        counts = dict.fromkeys(State, 0)
        busy = 0
        for incident in self._book.open_incidents():
            counts[incident.state] += 1
            busy += incident.prepared is not None
        for state, count in counts.items():
            incidents.add_metric([str(state)], count)
        yield incidents
        action = "Steps announced and not yet ended."
        yield GaugeMetricFamily("remediator_action_in_progress", action, value=busy)
        yield self._reboots()
        paused = "Whether a person stopped every action."
        yield GaugeMetricFamily(
            "remediator_paused", paused, value=float(self._book.pause is not None)
        )

    def _reboots(self) -> GaugeMetricFamily:
        """One series for each node that was ever rebooted; whoever else reboots one is told from it."""
        reboots = GaugeMetricFamily(
            "remediator_node_reboot_timestamp_seconds",
            "When a reboot of the node was last announced.",
            labels=["target_node"],
        )
        for target, attempts in self._book.attempts.items():
            if times := [one.at for one in attempts if one.action == "reboot_node"]:
                reboots.add_metric([target.name], max(times))
        return reboots


class _FromHosts:
    """What is known of the host list; names as Prometheus has for its own configuration."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    def collect(self) -> Iterator[GaugeMetricFamily]:
        known = self._discovery.known
        yield GaugeMetricFamily(
            "remediator_discovery_last_reload_successful",
            "1 when the host list was good at the latest look and is written where it is to be.",
            value=float(known is not None and self._discovery.bad is None),
        )
        if known is None:
            return
        yield GaugeMetricFamily(
            "remediator_discovery_last_reload_success_timestamp_seconds",
            "When the host list that stands was read.", value=known.at,
        )  # fmt: skip
        yield GaugeMetricFamily(
            "remediator_discovery_targets",
            "Hosts of the list that stands.",
            value=float(known.count),
        )
