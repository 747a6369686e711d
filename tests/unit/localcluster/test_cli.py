"""The commands `run` and `jobs` against a real store, without a controller."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from fleetmedic.cli import cli
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.terminal.times import moment


@pytest.fixture
def state(tmp_path: Path) -> Path:
    Hardware(tmp_path / "hardware").create(nodes=1, gpus=4)
    LocalCluster(tmp_path / "cluster", tmp_path / "hardware")
    return tmp_path


def invoke(state: Path, *words: str) -> Result:
    command, *rest = words
    return CliRunner().invoke(cli, [command, "--state-dir", str(state), *rest])


def test_run_queues_the_job_and_says_how_to_see_it(state: Path) -> None:
    said = invoke(
        state, "run", "--gpus", "2", "--name", "train-a", "--env", "A=b", "python", "-c", "x"
    )
    assert said.exit_code == 0, said.output
    show = f"`fleetmedic jobs train-a --state-dir {state}`"
    assert f"train-a is queued. Show it with {show}." in said.output
    assert "The controller is not running" in said.output
    job = LocalCluster(state / "cluster").job("train-a")
    assert job.command == ("python", "-c", "x")


def test_jobs_lists_shows_and_cancels(state: Path) -> None:
    assert "No jobs." in invoke(state, "jobs").output
    invoke(state, "run", "--name", "train-a", "--", "true")
    assert "train-a" in invoke(state, "jobs").output
    assert "PENDING" in invoke(state, "jobs", "train-a").output
    assert "train-a" in invoke(state, "jobs", "show", "train-a").output
    assert "is being stopped" in invoke(state, "jobs", "cancel", "train-a").output
    (found,) = json.loads(invoke(state, "jobs", "--json").stdout)
    assert (found["id"], found["state"], found["command"]) == ("train-a", "CANCELLED", ["true"])
    assert "has already ended" in invoke(state, "jobs", "--cancel", "train-a").output


class Attempts:
    """The job train-a in a store without a controller; the test writes what its attempts print."""

    def __init__(self, state: Path) -> None:
        invoke(state, "run", "--name", "train-a", "--", "true")
        self.cluster = LocalCluster(state / "cluster")

    def set(self, column: str, value: object) -> None:
        with self.cluster.store.write() as db:
            db.execute(f"UPDATE jobs SET {column} = ? WHERE id = 'train-a'", (value,))

    def prints(self, attempt: int, text: str) -> None:
        self.set("attempt", attempt)
        log = self.cluster.job("train-a").log
        assert log is not None
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(text)


def test_jobs_logs_prints_the_last_lines_of_an_attempt(state: Path) -> None:
    attempts = Attempts(state)
    logs = ("jobs", "logs", "train-a")
    assert "no output of attempt 1. PENDING: waiting for placement" in invoke(state, *logs).stderr
    attempts.prints(1, "one\ntwo\nthree\n")
    attempts.prints(2, "four\n")
    assert invoke(state, *logs).output == "four\n"
    assert invoke(state, *logs, "--attempt", "1", "-n", "2").output == "two\nthree\n"
    assert "latest attempt of train-a is 2" in str(invoke(state, *logs, "--attempt", "3").exception)
    hint = f"previous attempt: `fleetmedic jobs logs train-a --attempt 1 --state-dir {state}`"
    assert hint in invoke(state, "jobs", "train-a").output


def test_jobs_names_the_attempt_and_tells_the_age_from_the_duration(state: Path) -> None:
    attempts = Attempts(state)

    def cells() -> dict[str, str]:
        lines = invoke(state, "jobs").stdout.splitlines()
        heads, values = (re.split(r"  +", line) for line in lines)
        return dict(zip(heads, values, strict=True))

    assert (cells()["DURATION"], cells()["ATTEMPT"]) == ("-", "-")
    attempts.prints(2, "")
    now = time.time()
    for column, ago in (("submitted", 3 * 86_400), ("started", 2 * 86_400), ("finished", 86_400)):
        attempts.set(column, now - ago)
    found = cells()
    assert (found["AGE"][:2], found["DURATION"], found["ATTEMPT"]) == ("3d", "1d", "2")
    shown = invoke(state, "jobs", "train-a").output
    assert "attempt:     2\nrestarts:    1, 0 of them on other GPUs\n" in shown
    assert f"ended:       {moment(now - 86_400)}\n" in shown


def test_following_misses_no_attempt_and_no_end_of_one(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(state)
    attempts.prints(1, "one\n")

    def between_two_looks(_: float) -> None:
        if attempts.cluster.job("train-a").latest_attempt == 1:
            attempts.prints(1, "late \u00e9\n")
            attempts.prints(2, "short\n")
            attempts.prints(3, "three\n")
        else:
            attempts.prints(3, "last\n")
            attempts.set("state", "COMPLETED")

    monkeypatch.setattr("fleetmedic.localcluster.job_output.time.sleep", between_two_looks)
    said = invoke(state, "jobs", "logs", "train-a", "--follow")
    assert said.exit_code == 0, said.output
    assert said.stdout == "one\nlate \u00e9\nshort\nthree\nlast\n"
    assert "train-a: output of attempt 2:\n" in said.stderr


@pytest.mark.parametrize("words", [("jobs",), ("jobs", "train-a"), ("jobs", "cancel", "train-a")])
def test_a_command_says_that_the_controller_does_not_run(
    state: Path, words: tuple[str, ...]
) -> None:
    invoke(state, "run", "--name", "train-a", "--", "true")
    assert "The controller is not running" in invoke(state, *words).stderr


def test_ctrl_c_while_following_ends_the_command_and_not_the_job(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fleetmedic.localcluster.job_output.time.sleep", interrupted)
    said = invoke(state, "run", "--name", "train-a", "--follow", "--", "true")
    assert said.exit_code == 130
    cure = f"To cancel it, run `fleetmedic jobs cancel train-a --state-dir {state}`."
    assert f"train-a keeps running. {cure}" in said.stderr


def test_a_checkpoint_directory_that_cannot_be_made_is_refused(state: Path) -> None:
    said = invoke(state, "run", "--checkpoint-dir", "/proc/no/such", "--", "true")
    assert "--checkpoint-dir /proc/no/such: cannot create the directory" in str(said.exception)
    assert LocalCluster(state / "cluster").jobs() == []


def test_the_shell_completes_jobs(state: Path) -> None:
    invoke(state, "run", "--name", "train-a", "--", "true")
    for words in (["jobs"], ["jobs", "logs"], ["jobs", "cancel"]):
        shell = ShellComplete(cli, {}, "fleetmedic", "_FLEETMEDIC_COMPLETE")
        found = shell.get_completions([words[0], "--state-dir", str(state), *words[1:]], "tr")
        assert [one.value for one in found] == ["train-a"], words


def test_nodes_say_what_holds_their_gpus(state: Path) -> None:
    cluster = LocalCluster(state / "cluster")
    cluster.quarantine(Target.parse("node1/2"), op_id="q", owner="kim", reason="new fans")
    said = CliRunner().invoke(cli, ["localcluster", "nodes", "--state-dir", str(state)])
    assert "3 of 4 GPUs free" in said.output
    assert "GPU 2: quarantined by kim: new fans" in said.output


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--name", "../x", "true"),
        ("run", "--gpus", "9", "true"),
        ("run", "--node", "node9", "true"),
        ("run", "--node", "node1", "--gpus", "5", "true"),
        ("run", "--env", "NOT_SET_ANYWHERE", "true"),
        ("run", "--", ""),
        ("jobs", "a/b"),
        ("jobs", "nobody"),
        ("jobs", "--cancel", "nobody"),
    ],
)
def test_what_cannot_be_is_one_sentence(state: Path, words: tuple[str, ...]) -> None:
    assert isinstance(invoke(state, *words).exception, UserError)


def test_an_empty_program_is_named_as_such(state: Path) -> None:
    assert "the first word is empty" in str(invoke(state, "run", "--", "", "x").exception)


def test_a_folder_without_a_cluster_is_one_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    assert isinstance(invoke(tmp_path, "jobs").exception, UserError)
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_a_job_that_has_not_ended_is_refused(state: Path) -> None:
    assert invoke(state, "run", "--name", "train-a", "--", "true").exit_code == 0
    again = invoke(state, "run", "--name", "train-a", "--", "true")
    assert "a job train-a has not ended" in str(again.exception)
    invoke(state, "jobs", "--cancel", "train-a")
    assert invoke(state, "run", "--name", "train-a", "--", "true").exit_code == 0


def test_a_command_can_put_load_on_simulated_gpus(state: Path) -> None:
    invoke(state, "run", "--name", "heat", "--simulate-load", "--", "sleep", "9")
    command = LocalCluster(state / "cluster").job("heat").command
    assert command[1:] == ("-P", "-m", "fleetmedic.hardware.simulated_load", "sleep", "9")
    shown = invoke(state, "jobs", "heat").output
    assert "command:     sleep 9\nload:        simulated\n" in shown


def test_a_command_is_shown_as_a_shell_would_read_it(state: Path) -> None:
    invoke(state, "run", "--name", "own", "--", "sh", "-c", "echo hi; sleep 30")
    assert "command:     sh -c 'echo hi; sleep 30'\nuser:" in invoke(state, "jobs", "own").output


def test_a_job_without_gpus_is_refused(state: Path) -> None:
    assert "1<=x<=1024" in invoke(state, "run", "--gpus", "0", "--", "true").output
