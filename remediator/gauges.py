"""Gauges that are computed at each scrape from the journal's state, the cluster and the target list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily

from fleetmedic.kernel.labels import TargetKind
from remediator.clusters.base import NodeFacts
from remediator.core.action import Effect
from remediator.core.journal_state import JournalState
from remediator.core.model import OWNER, Incident, IncidentState, Level
from remediator.core.reasons import Reason
from remediator.discovery.watch import Discovery

# The number of quarantine owners with their own series; an untrusted label is cut to MAX_LABEL.
MAX_OWNERS = 20
MAX_LABEL = 64
OTHERS = "others"
GPU, NODE = str(TargetKind.GPU), str(TargetKind.NODE)
# The reasons for holds; their series start at 0.
HOLDS = (
    Reason.PAUSED,
    Reason.SILENCED,
    Reason.INHIBITED,
    Reason.MUTED,
    Reason.ALERT_UNCONFIRMED,
    Reason.ALERT_GONE,
    Reason.OTHER_OWNER,
    Reason.BUDGET_OUT,
    Reason.BUDGET_NEW,
    Reason.COOLDOWN,
    Reason.DEAD_MAN,
    Reason.SENSORS_BLIND,
    Reason.WITNESSES,
    Reason.HOLD,
    Reason.FACTS_UNKNOWN,
    Reason.IDENTITY,
    Reason.STORM,
    Reason.JOBS_STALLED,
    Reason.CAUSE_UNKNOWN,
    Reason.CLOCK_JUMP,
    Reason.OTHER_INSTALLATION,
    Reason.PINNED,
)


class JournalGauges:
    """Gauges of open incidents, pause, storms and reboots. `now` returns Unix seconds."""

    def __init__(self, journal_state: JournalState, now: Callable[[], float]) -> None:
        self._state = journal_state
        self._now = now
        self._reasons = list(HOLDS)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric families with their current values."""
        open_ = self._state.open_incidents()
        states = Counter(one.state for one in open_)
        yield _family(
            "incidents",
            "Open incidents by state.",
            "state",
            [(str(state), states[state]) for state in IncidentState],
        )
        busy = sum(one.prepared is not None for one in open_)
        yield _value("action_in_progress", "Steps that were announced and have not ended.", busy)
        paused = self._state.pause is not None
        yield _value("paused", "1 while the remediator is paused by an operator.", paused)
        yield from self._held([one for one in open_ if one.held and one.level is not Level.OBSERVE])
        yield self._approvals(open_)
        yield from self._storms()
        yield self._reboots()

    def _held(self, held: list[Incident]) -> Iterator[GaugeMetricFamily]:
        now = self._now()
        ages = (now - one.held_since for one in held if one.held_since is not None)
        longest = "Longest time that an open incident has been held."
        yield _value("held_longest_seconds", longest, max(0.0, max(ages, default=0.0)))
        counts = Counter(one.held for one in held)
        # A reason keeps its series once it was seen, so that a graph shows the end of the hold.
        self._reasons += [one for one in counts if one is not None and one not in self._reasons]
        yield _family(
            "held",
            "Open incidents that are held, by reason.",
            "reason",
            [(str(reason), counts[reason]) for reason in self._reasons],
        )

    def _approvals(self, open_: Sequence[Incident]) -> GaugeMetricFamily:
        waiting = [
            one.since
            for one in open_
            if one.state is IncidentState.AWAIT_APPROVAL and one.approved is None
        ]
        age = self._now() - min(waiting) if waiting else 0.0
        text = "Age of the oldest request for an approval that nobody has answered."
        return _value("approval_oldest_seconds", text, max(0.0, age))

    def _storms(self) -> Iterator[GaugeMetricFamily]:
        storms = self._state.storms
        yield _value("storms", "Pools with a storm of hardware alerts.", len(storms))
        pools: dict[str, bool] = {}
        for pool in (*self._state.storm_ended, *storms):
            pools[label(pool)] = pools.get(label(pool), False) or pool in storms
        yield _family(
            "storm",
            "1 while the pool has a storm of hardware alerts.",
            "pool",
            sorted(pools.items()),
        )

    def _reboots(self) -> GaugeMetricFamily:
        """Return the time of the last reboot by the remediator, for each node.

        A reboot at any other time is unexpected.
        """
        known = self._state.repairs.items()
        times = {target.name: at for target, at in known if target.kind is TargetKind.NODE}
        for target, attempts in self._state.attempts.items():
            repairs = (one for one in attempts if one.effect is Effect.REPAIRS)
            if found := [one.at for one in repairs if one.target.kind is TargetKind.NODE]:
                times[target.name] = max(found)
        return _family(
            "node_reboot_timestamp_seconds",
            "Time of the last announced reboot of the node (Unix seconds).",
            "target_node",
            list(times.items()),
        )


class ClusterGauges:
    """The gauge of quarantined targets by owner. It has no samples while the cluster does not respond."""

    def __init__(self) -> None:
        self.nodes: tuple[NodeFacts, ...] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric family, without samples while the cluster does not respond."""
        family = GaugeMetricFamily(
            "remediator_targets_out",
            "GPUs and nodes out of service because of a quarantine.",
            labels=["kind", "owner"],
        )
        if self.nodes is not None:
            for (kind, owner), count in count_quarantined(self.nodes).items():
                family.add_metric([kind, owner], count)
        yield family


def count_quarantined(nodes: Sequence[NodeFacts]) -> dict[tuple[str, str], int]:
    """Return the number of quarantined targets by (kind, owner).

    A GPU of a quarantined node counts separately only if its own quarantine has another owner.
    fleetmedic and the 19 other owners with the most targets have their own entries; the rest are
    `others`.
    """
    out: Counter[tuple[str, str]] = Counter()
    for node in nodes:
        whole = node.quarantine.owner if node.quarantine else None
        if whole is not None:
            out[NODE, label(whole)] += 1
        for gpu in node.gpus:
            if gpu.quarantine is not None and gpu.quarantine.owner != whole:
                out[GPU, label(gpu.quarantine.owner)] += 1
    named = _named(out)
    sums: Counter[tuple[str, str]] = Counter()
    for (kind, owner), count in out.items():
        sums[kind, owner if owner in named else OTHERS] += count
    owners = dict.fromkeys([*named, *(owner for _, owner in sums)])
    return {(kind, owner): sums[kind, owner] for owner in owners for kind in (GPU, NODE)}


def _named(out: Counter[tuple[str, str]]) -> list[str]:
    totals: Counter[str] = Counter()
    for (_, owner), count in out.items():
        totals[owner] += count
    others = sorted(set(totals) - {OWNER}, key=lambda owner: (-totals[owner], owner))
    return [OWNER, *others[: MAX_OWNERS - 1]]


class TargetListGauges:
    """Gauges of the target list, named like Prometheus' metrics of its own configuration."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric families. Count and time are absent until a list was read."""
        known = self._discovery.known
        yield _value(
            "discovery_last_reload_successful",
            "1 if the target list was valid when it was last read and is written to its file.",
            known is not None and self._discovery.bad is None,
        )
        if known is None:
            return
        yield _value(
            "discovery_last_reload_success_timestamp_seconds",
            "Time at which the current target list was read (Unix seconds).",
            known.at,
        )
        yield _value("discovery_targets", "Scrape targets in the current target list.", known.count)


class CallableGauge:
    """A gauge whose value a function returns at each scrape."""

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name = name
        self._text = text
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric family with the current value."""
        yield _value(self._name, self._text, self._read())


def label(text: str) -> str:
    """Return an untrusted string as a label value: of limited length, valid UTF-8, never empty."""
    return text[:MAX_LABEL].encode("utf-8", "replace").decode() or "unknown"


def _value(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"remediator_{name}", text, value=float(value))


def _family(
    name: str, text: str, label_name: str, samples: Sequence[tuple[str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"remediator_{name}", text, labels=[label_name])
    for value, count in samples:
        family.add_metric([value], count)
    return family
