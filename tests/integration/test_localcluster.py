"""The embedded cluster with real processes: faults, kills, restarts, the pool."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetmedic.demo.training import undisturbed
from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster import shim
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec, JobState, JobView
from fleetmedic.localcluster.processes import read_started
from fleetmedic.localcluster.shutdown import shutdown

pytestmark = pytest.mark.integration


def until(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Machine:
    """One state folder with two simulated nodes of four GPUs, and its controller."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.hardware = Hardware(state / "hardware")
        self.hardware.create(nodes=2, gpus=4)
        self.cluster = LocalCluster(state / "cluster", state / "hardware")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.controller: subprocess.Popen[bytes] | None = None

    def start(self, *, pool: bool = False) -> None:
        options = ["--pool.listen-address", f"127.0.0.1:{self.port}"] if pool else ["--no-pool"]
        with (self.state / "controller.log").open("ab") as log:
            self.controller = subprocess.Popen(
                [sys.executable, "-m", "fleetmedic.cli", "localcluster", "serve",
                 "--state-dir", str(self.state), *options],
                stderr=log,
            )  # fmt: skip

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.controller is not None
        self.controller.send_signal(number)
        code = self.controller.wait(10)
        self.controller = None
        return code

    def submit(self, name: str, *command: str, gpus: int = 1, grace: float = 5.0) -> str:
        spec = JobSpec(
            name, command, gpus=gpus, cwd=str(self.state), env=dict(os.environ), grace=grace
        )
        return self.cluster.submit(spec)

    def wait(
        self, job_id: str, test: Callable[[JobView], object], seconds: float = 15.0
    ) -> JobView:
        until(lambda: test(self.cluster.job(job_id)), repr(self.cluster.job(job_id)), seconds)
        return self.cluster.job(job_id)

    def started(self, job_id: str, attempt: int = 1) -> int:
        folder = self.state / "cluster" / "jobs" / job_id / f"attempt-{attempt}"
        until(lambda: read_started(folder), f"{folder} has started")
        found = read_started(folder)
        assert found is not None
        return found.shim.pid


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    found = Machine(tmp_path)
    yield found
    if found.controller is not None:
        found.kill()
    shutdown(tmp_path, 0.5)


def running(job: JobView) -> bool:
    return job.state is JobState.RUNNING


def gone(pid: int) -> bool:
    return shim.start_ticks(pid) == 0


def test_a_job_that_loses_its_gpu_ends_elsewhere_with_the_weights_of_an_undisturbed_run(
    machine: Machine,
) -> None:
    machine.start()
    steps, every, seed = 90, 10, 3
    job_id = machine.submit(
        "train-a", sys.executable, "-m", "fleetmedic.demo.training", "--steps", str(steps),
        "--seed", str(seed), "--step-seconds", "0.05", "--checkpoint-every", str(every), gpus=4,
    )  # fmt: skip
    job = machine.wait(job_id, running)
    assert [item.gpu for item in machine.cluster.allocations(job.node or "")] == [0, 1, 2, 3]
    progress = machine.state / "progress" / (job.node or "") / "train-a.json"
    until(progress.exists, "progress is told")
    until(lambda: json.loads(progress.read_text())["step"] >= 30, "30 steps")
    inject(machine.hardware, job.node or "", 2, "lost")
    job = machine.wait(job_id, lambda j: j.reason == "gpu_probe_failed")
    assert (job.state, job.attempts) == (JobState.RETRYING, 0)
    assert json.loads(progress.read_text())["running"] is False
    lost_at = json.loads(progress.read_text())["step"]

    machine.kill()  # the controller dies between the verdict and its execution
    target = Target.parse(f"{job.node}/2")
    assert machine.cluster.quarantine(target, op_id="q1", owner="remediator", reason="XID 79")
    assert machine.cluster.restart(job_id, op_id="r1", exclude=(target,))
    machine.start()
    job = machine.wait(job_id, running)
    assert (job.restarts, job.moves, job.restarts_done) == (1, 1, ("r1",))
    assert job.node != target.name
    assert not progress.exists()

    job = machine.wait(job_id, lambda j: j.state.ended, 20)
    assert job.state is JobState.COMPLETED
    final = json.loads((job.checkpoint_dir / "final.json").read_text())
    assert (final["steps"], final["restarts"]) == (steps, 1)
    assert final["sha256"] == undisturbed(seed, steps)
    assert job.log is not None
    resumed = int(job.log.read_text().split("from step ", 1)[1].split()[0])
    assert lost_at - every <= resumed <= steps
    assert all(lost <= every for lost in final["done_twice"])
    assert machine.cluster.allocations(job.node or "") == []


def test_a_controller_killed_at_any_moment_starts_no_job_twice_and_forgets_none(
    machine: Machine,
) -> None:
    names = [
        machine.submit(
            "job", "sh", "-c", f"echo x >> ran-{n}; sleep 0.4; echo x >> ended-{n}", gpus=2
        )
        for n in range(8)
    ]
    for pause in (0.25, 0.3, 0.4, 0.5, 0.7):
        machine.start()
        time.sleep(pause)
        machine.kill()
    started = time.time()
    machine.start()
    until(lambda: (machine.cluster.heartbeat() or 0) > started, "the controller lives")
    for name in names:
        assert machine.wait(name, lambda j: j.state.ended).state is JobState.COMPLETED
    assert [(machine.state / f"ran-{n}").read_text() for n in range(8)] == ["x\n"] * 8
    assert [(machine.state / f"ended-{n}").read_text() for n in range(8)] == ["x\n"] * 8
    assert [machine.cluster.job(name).attempts for name in names] == [0] * 8
    assert machine.kill(signal.SIGTERM) == 0


def test_a_job_is_signalled_stopped_and_killed_when_it_does_not_listen(machine: Machine) -> None:
    machine.start()
    deaf = machine.submit(
        "deaf", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", grace=0.4
    )
    hears = machine.submit(
        "hears", "sh", "-c", "trap 'echo saved >> saw' USR1; while :; do sleep 0.05; done"
    )
    for name in (deaf, hears):
        machine.wait(name, running)
    time.sleep(0.2)  # the shells set their traps
    for name in (deaf, hears):
        assert machine.cluster.signal(name, op_id=f"s-{name}")
        machine.wait(name, lambda j: j.signals == (f"s-{j.id}",))
    until((machine.state / "saw").exists, "USR1 arrived")
    deaf_pid = machine.cluster.job(deaf).pid
    assert deaf_pid is not None
    assert not gone(deaf_pid), "USR1 ended a job that does not catch it"
    before = machine.cluster.job(deaf)
    machine.cluster.restart(deaf, op_id="r1")
    job = machine.wait(deaf, lambda j: j.restarts_done == ("r1",))
    assert gone(deaf_pid)
    assert (job.node, job.gpus) != (before.node, before.gpus)
    machine.cluster.fail(hears, op_id="f1", reason="its data is wrong")
    machine.cluster.cancel(deaf, op_id="c1")
    assert machine.wait(hears, lambda j: j.state.ended).text == "its data is wrong"
    assert machine.wait(deaf, lambda j: j.state.ended).state is JobState.CANCELLED


def test_a_job_killed_with_its_shim_or_by_a_reboot_starts_again(machine: Machine) -> None:
    machine.start()
    a = machine.submit("a", "sh", "-c", "sleep 60 & sleep 60")
    b = machine.submit("b", "sleep", "60", gpus=4)
    first = machine.wait(a, running)
    second = machine.wait(b, running)
    assert first.pid is not None
    assert second.pid is not None
    machine.hardware.reboot(second.node or "", "boot-1")
    os.kill(machine.started(a), signal.SIGKILL)
    os.killpg(first.pid, signal.SIGKILL)
    again = machine.wait(b, lambda j: running(j) and j.restarts == 1)
    assert again.attempts == 0, "a reboot is not the job's fault"
    assert gone(second.pid)
    again = machine.wait(a, lambda j: running(j) and j.restarts == 1)
    assert (again.attempts, again.gpus) == (1, first.gpus)

    machine.kill()
    assert shutdown(machine.state, 3.0) == 2
    machine.start()
    for name, attempts in ((a, 1), (b, 0)):
        job = machine.wait(name, lambda j: running(j) and j.restarts == 2)
        assert job.attempts == attempts


def test_without_a_verdict_the_job_moves_by_itself_and_the_gpu_is_marked_until_it_answers(
    machine: Machine,
) -> None:
    machine.start()
    job_id = machine.submit("a", "sleep", "60")
    job = machine.wait(job_id, running)
    inject(machine.hardware, job.node or "", 0, "hang")
    os.killpg(job.pid or 0, signal.SIGKILL)
    machine.wait(job_id, lambda j: j.reason == "gpu_probe_failed")
    with machine.cluster.store.write() as db:  # as if ten seconds had gone by
        db.execute("UPDATE jobs SET verdict_until = ?", (time.time(),))
    job = machine.wait(job_id, lambda j: running(j) and j.moves == 1)
    assert (job.gpus, job.attempts) == ((1,), 0)
    marked = machine.cluster.nodes()[0].gpus[0].marked
    assert marked is not None
    assert "probe" in marked
    machine.hardware.reset("node1", 0, "reset-1")
    until(lambda: machine.cluster.nodes()[0].gpus[0].marked is None, "the mark is taken")


def test_an_attempt_runs_once_keeps_its_output_bounded_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    order = {
        "command": ["sh", "-c", "sleep 60 & echo $! > child; yes 0123456789 | head -c 3000000; exit 3"],
        "env": {"PATH": os.environ["PATH"]}, "cwd": str(tmp_path), "log_bytes": 1_000_000,
    }  # fmt: skip
    (tmp_path / "order.json").write_text(json.dumps(order))
    program = [sys.executable, "-I", "-S", shim.__file__, str(tmp_path)]
    assert subprocess.run(program, timeout=10, check=False).returncode == 0
    ended = json.loads((tmp_path / "exit.json").read_text())
    assert (ended["code"], ended["signal"]) == (3, None)
    until(lambda: gone(int((tmp_path / "child").read_text())), "the group is gone")
    sizes = [path.stat().st_size for path in tmp_path.glob("output.log*")]
    assert len(sizes) == 2
    assert sum(sizes) <= 1_000_000
    assert subprocess.run(program, timeout=10, check=False).returncode == shim.ALREADY_CLAIMED


def test_a_command_that_does_not_exist_fails_with_a_sentence(tmp_path: Path) -> None:
    order = {
        "command": ["no-such-program"],
        "env": {"PATH": "/usr/bin"},
        "cwd": "/",
        "log_bytes": 1,
    }
    (tmp_path / "order.json").write_text(json.dumps(order))
    subprocess.run(
        [sys.executable, "-I", "-S", shim.__file__, str(tmp_path)], timeout=10, check=True
    )
    assert json.loads((tmp_path / "exit.json").read_text())["code"] == 127
    assert "cannot start no-such-program" in (tmp_path / "output.log").read_text()


def gauge(page: str, name: str) -> float:
    line = next(line for line in page.splitlines() if line.startswith(f"{name}{{"))
    return float(line.rpartition(" ")[2])


def test_the_pools_queue_rises_under_load_falls_when_scaled_and_loses_no_request(
    machine: Machine,
) -> None:
    machine.start(pool=True)
    url = f"http://127.0.0.1:{machine.port}"

    def waiting() -> float:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            return gauge(answer.read().decode(), "inference_requests_waiting")

    def ready(count: int) -> bool:
        return machine.cluster.workload("serve").ready == count

    until(machine.cluster.heartbeat, "the controller lives")
    assert machine.cluster.workload("serve").url == url
    until(lambda: ready(2), "two workers")
    until(lambda: _answers(url), "the gateway answers")
    load = subprocess.Popen(
        [sys.executable, "-m", "fleetmedic.localcluster.pool.load", "--url", url,
         "--rate", "70", "--seconds", "5"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        until(lambda: waiting() > 25, "the queue rises")
        machine.kill()  # the pool needs no controller to serve
        assert machine.cluster.scale("serve", 6, op_id="up")
        machine.start(pool=True)
        until(lambda: ready(6), "six workers")
        until(lambda: waiting() == 0, "the queue falls")
        machine.cluster.scale("serve", 1, op_id="down")  # while requests still come
        until(lambda: ready(1), "one worker")
        said, _ = load.communicate(timeout=30)
    finally:
        load.kill()
        load.wait()
        if load.stdout is not None:
            load.stdout.close()
    summary = json.loads(said)
    assert summary["answered"] == {"200": summary["sent"]}
    assert machine.cluster.workload("serve").last_op == "down"

    worker = _pids(machine, "worker")[0]
    os.kill(worker, signal.SIGKILL)
    until(lambda: _pids(machine, "worker") not in ([worker], []) and ready(1), "a new worker")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _pids(machine: Machine, role: str) -> list[int]:
    with machine.cluster.store.read() as db:
        rows = db.execute("SELECT n FROM replicas WHERE role = ?", (role,)).fetchall()
    pool = machine.state / "cluster" / "pool" / "serve"
    found = [read_started(pool / f"replica-{row['n']}") for row in rows]
    return [item.command.pid for item in found if item is not None and item.command.alive]
