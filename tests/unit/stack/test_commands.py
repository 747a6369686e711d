"""The commands around a stack: inject, snippets, doctor, status, down, as a user types them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.kernel.labels import Target
from fleetmedic.kernel.share import share
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.stack.cli import up
from fleetmedic.stack.config_snippets import config
from fleetmedic.stack.directory_lock import MARK, announce, holder
from fleetmedic.stack.doctor import doctor
from fleetmedic.stack.identity import own_identity
from fleetmedic.stack.inject import inject
from fleetmedic.stack.lifecycle import STATE_NAMES, Stack, StackOptions, require_same_fleet, reset
from fleetmedic.stack.plan import decide
from fleetmedic.stack.render import prometheus


@pytest.fixture
def run() -> CliRunner:
    return CliRunner(catch_exceptions=False)


def test_inject_loses_the_gpu_that_is_named(tmp_path: Path, run: CliRunner) -> None:
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(2, 4)
    result = run.invoke(inject, ["node2/3", "lost", "--state-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert hardware.gpu("node2", 3).lost
    assert "gpu/node2/3: injected lost" in result.output


def completed(command: click.Command, state: Path, *words: str) -> list[str]:
    """What the shell is offered for the last word."""
    arguments = [*words[:-1], "--state-dir", str(state)]
    found = ShellComplete(command, {}, "x", "_X").get_completions(arguments, words[-1])
    return [one.value for one in found]


def test_gpus_and_faults_are_completed(tmp_path: Path) -> None:
    Hardware(tmp_path / "hardware").create(2, 2)
    assert completed(inject, tmp_path, "node2") == ["node2/0", "node2/1"]
    assert completed(inject, tmp_path, "node2/0", "h") == ["hang", "hot", "heal"]
    assert completed(inject, tmp_path / "none", "") == []


def test_processes_with_a_log_are_completed(tmp_path: Path) -> None:
    assert completed(up, tmp_path, "logs", "") == []
    (tmp_path / "logs").mkdir()
    for name in ("localcluster.log", "localcluster.log.1", "rules.log"):
        (tmp_path / "logs" / name).touch()
    assert completed(up, tmp_path, "logs", "") == ["localcluster", "pool", "rules"]


def test_a_fault_that_does_not_exist_is_named_by_its_argument(run: CliRunner) -> None:
    output = run.invoke(inject, ["node1/0", "lots"]).output
    assert "Invalid value for 'FAULT': 'lots' is not one of 'lost', 'hang'" in output


@pytest.mark.parametrize("target", ["", "node2", "job/a", "a b"])
def test_inject_names_only_gpus_as_targets(tmp_path: Path, run: CliRunner, target: str) -> None:
    with pytest.raises(UserError) as refused:
        run.invoke(inject, [target, "lost", "--state-dir", str(tmp_path)])
    assert str(refused.value) == (f"TARGET: expected NODE/INDEX, such as node2/3, got {target!r}.")


def test_a_state_directory_that_is_a_file_is_named_as_such(
    tmp_path: Path, run: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLEETMEDIC_STATE_DIR", str(tmp_path / "file"))
    for words in (["status"], ["logs", "rules"]):
        with pytest.raises(UserError, match=r"file is not a directory\. Select another one with"):
            run.invoke(up, words)


@pytest.mark.parametrize("target", ["node2", "job/a", "node2/99", "../x/1"])
def test_inject_refuses_what_is_no_gpu(tmp_path: Path, run: CliRunner, target: str) -> None:
    Hardware(tmp_path / "hardware").create(2, 4)
    with pytest.raises(UserError):
        run.invoke(inject, [target, "lost", "--state-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lost --speed 0.5", "--speed: not used by the fault lost, only by slow"),
        ("slow --xid 31", "--xid: not used by the fault slow, only by xid"),
        ("hot --count 1", "--count: not used by the fault hot, only by xid"),
        ("xid --heals-by reset", "--heals-by: not used by the fault xid, only by lost, hang, slow"),
        ("heal --heals-by none", "--heals-by: not used by the fault heal"),
    ],
)
def test_inject_refuses_an_option_that_the_fault_does_not_use(
    tmp_path: Path, run: CliRunner, words: str, said: str
) -> None:
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(nodes=1, gpus=1)
    with pytest.raises(UserError, match=said):
        run.invoke(inject, ["node1/0", *words.split(), "--state-dir", str(tmp_path)])
    assert hardware.gpu("node1", 0).healthy
    for used in ("slow --speed 0.5 --heals-by none", "xid --xid 13 --count 2", "heal"):
        arguments = ["node1/0", *used.split(), "--state-dir", str(tmp_path)]
        assert run.invoke(inject, arguments).exit_code == 0


def test_inject_says_when_the_fault_of_an_idle_gpu_cannot_be_seen(
    tmp_path: Path, run: CliRunner
) -> None:
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(nodes=1, gpus=2)
    hardware.set_load("node1", 1, 0.9, 0.5)
    where = ["--state-dir", str(tmp_path)]
    said = run.invoke(inject, ["node1/0", "slow", *where]).output
    options = f"--node node1 --gpus 2 --simulate-load --state-dir {tmp_path}"
    assert (
        f"shows only under load. Start a job on it, for example `fleetmedic run {options}" in said
    )
    assert f"`fleetmedic why node1/0 --state-dir {tmp_path}`" in said
    assert "under load" not in run.invoke(inject, ["node1/1", "slow", *where]).output
    assert "under load" not in run.invoke(inject, ["node1/0", "lost", *where]).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("xid", "This raises no alert on its own: GpuXidApplicationRepeated needs more than 5"),
        ("xid --xid 999", "No alert fires for XID 999"),
        ("slow --speed 0.99", "This raises no alert: GpuPeerOutlier needs a clock at least 10% below"),
        ("xid --xid 79", ""),
        ("slow", ""),
    ],
)  # fmt: skip
def test_inject_says_when_a_fault_raises_no_alert(
    tmp_path: Path, run: CliRunner, words: str, said: str
) -> None:
    Hardware(tmp_path / "hardware").create(nodes=1, gpus=1)
    output = run.invoke(inject, ["node1/0", *words.split(), "--state-dir", str(tmp_path)]).output
    assert said in output
    assert bool(said) is ("no alert" in output.lower())


def test_heal_says_whether_there_was_a_fault(tmp_path: Path, run: CliRunner) -> None:
    Hardware(tmp_path / "hardware").create(nodes=1, gpus=1)
    where = ["--state-dir", str(tmp_path)]
    nothing = "gpu/node1/0: the GPU has no fault, so there was nothing to remove.\n"
    assert run.invoke(inject, ["node1/0", "heal", *where]).output == nothing
    run.invoke(inject, ["node1/0", "slow", "--heals-by", "none", *where])
    assert "removed all faults" in run.invoke(inject, ["node1/0", "heal", *where]).output
    assert run.invoke(inject, ["node1/0", "heal", *where]).output == nothing


def test_inject_suggests_only_a_job_that_can_start(tmp_path: Path, run: CliRunner) -> None:
    Hardware(tmp_path / "hardware").create(nodes=1, gpus=3)
    cluster = LocalCluster(tmp_path / "cluster", tmp_path / "hardware")
    where = ["hot", "--state-dir", str(tmp_path)]
    cluster.quarantine(Target.parse("node1/0"), op_id="a", owner="bob", reason="RMA")
    assert "--node node1 --gpus 2 " in run.invoke(inject, ["node1/1", *where]).output
    out = run.invoke(inject, ["node1/0", *where]).output
    assert "It is out of service, so no job can start on it." in out
    with cluster.store.write() as db:
        db.execute("INSERT INTO allocations VALUES ('node1', 1, 'train-a')")
    busy = run.invoke(inject, ["node1/1", *where]).output
    assert "Its job train-a puts no load on it; start a job with --simulate-load instead." in busy


def test_inject_without_simulated_gpus_says_that_real_ones_are_never_harmed(
    tmp_path: Path, run: CliRunner
) -> None:
    with pytest.raises(UserError, match="never injected into real GPUs"):
        run.invoke(inject, ["node1/0", "lost", "--state-dir", str(tmp_path)])


def test_snippets_are_yaml_with_the_nodes_as_given(run: CliRunner) -> None:
    result = run.invoke(
        config, ["snippets", "--part", "scrape", "--node", "a=10.0.0.7:9410", "--cluster", "c1"]
    )
    found = yaml.safe_load(result.output)["scrape_configs"][0]["static_configs"]
    assert found == [{"targets": ["10.0.0.7:9410"], "labels": {"cluster": "c1", "node": "a"}}]


def test_snippets_can_be_copied_in_parts_and_take_no_alert_from_the_receivers_of_the_user(
    run: CliRunner,
) -> None:
    text = run.invoke(config, ["snippets", "--part", "receiver", "--token-file", "/t"]).output
    assert "&id" not in text
    assert "(umask 077; openssl rand -hex 32 > /t)" in text
    assert all(route["continue"] for route in yaml.safe_load(text)["route"]["routes"])


def test_snippets_ask_the_remediator_for_its_host_list(run: CliRunner) -> None:
    arguments = ["--remediator", "http://r:9095", "--token-file", "/t"]
    result = run.invoke(config, ["snippets", "--part", "scrape", "--http-sd", *arguments])
    exporters, own, *_ = yaml.safe_load(result.output)["scrape_configs"]
    assert exporters["http_sd_configs"] == [
        {
            "url": "http://r:9095/sd/targets", "refresh_interval": "15s",
            "authorization": {"type": "Bearer", "credentials_file": "/t"},
        }
    ]  # fmt: skip
    assert (exporters["job_name"], own["job_name"]) == ("node", "remediator")
    with pytest.raises(UserError, match="mutually exclusive"):
        run.invoke(config, ["snippets", "--http-sd", "--node", "a=h:1"])


@pytest.mark.parametrize("node", ["a", "a=", "a=host", "=h:1", "a=h:x", "a=http://h:1", "a=h:0"])
def test_snippets_refuse_a_node_without_an_address(run: CliRunner, node: str) -> None:
    with pytest.raises(UserError, match="NAME=HOST:PORT"):
        run.invoke(config, ["snippets", "--node", node])


def _jobs(run: CliRunner, *arguments: str) -> dict[str, Any]:
    result = run.invoke(config, ["snippets", "--part", "scrape", *arguments])
    return {job["job_name"]: job for job in yaml.safe_load(result.output)["scrape_configs"]}


def test_snippets_have_every_scrape_job_that_the_rules_expect(
    run: CliRunner, tmp_path: Path
) -> None:
    stack = decide(StackOptions(state_dir=tmp_path), gpus_found=False)
    jobs = _jobs(run, "--cluster", "local", "--target", "service=s:8000")
    assert set(jobs) == {job["job_name"] for job in prometheus(stack)["scrape_configs"]}
    for job in prometheus(stack)["scrape_configs"]:
        if job["job_name"] not in ("node", "service"):
            assert jobs[job["job_name"]].items() >= job.items(), "as in a stack"
    assert jobs["service"]["static_configs"][0]["targets"] == ["s:8000"]


@pytest.mark.parametrize("target", ["x=h:1", "rules", "rules=h", "node=h:1", "remediator=h:1"])
def test_snippets_refuse_a_target_that_is_no_scrape_job(run: CliRunner, target: str) -> None:
    with pytest.raises(UserError, match="JOB=HOST:PORT"):
        run.invoke(config, ["snippets", "--target", target])


@pytest.mark.parametrize(
    "url", ["foo", "h:9095", "ftp://h", "http://", "http://h:99999", "http://h/x", "http://a b"]
)
def test_snippets_refuse_a_remediator_that_is_no_url(run: CliRunner, url: str) -> None:
    with pytest.raises(UserError, match="--remediator: expected http://HOST:PORT"):
        run.invoke(config, ["snippets", "--remediator", url])


def test_snippets_scrape_the_remediator_as_its_url_says(run: CliRunner) -> None:
    own = _jobs(run, "--remediator", "https://fm.example/")["remediator"]
    assert (own["scheme"], own["static_configs"][0]["targets"]) == ("https", ["fm.example"])
    assert "scheme" not in _jobs(run, "--remediator", "http://[::1]:9095")["remediator"]


def test_the_doctor_speaks_json_and_fails_when_something_lacks(
    tmp_path: Path, run: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETMEDIC_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    result = run.invoke(doctor, ["--json"])
    found = {one["name"]: one for one in json.loads(result.output)["findings"]}
    assert result.exit_code == 1
    assert found["prometheus"]["verdict"] == "missing"
    assert "doctor --fetch" in found["prometheus"]["cure"]
    assert found["python"]["verdict"] == "ok"
    assert found["disk"]["name"] == "disk"


def test_the_doctor_gives_each_fix_once(
    tmp_path: Path, run: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETMEDIC_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    lines = run.invoke(doctor).output.splitlines()
    fixes = [line for line in lines if "`fleetmedic doctor --fetch`, or install" in line]
    assert len(fixes) == 1
    assert lines[lines.index(fixes[0]) - 1].split()[:2] == ["note", "amtool"]


def test_the_doctor_names_the_ports_of_the_stack_that_runs_there(
    tmp_path: Path, run: CliRunner
) -> None:
    StackFile("local", 19090, True, {}, "t", supervisor=own_identity()).save(tmp_path)
    shown = run.invoke(doctor, ["--state-dir", str(tmp_path)]).output
    assert f"ports         in use by the stack that runs in {tmp_path}, from 19090\n" in shown


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_up_refuses_wrong_notifications_before_anything_starts(
    tmp_path: Path, run: CliRunner, detach: list[str]
) -> None:
    file = tmp_path / "notifications.yml"
    file.write_text("quiet: [{weekdays: [funday]}]")
    state = tmp_path / "state"
    arguments = ["--state-dir", str(state), "--notifications", str(file), *detach]
    with pytest.raises(UserError, match="'funday' is not a weekday"):
        run.invoke(up, arguments)
    assert not state.exists()


def test_status_of_a_stopped_stack_says_how_to_start_it_and_nothing_else(
    tmp_path: Path, run: CliRunner
) -> None:
    StackFile("local", 19090, True, {"rules": "http://127.0.0.1:1"}, "t").save(tmp_path)
    result = run.invoke(up, ["status", "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    start = f"fleetmedic up --state-dir {tmp_path} --port-base 19090"
    assert result.output == f"No stack is running in {tmp_path}. Start it with `{start}`.\n"


def test_status_names_what_a_killed_stack_left(tmp_path: Path, run: CliRunner) -> None:
    pids = {"rules": own_identity(), "remediator": (1, 1)}
    StackFile("local", 9090, True, {}, "t", supervisor=(1, 1), pids=pids).save(tmp_path)
    result = run.invoke(up, ["status", "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "Processes of an earlier stack still run: rules. `fleetmedic up down" in result.output


def test_the_state_folder_may_be_named_before_the_sub_command(
    tmp_path: Path, run: CliRunner
) -> None:
    StackFile("local", 9090, True, {}, "t").save(tmp_path)
    result = run.invoke(up, ["--state-dir", str(tmp_path), "down"])
    assert result.output == f"No stack is running in {tmp_path}.\n"


def test_logs_name_what_there_is(tmp_path: Path, run: CliRunner) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/rules.log").write_text("one\ntwo\nthree\n")
    with pytest.raises(UserError, match="no stack was started"):
        run.invoke(up, ["logs", "../rules", "--state-dir", str(tmp_path)])
    StackFile("local", 9090, True, {}, "t").save(tmp_path)
    with pytest.raises(UserError, match=r"NAME: expected one of: rules, got '\.\./rules'\."):
        run.invoke(up, ["logs", "../rules", "--state-dir", str(tmp_path)])
    with pytest.raises(UserError, match=r"NAME: expected one of: rules\."):
        run.invoke(up, ["logs", "--state-dir", str(tmp_path)])
    result = run.invoke(up, ["logs", "rules", "-n", "2", "--state-dir", str(tmp_path)])
    assert result.output == "two\nthree\n"


def test_the_log_of_the_pool_is_that_of_the_cluster_which_runs_it(
    tmp_path: Path, run: CliRunner
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/localcluster.log").write_text("pool started\n")
    result = run.invoke(up, ["logs", "pool", "--state-dir", str(tmp_path)])
    assert result.output == "pool started\n"


def test_a_second_stack_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    first, second = (Stack(StackOptions(state_dir=tmp_path, simulate=True)) for _ in range(2))
    first._lock_directory(tmp_path)
    try:
        with pytest.raises(UserError) as refused:
            second.prepare(print)
        for word in ("status", "down"):
            assert f"`fleetmedic up {word} --state-dir {tmp_path}`" in str(refused.value)
        assert "needs another --state-dir and another --port-base" in str(refused.value)
    finally:
        first.stop()


def test_a_folder_that_holds_a_larger_or_simulated_fleet_is_refused(tmp_path: Path) -> None:
    Hardware(tmp_path / "hardware").create(4, 2)
    options = StackOptions(state_dir=tmp_path, simulate=True)
    require_same_fleet(decide(options))
    for other in (replace(options, nodes=2), replace(options, simulate=False)):
        with pytest.raises(UserError, match=r"contains 4 simulated nodes.*--reset"):
            require_same_fleet(decide(other))


def test_reset_removes_our_state_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "hardware/node1").mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    for name in ("stack.json", "thesis.txt", "logs/rules.log", "logs/notes.txt"):
        (tmp_path / name).touch()
    reset(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["logs", "logs/notes.txt", "thesis.txt"]


def test_the_docs_list_everything_that_reset_deletes_and_help_says_that_contents_go_too(
    tmp_path: Path, run: CliRunner
) -> None:
    text = " ".join(share("docs/stack.md").read_text().split())
    sentence = text.partition("`--reset` deletes it: ")[2].partition("are kept.")[0]
    assert set(re.findall(r"`([^`]+)`", sentence)) - {"logs", "logs/*.log*"} == set(STATE_NAMES)
    assert "also files that you put there" in sentence
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware/mine.txt").write_text("mine")
    reset(tmp_path)
    assert list(tmp_path.iterdir()) == []
    helped = " ".join(run.invoke(up, ["--help"]).output.split())
    assert "the stack's directories with everything in them, and its logs." in helped


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that holds the lock of the directory, like a stack that is starting."""
    code = (
        "import sys, time, pathlib; from fleetmedic.stack.directory_lock import DirectoryLock\n"
        "lock = DirectoryLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    begun: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", code, str(tmp_path)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("earlier", [False, True])
def test_status_and_down_find_a_stack_that_is_starting(
    tmp_path: Path, run: CliRunner, begin: Callable[[], subprocess.Popen[str]], earlier: bool
) -> None:
    if earlier:  # stack.json of a run that has ended
        StackFile("local", 9090, True, {}, "t").save(tmp_path)
    process = begin()
    where = ["--state-dir", str(tmp_path)]
    shown = run.invoke(up, ["status", *where])
    assert shown.exit_code == 1
    sentence = f"A stack is starting in {tmp_path} (process {process.pid}). `fleetmedic up down"
    assert shown.output.startswith(sentence)
    assert "Stopped after" in run.invoke(up, ["down", *where]).output
    assert process.wait(10) == -signal.SIGTERM
    if earlier:
        assert "No stack is running" in run.invoke(up, ["status", *where]).output
    else:
        result = run.invoke(up, ["down", *where])
        assert result.exit_code == 0
        assert "no stack was started there." in result.output


def test_a_stack_that_was_stopped_holds_the_directory_no_longer(tmp_path: Path) -> None:
    stack = Stack(StackOptions(state_dir=tmp_path, simulate=True))
    stack._lock_directory(tmp_path)
    assert holder(tmp_path) == own_identity()
    announce(tmp_path, (1, 1))
    assert holder(tmp_path) == own_identity(), "an announcement replaces no holder"
    stack.stop()
    assert holder(tmp_path) is None
    announce(tmp_path, own_identity())
    assert holder(tmp_path) == own_identity()


@pytest.mark.parametrize("text", ["", "junk", "1", "1 2 3", "0 0", "-1 5", "4194304 7"])
def test_a_lock_file_without_a_running_process_has_no_holder(tmp_path: Path, text: str) -> None:
    (tmp_path / MARK).write_text(text)
    assert holder(tmp_path) is None


def test_down_leaves_a_stranger_with_the_same_pid_alone(tmp_path: Path, run: CliRunner) -> None:
    pid, start = own_identity()
    StackFile("local", 9090, True, {}, "t", supervisor=(pid, start + 1)).save(tmp_path)
    result = run.invoke(up, ["down", "--state-dir", str(tmp_path)])
    assert "No stack is running" in result.output
