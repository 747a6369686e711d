"""The console against a server that answers as the remediator does."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from fleetmedic.cli import main
from fleetmedic.kernel.home import StackFile
from fleetmedic.terminal.output import rows
from fleetmedic.terminal.times import moment
from remediator.console.cli import incidents, why
from remediator.console.orders import approve, close, pause, reject, release, resume, retry
from remediator.console.show import STYLES

NOW = time.time()
OPEN = {
    "id": "inc-0123456789",
    "target": "gpu/node2/3",
    "playbook": "gpu-lost",
    "level": "repair",
    "state": "REPAIRING",
    "reason": "repair_starts",
    "text": "reset_gpu is tried.",
    "opened": NOW - 60,
    "since": NOW - 10,
    "alerts": [],
}
CLOSED = {**OPEN, "id": "inc-aaaaaaaaaa", "target": "node/node1", "state": "CLOSED"}
OLD = {**CLOSED, "id": "inc-bbbbbbbbbb", "opened": NOW - 9e5, "since": NOW - 8e5}
EVENTS = [
    {"seq": 1, "at": NOW - 60, "event": "IncidentOpened", "reason": "routed", "text": "GpuLost."},
    {"seq": 2, "at": NOW - 50, "event": "StepPrepared", "reason": None, "text": "quarantine_gpu"},
]
DECISIONS = [
    {"at": NOW - 20, "reason": "routed", "text": "A playbook matches.", "incident": OPEN["id"]},
    {"at": NOW - 60, "reason": "hold", "text": "A short hold first.", "incident": OPEN["id"]},
]


@dataclass
class Place:
    """What the server answers by path, and what it was asked."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str, bytes]] = field(default_factory=list)

    def put(self, path: str, value: object, status: int = 200) -> None:
        self.answers[path] = (status, json.dumps(value).encode())


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "")
            found.asked.append((self.command, self.path, token, body))
            status, answer = found.answers.get(
                self.path, found.answers.get(self.path.split("?")[0], (404, b"{}"))
            )
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        found.put("/api/v1/incidents", {"incidents": [OPEN, CLOSED, OLD]})
        found.put(f"/api/v1/incidents/{OPEN['id']}", {"incident": OPEN, "events": EVENTS})
        found.put(
            "/api/v1/why",
            {"target": "gpu/node2/3", "incidents": [OPEN["id"]], "decisions": DECISIONS},
        )
        found.put("/api/v1/pause", {"paused": True, "text": "Paused."})
        found.put("/api/v1/resume", {"paused": False, "text": "Resumed\x1b[2J."})
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def state(place: Place, tmp_path: Path) -> Path:
    """The state folder of a stack whose remediator is `place`."""
    token = tmp_path / "webhook.token"
    token.write_text("hunter2\n")
    StackFile("local", 9090, True, {"remediator": place.url}, str(token)).save(tmp_path)
    return tmp_path


@pytest.fixture
def run(state: Path) -> Callable[..., Result]:
    """Run a console command as on a pipe; an error that is not a UserError fails the test."""

    def call(command: Any, *arguments: str) -> Result:
        return CliRunner().invoke(
            command, [*arguments, "--state-dir", str(state)], catch_exceptions=False
        )

    return call


def sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the whole program says on stderr; it must end with 2 and without a traceback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["fleetmedic", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("fleetmedic: ")
    assert said.count("\n") == 1
    return said


def test_incidents_are_plain_lines_without_a_terminal(run: Callable[..., Result]) -> None:
    lines = run(incidents).output.splitlines()
    assert lines[0].split() == ["id", "target", "state", "playbook", "opened", "why"]
    assert lines[1].startswith("inc-0123456789  gpu/node2/3  REPAIRING  gpu-lost")
    assert lines[1].endswith("reset_gpu is tried.")
    assert "\x1b" not in "".join(lines)


def test_what_ended_long_ago_is_listed_on_request(run: Callable[..., Result]) -> None:
    assert "inc-aaaaaaaaaa" in run(incidents).output
    assert "inc-bbbbbbbbbb" not in run(incidents).output
    assert "inc-bbbbbbbbbb" in run(incidents, "--all").output
    assert run(incidents, "list", "--all").output == run(incidents, "--all").output


def test_no_incident_is_said_in_words(run: Callable[..., Result], place: Place) -> None:
    place.put("/api/v1/incidents", {"incidents": []})
    assert run(incidents).output == "No incident is open.\n"
    place.put("/api/v1/incidents", {"incidents": [OLD]})
    assert run(incidents).output == "No incident is open; 1 ended earlier (--all lists them).\n"


def test_a_list_that_is_cut_says_so_and_how_to_see_the_rest(
    run: Callable[..., Result], place: Place, state: Path
) -> None:
    cut = {"incidents": [OPEN, CLOSED], "total": 11, "left_out": 9, "before": CLOSED["id"]}
    place.put("/api/v1/incidents", cut)
    first = run(incidents, "--all").output.splitlines()[0]
    assert first.startswith(
        "9 earlier incidents are not shown; `fleetmedic incidents --all --before "
    )
    assert f"--before inc-aaaaaaaaaa --state-dir {state}" in first
    assert place.asked[-1][1] == "/api/v1/incidents?limit=1000"
    run(incidents, "--all", "--limit", "5", "--before", "inc-aaaaaaaaaa")
    assert place.asked[-1][1] == "/api/v1/incidents?limit=5&before=inc-aaaaaaaaaa"
    place.put("/api/v1/incidents", {**cut, "left_out": 1})
    first = run(incidents).output.splitlines()[0]
    assert first.startswith("1 earlier incident is not shown; `fleetmedic incidents --before ")
    assert "&since=" in place.asked[-1][1], "the remediator leaves out what ended long ago"
    place.put("/api/v1/incidents", {"incidents": [], "total": 11})
    assert run(incidents).output == "No incident is open; 11 ended earlier (--all lists them).\n"


def test_a_target_is_found_by_the_remediator_and_not_in_the_list(
    run: Callable[..., Result], place: Place
) -> None:
    assert "REPAIRING" in run(incidents, "show", "node2/3").output
    assert place.asked[0][1] == "/api/v1/incidents?target=gpu%2Fnode2%2F3"


def test_events_and_decisions_that_are_cut_say_so(run: Callable[..., Result], place: Place) -> None:
    path = f"/api/v1/incidents/{OPEN['id']}"
    place.put(path, {"incident": OPEN, "events": EVENTS, "truncated": True})
    output = run(incidents, "show", OPEN["id"]).output
    assert "Only the latest 2 events are shown; `fleetmedic incidents show inc-0123456789" in output
    assert "--limit 10000" in output
    most = run(incidents, "show", OPEN["id"], "--limit", "10000").output
    assert "shown; `fleetmedic remediator journal` prints all of them." in most
    assert place.asked[-1][1] == f"{path}?limit=10000"
    place.put("/api/v1/why", {"target": "node/n", "decisions": DECISIONS, "truncated": True})
    cut = run(why, "node2/3").output.splitlines()[0]
    assert cut.startswith("Earlier decisions are not shown; `fleetmedic why node2/3 --limit 200")
    run(why, "node2/3", "--limit", "1000")
    assert place.asked[-1][1].endswith("&limit=10000")


def test_json_is_the_answer_as_it_came(run: Callable[..., Result]) -> None:
    assert json.loads(run(incidents, "--json").output)["incidents"][0] == OPEN
    assert json.loads(run(incidents, "show", OPEN["id"], "--json").output)["events"] == EVENTS
    assert json.loads(run(why, "node2/3", "--json").output)["decisions"] == DECISIONS


def test_show_tells_the_story_of_one_incident(run: Callable[..., Result]) -> None:
    output = run(incidents, "show", OPEN["id"]).output
    assert output.startswith("inc-0123456789: gpu/node2/3 is REPAIRING, playbook gpu-lost\n")
    assert "IncidentOpened  routed" in output
    assert output.rstrip().endswith("quarantine_gpu")


def test_an_incident_is_shown_by_its_id_alone(run: Callable[..., Result]) -> None:
    assert run(incidents, OPEN["id"]).output == run(incidents, "show", OPEN["id"]).output
    assert run(incidents, "lst").exit_code == 2


def test_a_groups_options_hold_for_its_commands(state: Path) -> None:
    result = CliRunner().invoke(incidents, ["--state-dir", str(state), "show", str(OPEN["id"])])
    assert "REPAIRING" in result.output


def test_why_asks_about_the_whole_target_and_tells_the_newest_last(
    run: Callable[..., Result], place: Place
) -> None:
    lines = run(why, "node2/gpu3").output.splitlines()
    assert place.asked[0][1] == "/api/v1/why?target=gpu%2Fnode2%2F3"
    assert [line.split()[-1] for line in lines[1:]] == ["routed", "hold"]
    assert "A short hold first." in lines[2]


def test_why_keeps_the_newest_where_they_are_many(run: Callable[..., Result]) -> None:
    """In the order of the journal: a wall clock that jumped changes nothing about what came last."""
    assert run(why, "node2/3", "--limit", "1").output.splitlines()[-1].endswith("  hold")


def _decision(event: str, reason: str, text: str, op_id: str = "") -> dict[str, Any]:
    return {
        **DECISIONS[0],
        "event": event,
        "reason": reason,
        "text": text,
        "data": {"op_id": op_id},
    }


def test_why_has_one_line_for_each_step_and_says_what_is_in_progress(
    run: Callable[..., Result], place: Place
) -> None:
    story = [
        _decision("IncidentOpened", "routed", "A playbook matches."),
        _decision("StateChanged", "routed", "A playbook matches."),
        _decision("StepPrepared", "quarantined", "It is quarantined.", "a"),
        _decision("StepDone", "effect_seen", "node2/3 gets no jobs.", "a"),
        _decision("StateChanged", "quarantined", "It is quarantined."),
        _decision("Held", "hold", "A short hold."),
        _decision("StepPrepared", "step_allowed", "The remediator tests it.", "b"),
        _decision("StepDone", "effect_seen", "Test passed.", "b"),
        _decision("Verified", "verified", "Test passed."),
        _decision("StepPrepared", "step_allowed", "People are notified.", "c"),
        _decision("StepDone", "effect_seen", "People are notified: it is healthy.", "c"),
        _decision("Notified", "notified", "it is healthy.", "c"),
        _decision("StateChanged", "release_failed", "It was not released."),
        _decision("StepPrepared", "step_allowed", "It is released.", "d"),
    ]
    place.put("/api/v1/why", {"target": "gpu/node2/3", "decisions": story})
    lines = run(why, "node2/3").output.splitlines()
    assert lines[0].split() == ["time", "decision", "incident", "reason", "code"]
    assert [re.split(r"  +", line)[1] for line in lines[1:]] == [
        "A playbook matches.",
        "node2/3 gets no jobs.",
        "A short hold.",
        "Test passed.",
        "People are notified: it is healthy.",
        "It was not released.",
        "It is released.",
    ]


def test_why_of_a_target_never_named_is_said_in_words(
    run: Callable[..., Result], place: Place
) -> None:
    none: dict[str, Any] = {"target": "job/train-x", "incidents": [], "decisions": []}
    place.put("/api/v1/why", none | {"text": "job/train-x is unknown:\x1b the cluster has none."})
    assert run(why, "job/train-x").output == "job/train-x is unknown:  the cluster has none.\n"
    place.put("/api/v1/why", none)
    assert run(why, "node9").output == "No decision about node/node9: no alert named it.\n"


def test_why_of_the_bare_name_of_a_job_points_to_the_job(
    run: Callable[..., Result], place: Place
) -> None:
    none: dict[str, Any] = {"target": "node/train1", "incidents": [], "decisions": []}
    place.put("/api/v1/why", none)
    assert run(why, "train1").output == "No decision about node/train1: no alert named it.\n"
    place.put("/api/v1/why?target=job%2Ftrain1", none | {"decisions": DECISIONS})
    said = run(why, "train1").output
    assert said.startswith(
        "node/train1: no decision about a node of this name; see `fleetmedic why job/train1"
    )


def test_a_target_after_incidents_shows_its_incident(run: Callable[..., Result]) -> None:
    assert run(incidents, "node2/3").output == run(incidents, "show", "node2/3").output
    assert "inc-0123456789: gpu/node2/3" in run(incidents, "node2/3").output
    assert "No such command 'node2'" in run(incidents, "node2").output


def test_why_of_a_node_points_to_its_gpus_where_they_were_the_patients(
    run: Callable[..., Result], place: Place
) -> None:
    place.put("/api/v1/why", {"target": "node/node2", "incidents": [], "decisions": []})
    said = run(why, "node2").output
    assert "no decision about the node itself" in said
    assert "fleetmedic why node2/3" in said


def test_pause_and_resume_carry_the_token_and_who_did_it(
    run: Callable[..., Result], place: Place
) -> None:
    assert run(pause, "--reason", "rack 4\x1b[2J").output.startswith("Paused")
    assert run(resume).output == "Resumed [2J.\n"
    (how, path, token, body), (_, other, second, _) = place.asked
    assert (how, path, token) == ("POST", "/api/v1/pause", "Bearer hunter2")
    assert json.loads(body)["reason"] == "rack 4 [2J"
    assert json.loads(body)["by"]
    assert (other, second) == ("/api/v1/resume", "Bearer hunter2")


def test_a_pause_is_shown_above_incidents_and_decisions(
    run: Callable[..., Result], place: Place
) -> None:
    pause = {"by": "alice", "reason": "rack\x1b 4", "at": NOW - 60}
    place.put("/api/v1/incidents", {"incidents": [], "pause": pause})
    place.put("/api/v1/why", {"target": "node/n", "decisions": DECISIONS, "pause": pause})
    line = f"Paused by alice since {moment(NOW - 60)}: rack  4\n"
    assert run(incidents).output.startswith(line)
    assert run(why, "node2/3").output.startswith(line)


def test_another_remediator_is_named_above_incidents_and_decisions(
    run: Callable[..., Result], place: Place
) -> None:
    taken = "Another remediator acts; this one takes no action."
    place.put("/api/v1/incidents", {"incidents": [OPEN], "refusal": taken})
    told = {"target": "gpu/node2/3", "decisions": DECISIONS, "refusal": taken}
    place.put("/api/v1/why", told)
    assert run(incidents).output.splitlines()[0] == taken
    assert run(why, "node2/3").output.splitlines()[0] == taken


def test_the_story_of_an_incident_begins_with_its_summary(
    run: Callable[..., Result], place: Place
) -> None:
    told = {"incident": OPEN, "events": [], "summary": "GpuLost on\x1b node2/3 since noon."}
    place.put(f"/api/v1/incidents/{OPEN['id']}", told)
    assert "GpuLost on  node2/3 since noon.\n" in run(incidents, "show", OPEN["id"]).output


def test_what_a_guard_holds_says_so_in_every_state(
    run: Callable[..., Result], place: Place
) -> None:
    held = {**OPEN, "state": "QUARANTINED", "held_since": NOW - 5, "text": "The budget is spent."}
    waits = {**OPEN, "id": "inc-cccccccccc", "state": "HELD", "held_since": NOW - 5}
    place.put("/api/v1/incidents", {"incidents": [held, waits]})
    place.put(f"/api/v1/incidents/{OPEN['id']}", {"incident": held, "events": []})
    listed = run(incidents).output
    assert "QUARANTINED, held  gpu-lost" in listed
    assert "The budget is spent." in listed
    assert "HELD, held" not in listed
    shown = run(incidents, "show", OPEN["id"]).output
    assert f"is QUARANTINED, held since {moment(NOW - 5)}, playbook gpu-lost" in shown


def test_a_closed_incident_whose_alert_still_fires_says_so(
    run: Callable[..., Result], place: Place
) -> None:
    closed = {**CLOSED, "since": NOW, "still_firing": ["DiskFull"]}
    place.put("/api/v1/incidents", {"incidents": [closed]})
    place.put(f"/api/v1/incidents/{closed['id']}", {"incident": closed, "events": []})
    told = {"target": "node/node1", "decisions": DECISIONS, "still_firing": ["DiskFull"]}
    place.put("/api/v1/why", told)
    assert "CLOSED, alert firing  gpu-lost" in run(incidents).output
    assert "is CLOSED, alert firing, playbook" in run(incidents, "show", closed["id"]).output
    line = run(why, "node1").output.splitlines()[-1]
    assert line == "Still firing, and not handled by an open incident: DiskFull."


def test_a_release_carries_the_token_who_and_why(run: Callable[..., Result], place: Place) -> None:
    place.put("/api/v1/targets/release", {"text": "gpu/node2/3 is\x1b back in service."})
    done = run(release, "node2/gpu3", "--reason", " cable\nreplaced ")
    assert done.output == "gpu/node2/3 is  back in service.\n"
    ((how, path, token, body),) = place.asked
    assert (how, path, token) == ("POST", "/api/v1/targets/release", "Bearer hunter2")
    sent = json.loads(body)
    assert (sent["target"], sent["reason"]) == ("gpu/node2/3", "cable replaced")
    assert sent["by"]


@pytest.mark.parametrize("name", ["inc-0123456789", "node2/3", "gpu/node2/3"])
def test_an_incident_is_named_by_its_id_or_its_target(
    run: Callable[..., Result], place: Place, name: str
) -> None:
    place.put(f"/api/v1/incidents/{OPEN['id']}/close", {"text": "Closed."})
    place.put(f"/api/v1/incidents/{OPEN['id']}/retry", {"text": "Retried."})
    assert run(close, name, "--reason", "x").output == "Closed.\n"
    assert json.loads(place.asked[-1][3])["keep_quarantine"] is False
    assert run(close, name, "--reason", "x", "--keep-quarantine").output == "Closed.\n"
    assert json.loads(place.asked[-1][3])["keep_quarantine"] is True
    assert run(retry, name, "--reason", "reseated").output == "Retried.\n"
    assert json.loads(place.asked[-1][3])["reason"] == "reseated"
    assert place.asked[-1][2] == "Bearer hunter2"


@pytest.mark.parametrize("order", [approve, reject])
def test_a_request_is_answered_with_who_why_and_its_number(
    run: Callable[..., Result], place: Place, order: click.Command
) -> None:
    place.put(f"/api/v1/incidents/{OPEN['id']}/{order.name}", {"text": "Noted."})
    assert run(order, "node2/3", "--reason", "burnt in").output == "Noted.\n"
    sent = json.loads(place.asked[-1][3])
    assert (sent["reason"], "request" in sent, bool(sent["by"])) == ("burnt in", False, True)
    assert run(
        order, OPEN["id"], "--reason", "x", "--by", " alice ", "--request", "2"
    ).output == "Noted.\n"  # fmt: skip
    assert json.loads(place.asked[-1][3]) == {"by": "alice", "reason": "x", "request": 2}
    assert place.asked[-1][2] == "Bearer hunter2"


def test_an_author_without_a_name_and_a_request_without_a_number_are_refused(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    where = ("--reason", "x", "--state-dir", str(state))
    assert "--by: expected a name" in sentence(capsys, "approve", "node2/3", "--by", " ", *where)
    refused = CliRunner().invoke(approve, ["node2/3", "--reason", "x", "--request", "0"])
    assert (refused.exit_code, "--request" in refused.output) == (2, True)
    assert place.asked == []


@pytest.mark.parametrize("name", ["node1", "node2/4", "job/train-a", "../pause"])
def test_a_target_without_an_open_incident_is_one_sentence(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path, name: str
) -> None:
    said = sentence(capsys, "close", name, "--reason", "x", "--state-dir", str(state))
    assert ("no incident is open on" in said) or ("expected an incident id, or a target" in said)
    assert {how for how, *_ in place.asked} <= {"GET"}


def test_a_gpu_whose_node_has_the_incident_is_told_so(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    place.put("/api/v1/incidents", {"incidents": [{**OPEN, "target": "node/node2"}]})
    said = sentence(capsys, "retry", "node2/3", "--reason", "x", "--state-dir", str(state))
    assert "specify inc-0123456789, the incident on node/node2" in said


def test_an_order_that_cannot_be_done_is_the_remediators_own_sentence(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    why_not = "inc-0123456789 still holds a quarantine of gpu/node2/3: release it first."
    place.answers[f"/api/v1/incidents/{OPEN['id']}/close"] = (409, f"{why_not}\n".encode())
    said = sentence(capsys, "close", "node2/3", "--reason", "x", "--state-dir", str(state))
    assert said == f"fleetmedic: {why_not}\n"


def test_orders_about_an_unknown_incident_or_without_a_reason_are_one_sentence(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    where = ("--state-dir", str(state))
    said = sentence(capsys, "retry", "inc-ffffffffff", "--reason", "x", *where)
    assert "incident 'inc-ffffffffff' not found" in said
    asked = len(place.asked)
    for order in (("release", "node2/3"), ("close", "node2/3"), ("retry", "node2/3")):
        assert "--reason: expected a reason" in sentence(capsys, *order, "--reason", " \t", *where)
    assert len(place.asked) == asked
    assert "older version" in sentence(capsys, "release", "node2/3", "--reason", "x", *where)


@pytest.mark.parametrize("command", [release, close, retry, approve, reject])
def test_an_order_needs_a_reason(command: Any) -> None:
    asked = CliRunner().invoke(command, ["node2/3"])
    assert asked.exit_code == 2
    assert "--reason" in asked.output


def test_the_help_of_release_says_how_long_it_is_respected() -> None:
    assert "For the next 4 h" in " ".join(CliRunner().invoke(release, ["--help"]).output.split())


def test_reading_sends_no_token(run: Callable[..., Result], place: Place) -> None:
    run(incidents)
    assert place.asked[0][2] == ""


def test_a_token_named_by_hand_goes_with_reads_too(
    run: Callable[..., Result], place: Place, state: Path
) -> None:
    run(incidents, "--token-file", str(state / "webhook.token"))
    assert place.asked[0][2] == "Bearer hunter2"


def test_a_remediator_that_wants_a_token_for_reading_says_so(
    capsys: pytest.CaptureFixture[str], place: Place
) -> None:
    place.put("/api/v1/incidents", {}, 401)
    assert "requires its token" in sentence(capsys, "incidents", "--url", place.url)


def test_text_from_outside_cannot_steer_the_terminal(
    run: Callable[..., Result], place: Place
) -> None:
    evil = {**OPEN, "text": "a\x1b]0;owned\x07\nb"}
    place.put("/api/v1/incidents", {"incidents": [evil]})
    output = run(incidents).output
    assert "\x1b" not in output
    assert "\x07" not in output
    assert len(output.splitlines()) == 2


def test_a_terminal_gets_a_table_and_markup_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = [("inc-1", "ESCALATED"), ("[red]", "HELD"), ("inc-2", "QUARANTINED, held")]
    rows(("id", "state"), lines, STYLES)
    drawn = screen.getvalue()
    assert "\x1b[33mQUARANTINED, held" in drawn
    assert "\x1b[1;31mESCALATED" in drawn
    assert "[red]" in drawn


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 160, 250])
def test_no_text_is_cut_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    cells = ("train-a", "QUARANTINED, held", "0,1,2,3,4,5,6,7", "12h", "one of many", "two " * 40)
    rows(("JOB", "STATE", "GPUS", "AGE", "NODE", "REASON"), [cells], {})
    drawn = screen.getvalue()
    for word in " ".join(cells).split():
        assert word in drawn, columns
    assert drawn.count("two") == 40


def test_no_color_is_honoured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    rows(("id", "state"), [("inc-1", "ESCALATED")], STYLES)
    assert "31m" not in screen.getvalue()


def test_a_time_is_in_utc_and_an_event_has_its_millisecond(
    run: Callable[..., Result], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of one second are told apart."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    story = [{**EVENTS[1], "at": 1_700_000_000.25}, {**EVENTS[1], "at": 1_700_000_000.5}]
    place.put(f"/api/v1/incidents/{OPEN['id']}", {"incident": OPEN, "events": story})
    decided = [{**DECISIONS[0], "at": 1_700_000_000.25}]
    place.put("/api/v1/why", {"target": "gpu/node2/3", "decisions": decided})
    try:
        shown = run(incidents, "show", OPEN["id"]).output
        assert "2023-11-14 22:13:20.250 UTC" in shown
        assert "2023-11-14 22:13:20.500 UTC" in shown
        assert "2023-11-14 22:13:20.250 UTC" in run(why, "node2/3").output
        assert moment(1_700_000_000.5) == "2023-11-14 22:13:20 UTC"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("at", [0.0, -1.0, float("nan"), 1e300])
def test_a_time_that_is_none_is_a_dash(at: float) -> None:
    assert moment(at) == "-"


def test_a_remediator_that_is_not_there_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = sentence(capsys, "incidents", "--url", "http://127.0.0.1:1")
    assert "cannot be reached (Connection refused)" in said
    assert "fleetmedic up" in said


def test_no_stack_at_all_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "no stack was started in" in sentence(
        capsys, "why", "node1", "--state-dir", str(tmp_path)
    )


def test_a_target_that_is_none_is_one_sentence(
    capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    assert "expected a target" in sentence(capsys, "why", "../etc", "--state-dir", str(state))


@pytest.mark.parametrize(
    ("incident", "what"),
    [
        ("inc-ffffffffff", "incident 'inc-ffffffffff' not found"),
        ("inc-xyz", "incident 'inc-xyz' not found"),
        ("inc-a/../pause", "incident 'inc-a/../pause' not found"),
        ("../pause", "expected an incident id, or a target"),
        ("a?b", "expected an incident id, or a target"),
        ("node9", "no incident exists on node/node9; `fleetmedic incidents --all"),
        ("node1/5", "specify inc-bbbbbbbbbb, the incident on node/node1"),
    ],
)
def test_an_unknown_incident_is_one_sentence(
    capsys: pytest.CaptureFixture[str], state: Path, incident: str, what: str
) -> None:
    assert what in sentence(capsys, "incidents", "show", incident, "--state-dir", str(state))


def test_close_of_an_id_that_cannot_exist_does_not_speak_of_a_node(
    capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    said = sentence(capsys, "close", "inc-xyz", "--reason", "x", "--state-dir", str(state))
    assert "incident 'inc-xyz' not found" in said


@pytest.mark.parametrize("target", ["node2/3", "gpu/node2/3"])
def test_show_of_a_target_is_its_latest_incident(
    run: Callable[..., Result], place: Place, target: str
) -> None:
    older = {**OPEN, "id": "inc-eeeeeeeeee", "state": "CLOSED", "opened": NOW - 900}
    place.put("/api/v1/incidents", {"incidents": [older, OPEN, CLOSED]})
    assert run(incidents, "show", target).output.startswith("inc-0123456789: gpu/node2/3 is")
    place.put("/api/v1/incidents/inc-eeeeeeeeee", {"incident": older, "events": EVENTS})
    place.put("/api/v1/incidents", {"incidents": [older]})
    assert run(incidents, "show", target).output.startswith("inc-eeeeeeeeee: gpu/node2/3 is CLOSED")


def test_a_refused_token_names_its_file(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    place.put("/api/v1/pause", {}, 401)
    assert "refused the token in" in sentence(capsys, "pause", "--state-dir", str(state))


def test_a_missing_or_senseless_token_is_one_sentence(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    assert "--token-file" in sentence(capsys, "resume", "--url", place.url)
    assert "cannot be read" in sentence(
        capsys, "resume", "--url", place.url, "--token-file", str(state / "none")
    )
    (state / "webhook.token").write_text("two words\n")
    assert "invalid token" in sentence(capsys, "resume", "--state-dir", str(state))
    assert place.asked == []


def test_the_token_follows_no_redirect(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    place.put("/api/v1/pause", {}, 302)
    assert "returned status 302" in sentence(capsys, "pause", "--state-dir", str(state))
    assert [path for _, path, _, _ in place.asked] == ["/api/v1/pause"]


def test_trouble_at_the_other_side_is_one_sentence_with_its_words(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path
) -> None:
    place.answers["/api/v1/incidents"] = (503, b"the journal\n is \x1b[31mdown")
    said = sentence(capsys, "incidents", "--state-dir", str(state))
    assert "returned status 503: the journal is [31mdown;" in said


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"incidents": 3}', b"\xff", b'{"incidents":' + b"[" * 100_000]
)
def test_something_else_at_the_address_is_one_sentence(
    capsys: pytest.CaptureFixture[str], place: Place, state: Path, body: bytes
) -> None:
    place.answers["/api/v1/incidents"] = (200, body)
    said = sentence(capsys, "incidents", "--state-dir", str(state))
    assert "is not a remediator; check --url" in said


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "localhost:9095",
        "ftp://a",
        "http://h:99999",
        "http://[::1",
        "http://h?a",
    ],
)
def test_an_address_of_another_kind_is_refused(
    capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert "--url: expected a URL" in sentence(capsys, "incidents", "--url", url)


def test_why_keeps_what_the_incident_began_with_and_says_what_it_leaves_out(
    run: Callable[..., Result], place: Place
) -> None:
    older = [
        {**DECISIONS[0], "text": f"Older {n}.", "incident": "inc-aaaaaaaaaa"} for n in range(3)
    ]
    newer = [{**DECISIONS[0], "text": f"Newer {n}."} for n in range(5)]
    place.put("/api/v1/why", {"target": "gpu/node2/3", "decisions": older + newer})

    def told(limit: int) -> list[str]:
        lines = run(why, "node2/3", "--limit", str(limit)).output.splitlines()[1:]
        return re.findall(r"Newer \d|Older \d|\d+ decisions left out: --limit 8", "\n".join(lines))

    assert told(2) == [
        "Newer 0",
        "5 decisions left out: --limit 8",
        "Newer 3",
        "Newer 4",
    ]
    assert told(5) == [
        "3 decisions left out: --limit 8",
        *(f"Newer {n}" for n in range(5)),
    ]
    assert len(told(8)) == 8


def test_a_refusal_of_the_host_name_is_told_as_it_is(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.answers["/api/v1/incidents"] = (403, b"Unknown host name: add it to `allowed_hosts`.\n")
    assert "allowed_hosts" in sentence(capsys, "incidents", "--url", place.url)


def completed(command: click.Command, state: Path, *words: str) -> list[str]:
    """What the shell is offered for the last word."""
    arguments = ["--state-dir", str(state), *words[:-1]]
    found = ShellComplete(command, {}, "x", "_X").get_completions(arguments, words[-1])
    return [one.value for one in found]


def test_targets_and_incidents_are_completed(state: Path) -> None:
    assert completed(why, state, "") == ["node2/3", "node1"]
    assert completed(why, state, "node2") == ["node2/3"]
    assert completed(incidents, state, "show", "inc-a") == [CLOSED["id"]]
    assert completed(incidents, state, "show", "node") == ["node2/3", "node1"]
    assert completed(close, state, "") == [OPEN["id"], "node2/3"]


def test_an_order_is_completed_with_what_it_can_be_given(state: Path, place: Place) -> None:
    job = {**OPEN, "id": "inc-cccccccccc", "target": "job/a", "state": "ESCALATED"}
    place.put("/api/v1/incidents", {"incidents": [CLOSED, job, OPEN]})
    assert completed(release, state, "") == ["node2/3", "node1"]
    assert completed(retry, state, "") == [job["id"], "job/a"]
    asks = {**OPEN, "id": "inc-dddddddddd", "target": "gpu/n/1", "state": "AWAIT_APPROVAL"}
    place.put("/api/v1/incidents", {"incidents": [CLOSED, asks, OPEN]})
    assert completed(approve, state, "") == completed(reject, state, "") == [asks["id"], "n/1"]


def test_completion_without_a_remediator_offers_nothing(tmp_path: Path, place: Place) -> None:
    assert completed(why, tmp_path, "") == []
    place.answers["/api/v1/incidents"] = (500, b"")
    assert completed(why, tmp_path, "") == []
