from __future__ import annotations

from dataclasses import replace

from fleetmedic.kernel.labels import Target, TargetKind
from remediator.core import events
from remediator.core.book import Book
from remediator.core.decision import Widen
from remediator.core.events import Kind
from remediator.core.model import FaultClass, Level, Playbook, State
from remediator.core.reasons import Reason
from remediator.core.settle import Terms, admit, hand_over, settle, widen

NOW = 1_700_000_000.0
GPU = Target(TargetKind.GPU, "node2", 3)
NOTIFY = Playbook("notify", (), (), None, FaultClass.SERVICE, Level.OBSERVE)
NODE_DOWN = Playbook(
    "node-down", ("NodeDown",), (), TargetKind.NODE, FaultClass.HARDWARE, Level.REPAIR, quarantine=True
)  # fmt: skip


def _receive(book, alert, target, playbook, now=NOW):
    book.apply(events.alert_received(alert, target, now, "test"))
    written = admit(alert, target, playbook, book, now, Terms(Level.REPAIR))
    for event in written:
        book.apply(event)
    return written


def _kinds(written) -> list[Kind]:
    return [event.kind for event in written]


def test_a_first_alert_opens_an_incident_and_its_repetition_is_nothing(alert, playbook) -> None:
    book = Book()
    first = _receive(book, alert(), GPU, playbook)
    assert _kinds(first) == [Kind.INCIDENT_OPENED, Kind.ALERT_ABSORBED]
    assert _receive(book, alert(), GPU, playbook) == ()
    assert len(book.incidents) == 1


def test_another_alert_on_the_target_is_absorbed(alert, playbook) -> None:
    book = Book()
    _receive(book, alert(), GPU, playbook)
    assert _kinds(_receive(book, alert("GpuXidFatalHardware"), GPU, playbook)) == [
        Kind.ALERT_ABSORBED
    ]
    assert len(book.incident_on(GPU).alerts) == 2


def test_a_graver_alert_takes_over_from_an_incident_that_only_told_people(alert, playbook) -> None:
    book = Book()
    _receive(book, alert("Odd"), GPU, NOTIFY)
    written = _receive(book, alert(), GPU, playbook)
    assert Kind.STATE_CHANGED is written[0].kind
    assert book.incident_on(GPU).playbook == "gpu-lost"
    assert _kinds(_receive(book, alert("Odder"), GPU, NOTIFY)) == [Kind.ALERT_ABSORBED]


def test_the_graver_incident_keeps_the_alerts_of_the_one_it_ends(alert, playbook) -> None:
    book = Book()
    _receive(book, alert("Odd"), GPU, NOTIFY)
    _receive(book, alert(), GPU, playbook)
    assert {one.alertname for one in book.incident_on(GPU).alerts} == {"Odd", "GpuLost"}
    assert book.refused == 0


def test_alerts_of_one_gravity_are_witnesses_of_one_incident_in_any_order(alert, playbook) -> None:
    ecc = replace(playbook, name="gpu-repair", alertnames=("GpuEccUncorrectable",))
    pair = ((alert("GpuEccUncorrectable"), ecc), (alert("GpuXidFatalHardware"), playbook))
    for order in (pair, pair[::-1]):
        book = Book()
        for one, leads_to in order:
            _receive(book, one, GPU, leads_to)
        assert len(book.incidents) == 1
        assert len(book.incident_on(GPU).alerts) == 2


def test_after_the_cure_the_old_episodes_are_spent(alert, playbook) -> None:
    book = Book()
    _receive(book, alert(), GPU, playbook)
    one = book.incident_on(GPU)
    book.incidents[one.id] = closed = _closed(one, NOW + 20)
    book.open.pop(GPU)
    book.cured[GPU] = closed.repaired_at
    assert _receive(book, alert(), GPU, playbook, NOW + 60) == ()
    late = _receive(book, alert("GpuXidFatalHardware", at=NOW + 5), GPU, playbook, NOW + 60)
    assert [(one.kind, one.reason) for one in late] == [(Kind.SUPPRESSED, Reason.SPENT)]
    fresh = _receive(book, alert("GpuLost", at=NOW + 50), GPU, playbook, NOW + 60)
    assert Kind.INCIDENT_OPENED is fresh[0].kind
    assert fresh[0].data["recurrence"] == 1


def test_an_alert_that_comes_while_the_cure_is_told_opens_an_incident_of_its_own(
    alert, playbook, incident, after
) -> None:
    from remediator.core import plan

    book = Book()
    _receive(book, alert(), GPU, playbook)
    one = book.incident_on(GPU)
    done = replace(one, state=State.PROBATION, repaired_at=NOW + 20, quarantined=(GPU,))
    step = plan.new_step(done, "release", 1.0, also=(GPU,))
    book.incidents[one.id] = after(done, step, at=NOW + 50)
    old = _receive(book, alert("GpuXidFatalHardware", at=NOW + 5), GPU, playbook, NOW + 60)
    assert _kinds(old) == [Kind.ALERT_ABSORBED]
    _receive(book, alert("GpuHung", at=NOW + 55), GPU, playbook, NOW + 60)
    assert State.CLOSED is book.incidents[one.id].state
    assert book.incident_on(GPU).id != one.id
    assert book.refused == 0


def _closed(one, at):
    return replace(one, state=State.CLOSED, repaired_at=at, since=at)


def test_a_nodes_incident_takes_its_gpus_incidents_and_quarantines_over(
    alert, playbook, after, incident
) -> None:
    from dataclasses import replace

    book = Book()
    _receive(book, alert(), GPU, playbook)
    other = Target(TargetKind.GPU, "node2", 4)
    _receive(book, alert(gpu="4"), other, playbook)
    one = book.incident_on(GPU)
    book.incidents[one.id] = replace(one, state=State.JOBS_MOVED, quarantined=(GPU,))
    written = widen(
        book.incidents[one.id], Widen("two"), NODE_DOWN, book, NOW, Terms(Level.REPAIR, 1.0)
    )
    for event in written:
        book.apply(event)
    for gpu in (GPU, other):
        for event in hand_over(book.incident_on(gpu), book, NOW):
            book.apply(event)
    node = book.incident_on(Target(TargetKind.NODE, "node2"))
    assert book.refused == 0
    assert node.quarantined == (GPU,)
    assert (node,) == book.open_incidents()
    assert all(State.SUPPRESSED is one.state for one in book.incidents.values() if one is not node)
    assert {node.id} == {one.absorbed_by for one in book.incidents.values() if one is not node}
    third = _receive(book, alert(gpu="5"), Target(TargetKind.GPU, "node2", 5), playbook)
    assert [node.id] == [event.incident for event in third]


def _quarantined(book, alert, playbook):
    _receive(book, alert(), GPU, playbook)
    one = book.incident_on(GPU)
    book.incidents[one.id] = replace(one, state=State.JOBS_MOVED, quarantined=(GPU,))
    return book.incidents[one.id]


def test_a_nodes_incident_that_only_tells_people_takes_nothing_over(alert, playbook) -> None:
    book, node = Book(), Target(TargetKind.NODE, "node2")
    one = _quarantined(book, alert, playbook)
    _receive(book, alert("NodeOomKill"), node, NOTIFY)
    assert hand_over(one, book, NOW) == ()
    sick = _receive(book, alert(gpu="5"), Target(TargetKind.GPU, "node2", 5), playbook)
    assert sick[0].kind is Kind.INCIDENT_OPENED, "an alert must not end with what tells people"


def test_a_wider_incident_takes_over_from_one_that_only_tells_people(alert, playbook) -> None:
    book, node = Book(), Target(TargetKind.NODE, "node2")
    one = _quarantined(book, alert, playbook)
    _receive(book, alert("NodeOomKill"), node, NOTIFY)
    for event in widen(one, Widen("x"), NODE_DOWN, book, NOW, Terms(Level.REPAIR, 1.0)):
        book.apply(event)
    for event in hand_over(one, book, NOW):
        book.apply(event)
    assert book.refused == 0
    assert book.incident_on(GPU) is None
    heir = book.incident_on(node)
    assert (heir.playbook, heir.quarantined, len(heir.alerts)) == ("node-down", (GPU,), 2)


def test_an_incident_in_the_middle_of_a_step_is_handed_over_after_it(alert, playbook) -> None:
    from remediator.core import plan

    book = Book()
    _receive(book, alert(), GPU, playbook)
    one = book.incident_on(GPU)
    step = plan.quarantine(one)
    book.apply(events.step_event(Kind.STEP_PREPARED, one, step, NOW, Reason.STEP_ALLOWED))
    node = Target(TargetKind.NODE, "node2")
    _receive(book, alert("NodeDown"), node, NODE_DOWN)
    assert book.incident_on(GPU) is not None
    one = book.incident_on(GPU)
    book.apply(events.step_event(Kind.STEP_DONE, one, step, NOW, Reason.EFFECT_SEEN))
    for event in hand_over(book.incident_on(GPU), book, NOW):
        book.apply(event)
    assert book.incident_on(GPU) is None
    assert book.incident_on(node).quarantined == (GPU,)


def test_a_hold_is_written_once_and_asked_again(incident, case) -> None:
    from dataclasses import replace

    one = incident(State.TRIAGED)
    first = settle(case(one, paused=True, quarantine_owner=None))
    assert _kinds(first.events) == [Kind.STATE_CHANGED, Kind.HELD]
    held = replace(one, state=State.HELD, held=Reason.PAUSED, held_text=first.hold.text)
    second = settle(case(held, paused=True, quarantine_owner=None))
    assert second.events == ()
    assert second.wake_at is not None
    another = replace(held, held_text="bob paused every action: x")
    assert _kinds(settle(case(another, paused=True, quarantine_owner=None)).events) == [Kind.HELD]


def test_from_new_to_the_announced_quarantine_is_one_write(incident, case) -> None:
    settled = settle(case(incident(State.NEW), quarantine_owner=None))
    assert _kinds(settled.events) == [Kind.STATE_CHANGED, Kind.STEP_PREPARED]
    assert settled.step.action == "quarantine_gpu"
