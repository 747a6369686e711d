"""What is answered about incidents and decisions, from a real journal and its state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from remediator import pages
from remediator.clusters.base import ClusterError, Unsupported
from remediator.clusters.memory import MemoryCluster
from remediator.core import events
from remediator.core.events import Event, Kind
from remediator.core.journal_state import JournalState
from remediator.core.model import Alert, IncidentState, Level, Step
from remediator.core.reasons import Reason
from remediator.journal import Journal
from remediator.journal_reader import JournalReader
from remediator.query_endpoints import QueryEndpoints, as_json, with_present
from tests.unit.remediator.catalogue import ACTIONS

NODE, GPU, OTHER = (Target.parse(text) for text in ("node1", "node1/3", "node1/4"))


class Story:
    """Writes events to a journal and its state, and queries the endpoints."""

    def __init__(
        self, folder: Path, cluster: Any = None, refusal: Callable[[], str | None] = lambda: None
    ) -> None:
        self.journal_state, self._folder, self._at = JournalState(), folder, 1000.0
        inquiry = QueryEndpoints(
            self.journal_state, JournalReader(folder), cluster, refusal=refusal
        )
        routes = [
            Route("/why", inquiry.why), Route("/decisions", inquiry.decisions),
            Route("/incidents", inquiry.incidents), Route("/incidents/{identity}", inquiry.incident),
        ]  # fmt: skip
        self.client = TestClient(Starlette(routes=routes))
        self.write()

    def at(self) -> float:
        """The next moment."""
        self._at += 1
        return self._at

    def write(self, *written: Event) -> None:
        """Make events durable and fold them in."""

        async def append() -> None:
            journal = Journal(self._folder, self.journal_state.apply)
            await journal.append(written)
            await asyncio.sleep(0)
            journal.close()

        asyncio.run(append())

    def open(self, identity: str, target: Target, *alerts: Alert) -> None:
        """A new incident that takes alerts in."""
        begun = events.opened(
            identity, target, "a", Level.REPAIR, self.at(), 0, f"{identity} begins."
        )
        self.write(begun)
        for alert in alerts:
            episode = events.episode_of(alert, self._at)
            self.write(events.absorbed(identity, target, episode, self.at()))

    def hold(self, identity: str, reason: Reason, text: str) -> None:
        """A guard holds an incident."""
        incident = self.journal_state.incidents[identity]
        self.write(events.noted(Kind.HELD, incident, self.at(), reason, text))

    def why(self, target: str, **query: Any) -> dict[str, Any]:
        """The answer about a target."""
        found: dict[str, Any] = self.client.get("/why", params={"target": target} | query).json()
        return found


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def alert(name: str, **labels: str) -> Alert:
    return Alert(name.lower(), 1.0, "1970-01-01T00:00:01Z", True, {"alertname": name} | labels)


def texts(answer: dict[str, Any]) -> list[str]:
    return [one["text"] for one in answer["decisions"]]


def noise(count: int, target: str | None = str(GPU)) -> list[Event]:
    """Events that decide nothing."""
    return [Event(Kind.RECONCILED, 1.0, None, target, None, f"{n}") for n in range(count)]


def test_no_limit_hides_the_decisions_behind_other_events(story: Story) -> None:
    story.open("inc-1", GPU)
    story.write(*noise(250), *noise(250, None))
    assert texts(story.why("node1/3")) == ["inc-1 begins."]
    assert texts(story.why("node1/3", limit=1)) == ["inc-1 begins."]
    assert texts(story.client.get("/decisions").json()) == ["inc-1 begins."]


def test_decisions_of_a_reason_are_found_behind_a_thousand_others(story: Story) -> None:
    story.open("inc-1", GPU)
    story.hold("inc-1", Reason.BUDGET_OUT, "The budget is spent.")
    held = story.journal_state.incidents["inc-1"]
    story.write(
        *(events.noted(Kind.HELD, held, story.at(), Reason.HOLD, f"{n}") for n in range(1000))
    )
    found = story.client.get("/decisions", params={"reason": "budget_out", "limit": 1}).json()
    assert texts(found) == ["The budget is spent."]
    both = {"reason": "budget_out", "incident": "inc-1", "target": "node1/3"}
    assert texts(story.client.get("/decisions", params=both).json()) == ["The budget is spent."]
    assert story.client.get("/decisions", params=both | {"target": "node1/4"}).json() == {
        "decisions": [],
        "truncated": False,
    }


def test_why_of_a_gpu_tells_what_was_decided_in_the_incident_of_its_node(story: Story) -> None:
    story.open("inc-node", NODE, alert("NodeDown", node="node1"), alert("GpuLost", gpu="3"))
    story.hold("inc-node", Reason.BUDGET_OUT, "The budget is spent.")
    mine = story.why("node1/3")
    assert texts(mine) == [
        "inc-node begins.", "NodeDown belongs to this incident.",
        "GpuLost belongs to this incident.", "The budget is spent.",
    ]  # fmt: skip
    assert mine["incidents"] == ["inc-node"]
    assert "text" not in mine
    other = story.why("node1/4")
    assert (other["decisions"], other["incidents"]) == ([], [])
    assert other["text"] == "No decision about gpu/node1/4: no alert named it."


def test_what_a_node_incident_decided_about_another_gpu_is_not_told(story: Story) -> None:
    story.open("inc-node", NODE, alert("GpuLost", gpu="3"), alert("GpuHung", gpu="4"))
    node = story.journal_state.incidents["inc-node"]
    step = Step("release_4", "release", ACTIONS.named("release").effect, OTHER, 1, "op", 10.0)
    story.write(
        events.step_event(
            Kind.STEP_PREPARED, node, step, story.at(), Reason.STEP_ALLOWED, "Let go."
        )
    )
    assert "GpuHung belongs to this incident." not in texts(story.why("node1/3"))
    assert "Let go." not in texts(story.why("node1/3"))
    assert "Let go." in texts(story.why("node1/4"))


def test_why_of_a_gpu_follows_the_incident_that_took_its_own_over(story: Story) -> None:
    story.open("inc-gpu", GPU, alert("GpuLost", gpu="3"))
    story.open("inc-node", NODE, alert("NodeDown", node="node1"))
    gpu = story.journal_state.incidents["inc-gpu"]
    story.write(
        events.inherited(story.journal_state.incidents["inc-node"], gpu, story.at()),
        events.moved(
            gpu,
            IncidentState.SUPPRESSED,
            story.at(),
            Reason.WIDENED,
            "The node.",
            absorbed_by="inc-node",
        ),
    )
    assert story.journal_state.incidents["inc-gpu"].ended
    story.hold("inc-node", Reason.HOLD, "A short hold.")
    mine = story.why("node1/3")
    assert mine["incidents"] == ["inc-gpu", "inc-node"]
    assert texts(mine)[-2:] == ["The node.", "A short hold."]


def test_why_of_a_gpu_tells_who_took_its_quarantine_over_and_not_that_of_another(
    story: Story,
) -> None:
    story.open("inc-node", NODE, alert("NodeDown", node="node1"))
    for identity, target in (("inc-3", GPU), ("inc-4", OTHER)):
        story.open(identity, target)
        step = Step(
            "quarantine",
            "quarantine_gpu",
            ACTIONS.named("quarantine_gpu").effect,
            target,
            1,
            f"op-{identity}",
            10.0,
        )
        for kind in (Kind.STEP_PREPARED, Kind.STEP_DONE):
            one = story.journal_state.incidents[identity]
            story.write(events.step_event(kind, one, step, story.at(), Reason.STEP_ALLOWED))
        heir = story.journal_state.incidents["inc-node"]
        story.write(events.inherited(heir, story.journal_state.incidents[identity], story.at()))
    assert story.why("node1/3")["incidents"] == ["inc-3", "inc-node"]
    told = texts(story.why("node1/3"))
    assert "The node's incident takes over inc-3 on gpu/node1/3." in told
    assert "It takes over from inc-4 on gpu/node1/4." not in told


def test_of_a_related_incident_only_decisions_are_told(story: Story) -> None:
    story.open("inc-node", NODE, alert("GpuLost", gpu="3"))
    story.write(Event(Kind.VERIFIED, story.at(), "inc-node", str(NODE), None, "No reason."))
    assert "No reason." not in texts(story.why("node1/3"))


def test_open_incidents_are_listed_beyond_the_limit_and_ended_ones_are_not(story: Story) -> None:
    for identity, target in (("inc-1", GPU), ("inc-2", OTHER), ("inc-3", NODE)):
        story.open(identity, target)
    ended = story.journal_state.incidents["inc-2"]
    story.write(events.moved(ended, IncidentState.SUPPRESSED, story.at(), Reason.RESOLVED_FIRST))
    listed = story.client.get("/incidents", params={"limit": 1}).json()["incidents"]
    assert [one["id"] for one in listed] == ["inc-1", "inc-3"]


def test_the_list_counts_what_it_leaves_out_and_finds_any_target(story: Story) -> None:
    for n, target in enumerate((GPU, OTHER, NODE, Target.parse("node2"))):
        story.open(f"inc-{n}", target)
        one = story.journal_state.incidents[f"inc-{n}"]
        story.write(events.moved(one, IncidentState.SUPPRESSED, story.at(), Reason.RESOLVED_FIRST))

    def listed(**query: Any) -> tuple[list[str], int, str | None]:
        found = story.client.get("/incidents", params=query).json()
        assert found["total"] == 4
        return [one["id"] for one in found["incidents"]], found["left_out"], found["before"]

    assert listed() == (["inc-0", "inc-1", "inc-2", "inc-3"], 0, None)
    assert listed(limit=1) == (["inc-3"], 3, "inc-3")
    assert listed(limit=2, before="inc-3") == (["inc-1", "inc-2"], 1, "inc-1")
    assert listed(limit=1, target="node1/3") == (["inc-0"], 0, None)
    assert listed(node="node1") == (["inc-0", "inc-1", "inc-2"], 0, None)
    ended = story.journal_state.incidents["inc-2"].since
    assert listed(since=ended) == (["inc-3"], 0, None)


@pytest.mark.parametrize("since", ["-1", "soon", "nan", "1e9", "\u0661", ""])
def test_a_time_that_is_no_number_is_refused(story: Story, since: str) -> None:
    with pytest.raises(UserError, match=r"^since=.*: expected a time in Unix seconds\.$"):
        story.client.get("/incidents", params={"since": since})


def test_each_answer_says_whether_it_is_cut(story: Story) -> None:
    story.open("inc-1", GPU)
    story.hold("inc-1", Reason.BUDGET_OUT, "The budget is spent.")
    story.open("inc-2", GPU)
    for path, most in (("/incidents/inc-1", 2), ("/decisions", 3), ("/why?target=node1/3", 3)):
        for limit in (1, 2, 3):
            found = story.client.get(path, params={"limit": limit, "target": "node1/3"}).json()
            assert found["truncated"] is (limit < most), (path, limit)
            shown = found.get("events") or found["decisions"]
            assert len(shown) <= limit + ("why" in path), "with the first cause of the latest"


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "1.5", "\u0661", "", "10001", "9" * 40])
def test_a_limit_that_is_no_number_is_refused(story: Story, limit: str) -> None:
    with pytest.raises(UserError, match=r"^limit=.*: expected a number from 1 to 10000\.$"):
        story.client.get("/incidents", params={"limit": limit})


def test_an_earlier_hold_for_the_same_reason_stays_where_it_is(story: Story) -> None:
    story.open("inc-1", GPU)
    for out in ("4 of 4 are out.", "3 of 4 are out."):
        story.hold("inc-1", Reason.BUDGET_OUT, out)
    late = alert("GpuHung", gpu="3")
    story.write(events.absorbed("inc-1", GPU, events.episode_of(late, 1.0), story.at()))
    assert texts(story.why("node1/3")) == [
        "inc-1 begins.", "4 of 4 are out.", "GpuHung belongs to this incident.", "3 of 4 are out.",
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 2, 200])
def test_the_present_reason_is_the_last_line_while_an_incident_is_held(
    story: Story, limit: int
) -> None:
    story.open("inc-1", GPU)
    story.hold("inc-1", Reason.BUDGET_OUT, "The budget is spent.")
    late = alert("GpuHung", gpu="3")
    story.write(events.absorbed("inc-1", GPU, events.episode_of(late, 1.0), story.at()))
    told = story.why("node1/3", limit=limit)["decisions"]
    assert told[-1]["text"] == "The budget is spent."
    assert told[-1]["seq"] == 2
    assert len(told) == min(limit + 1, 3)
    assert [one["text"] for one in told].count("The budget is spent.") == 1


def test_with_what_the_latest_incident_began_is_told_however_long_the_story_is(
    story: Story,
) -> None:
    story.open("inc-0", GPU)
    story.write(
        events.moved(
            story.journal_state.incidents["inc-0"],
            IncidentState.CLOSED,
            story.at(),
            Reason.READMITTED,
        )
    )
    story.open("inc-1", GPU)
    held = story.journal_state.incidents["inc-1"]
    story.write(
        *(events.noted(Kind.HELD, held, story.at(), Reason.HOLD, f"{n}") for n in range(30))
    )
    assert texts(story.why("node1/3", limit=3))[:2] == ["inc-1 begins.", "27"]


def test_after_a_hold_the_last_line_is_what_came_after(story: Story) -> None:
    story.open("inc-1", GPU)
    story.hold("inc-1", Reason.BUDGET_OUT, "The budget is spent.")
    incident = story.journal_state.incidents["inc-1"]
    story.write(
        events.moved(incident, IncidentState.TRIAGED, story.at(), Reason.ROUTED, "On its way.")
    )
    assert texts(story.why("node1/3"))[-1] == "On its way."


def test_why_of_a_job_tells_the_incident_that_moved_it_and_what_holds_it(story: Story) -> None:
    story.open("inc-1", GPU)
    incident = story.journal_state.incidents["inc-1"]
    step = Step(
        "restart_jobs",
        "restart_jobs",
        ACTIONS.named("restart_jobs").effect,
        GPU,
        1,
        "op",
        10.0,
        ("train-a",),
    )
    story.write(
        events.step_event(
            Kind.STEP_PREPARED, incident, step, story.at(), Reason.STEP_ALLOWED, "Go."
        )
    )
    assert texts(story.why("job/train-a")) == ["inc-1 begins.", "Go."]
    failed = events.step_event(
        Kind.STEP_FAILED, incident, step, story.at(), Reason.STEP_REFUSED, "No."
    )
    story.write(failed)
    story.hold("inc-1", Reason.BUDGET_OUT, "The budget is spent.")
    assert texts(story.why("job/train-a")) == [
        "inc-1 begins.",
        "Go.",
        "No.",
        "The budget is spent.",
    ]
    assert story.why("job/train-b")["decisions"] == []


class _Silent(MemoryCluster):
    async def job(self, job_id: str) -> Any:
        raise ClusterError("no answer", transient=True)

    async def list_nodes(self) -> Any:
        raise Unsupported("This cluster cannot list nodes.")

    workload = job


def test_why_of_a_job_that_nobody_knows_says_so(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    cluster.submit("train-a", on=GPU)
    story = Story(tmp_path, cluster)
    unknown = story.why("job/train-x")["text"]
    assert unknown.startswith("The cluster does not know job/train-x.")
    idle = "No decision about job/train-a: no alert named it, and no incident moved it."
    assert story.why("job/train-a")["text"] == idle


@pytest.mark.parametrize("target", ["node/node9", "gpu/node1/99", "gpu/node9/0", "workload/x"])
def test_why_of_any_target_that_nobody_knows_says_so(tmp_path: Path, target: str) -> None:
    cluster = MemoryCluster()
    cluster.add_workload("serve", replicas=2, minimum=1, maximum=4)
    story = Story(tmp_path, cluster)
    nothing = "No decision about {}: no alert named it."
    unknown = f"The cluster does not know {target}. {nothing.format(target)}"
    assert story.why(target)["text"] == unknown
    for known in ("node/node1", "gpu/node1/0", "workload/serve"):
        assert story.why(known)["text"] == nothing.format(known)
    silent = Story(tmp_path / "silent", _Silent()).why(target)["text"]
    assert "does not know" not in silent


def test_a_cluster_that_does_not_answer_makes_no_job_unknown(tmp_path: Path) -> None:
    said = Story(tmp_path, _Silent()).why("job/train-a")["text"]
    assert "does not know" not in said
    assert "did not answer" in said


def test_an_incident_is_shown_with_its_present_reason(story: Story) -> None:
    story.open("inc-1", GPU)
    one = as_json(story.journal_state.incidents["inc-1"])
    assert (one["reason"], one["text"], one["held_since"]) == ("routed", "inc-1 begins.", None)
    story.hold("inc-1", Reason.BUDGET_OUT, "4 of 4 are out.")
    story.hold("inc-1", Reason.BUDGET_OUT, "3 of 4 are out.")
    (one,) = story.client.get("/incidents").json()["incidents"]
    assert (one["state"], one["reason"], one["text"]) == ("NEW", "budget_out", "3 of 4 are out.")
    assert one["held_since"] == 1002.0


def test_the_reason_for_taking_no_action_is_answered(tmp_path: Path) -> None:
    story = Story(tmp_path, refusal=lambda: "Another remediator acts.")
    story.open("inc-1", GPU)
    assert story.client.get("/incidents").json()["refusal"] == "Another remediator acts."
    assert story.why("node1/3")["refusal"] == "Another remediator acts."
    one = story.client.get("/incidents/inc-1").json()
    assert one["summary"].endswith("Another remediator acts.")


def test_an_incident_that_ended_names_the_alerts_that_still_fire(story: Story) -> None:
    lost = alert("DiskFull", node="node1")
    story.write(events.alert_received(lost, NODE, story.at(), "webhook"))
    story.open("inc-1", NODE, lost)
    (one,) = story.client.get("/incidents").json()["incidents"]
    assert (one["still_firing"], story.why("node1")["still_firing"]) == ([], [])
    for state, reason in (
        (IncidentState.TRIAGED, Reason.ROUTED),
        (IncidentState.CLOSED, Reason.NOTIFIED),
    ):
        incident = story.journal_state.incidents["inc-1"]
        story.write(events.moved(incident, state, story.at(), reason))
    (one,) = story.client.get("/incidents").json()["incidents"]
    assert (one["state"], one["still_firing"]) == ("CLOSED", ["DiskFull"])
    assert "closes even if its alert is still firing" in one["text"]
    assert story.why("node1")["still_firing"] == ["DiskFull"]
    page = pages.home(story.journal_state)
    assert ">CLOSED, alert firing<" in page


@given(st.lists(st.sampled_from(["hold", "other hold", "absorb", "leave", "another"]), max_size=12))
def test_whatever_happens_the_story_ends_with_what_holds_an_incident_now(steps: list[str]) -> None:
    journal_state, told = (
        JournalState(),
        [events.opened("inc-1", GPU, "a", Level.REPAIR, 1.0, 0, "Begun.")],
    )
    journal_state.apply(told[0])
    for n, step in enumerate(steps, 2):
        one, at = journal_state.incidents["inc-1"], float(n)
        to = IncidentState.HELD if one.state is IncidentState.TRIAGED else IncidentState.TRIAGED
        event = {
            "hold": events.noted(Kind.HELD, one, at, Reason.HOLD, "Hold."),
            "other hold": events.noted(Kind.HELD, one, at, Reason.BUDGET_OUT, f"{n} out."),
            "absorb": events.absorbed("inc-1", GPU, events.episode_of(alert(f"A{n}"), at), at),
            "leave": events.moved(one, to, at, Reason.ROUTED, "It went on."),
            "another": events.suppressed(alert("B"), GPU, at, Reason.SPENT, "Over."),
        }[step]
        journal_state.apply(event)
        told.append(event)
    one = journal_state.incidents["inc-1"]
    shown = with_present(told, [one])
    if one.held or one.state is IncidentState.HELD:
        assert (shown[-1].reason, shown[-1].text) == one.current_reason
        assert shown[-1] in told
    else:
        assert shown == told
