"""What every caller of the embedded cluster's client may rely on, without a controller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.labels import Target
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import Conflict, JobSpec, JobState

GPU = Target.parse("node1/1")
NODE = Target.parse("node2")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    Hardware(tmp_path / "hardware").create(nodes=2, gpus=4)
    return tmp_path


@pytest.fixture
def cluster(state: Path) -> LocalCluster:
    found = LocalCluster(state / "cluster", state / "hardware")
    with found.store.write() as db:
        db.execute(
            "INSERT INTO workloads (name, wanted, minimum, maximum) VALUES ('serve', 2, 1, 8)"
        )
    return found


def spec(name: str = "train-a", gpus: int = 2) -> JobSpec:
    return JobSpec(name, ("true",), gpus=gpus, user="kim")


def test_nodes_are_known_from_the_hardware_folder(cluster: LocalCluster) -> None:
    nodes = cluster.nodes()
    assert [node.name for node in nodes] == ["node1", "node2"]
    assert [gpu.index for gpu in nodes[0].gpus] == [0, 1, 2, 3]
    assert all(gpu.uuid.startswith("GPU-") for gpu in nodes[0].gpus)
    assert cluster.allocations("node1") == []
    assert cluster.heartbeat() is None


def test_a_quarantine_is_seen_by_another_process_and_taken_back_by_its_owner(
    cluster: LocalCluster, state: Path
) -> None:
    assert cluster.quarantine(GPU, op_id="q1", owner="remediator", reason="XID 79")
    seen = LocalCluster(state / "cluster").nodes()[0].gpus[1].quarantined
    assert seen is not None
    assert (seen.owner, seen.reason, seen.op_id) == ("remediator", "XID 79", "q1")
    assert not cluster.release(GPU, op_id="r1", owner="kim")
    assert cluster.release(GPU, op_id="r2", owner="remediator")
    assert cluster.nodes()[0].gpus[1].quarantined is None


def recorded(cluster: LocalCluster, op_id: str) -> bool:
    """Whether the store holds an operation."""
    with cluster.store.read() as db:
        return db.execute("SELECT 1 FROM ops WHERE op_id = ?", (op_id,)).fetchone() is not None


def test_a_quarantine_of_another_owner_is_a_conflict_and_changes_nothing(
    cluster: LocalCluster,
) -> None:
    assert cluster.quarantine(NODE, op_id="q1", owner="kim", reason="new fans")
    with pytest.raises(Conflict, match="kim"):
        cluster.quarantine(NODE, op_id="q2", owner="remediator", reason="hot")
    assert not recorded(cluster, "q2")
    assert not cluster.quarantine(NODE, op_id="q3", owner="kim", reason="again")


Call = Callable[[LocalCluster], object]
CALLS: dict[str, Call] = {
    "quarantine": lambda c: c.quarantine(GPU, op_id="op", owner="remediator", reason="lost"),
    "release": lambda c: c.release(NODE, op_id="op", owner="remediator"),
    "signal": lambda c: c.signal("train-a", op_id="op"),
    "restart": lambda c: c.restart("train-a", op_id="op", exclude=(GPU,)),
    "fail": lambda c: c.fail("train-a", op_id="op", reason="it cannot be saved"),
    "cancel": lambda c: c.cancel("train-a", op_id="op"),
    "scale": lambda c: c.scale("serve", 4, op_id="op"),
    "submit": lambda c: c.submit(spec("train-b"), op_id="op"),
}


@pytest.mark.parametrize("verb", CALLS)
def test_the_same_op_id_again_changes_nothing_and_gets_the_same_answer(
    cluster: LocalCluster, state: Path, verb: str
) -> None:
    cluster.submit(spec())
    cluster.quarantine(NODE, op_id="before", owner="remediator", reason="hot")
    assert not recorded(cluster, "op")
    first = CALLS[verb](cluster)
    assert recorded(cluster, "op")
    picture = (cluster.nodes(), cluster.jobs(), cluster.workload("serve"))
    other = LocalCluster(state / "cluster")
    assert CALLS[verb](other) == first
    assert (other.nodes(), other.jobs(), other.workload("serve")) == picture


def test_an_op_id_used_for_something_else_is_a_conflict(cluster: LocalCluster) -> None:
    cluster.quarantine(GPU, op_id="op", owner="remediator", reason="lost")
    with pytest.raises(Conflict, match="op"):
        cluster.release(GPU, op_id="op", owner="remediator")
    assert cluster.nodes()[0].gpus[1].quarantined is not None


def test_jobs_get_their_name_as_id_and_a_number_where_it_is_taken(cluster: LocalCluster) -> None:
    assert cluster.submit(spec()) == "train-a"
    assert cluster.submit(spec()) == "train-a-2"
    assert [job.id for job in cluster.jobs()] == ["train-a", "train-a-2"]
    job = cluster.job("train-a")
    assert (job.state, job.user, job.attempts, job.gpus) == (JobState.PENDING, "kim", 0, ())


def test_a_restart_is_observable_from_the_moment_it_is_accepted(cluster: LocalCluster) -> None:
    cluster.submit(spec())
    assert cluster.restart("train-a", op_id="r1", exclude=(GPU,))
    job = cluster.job("train-a")
    assert job.state is JobState.MOVING
    assert job.restart_ops == ("r1",)
    assert job.restarts_done == ()


def test_a_job_without_a_process_is_signalled_and_ended_at_once(cluster: LocalCluster) -> None:
    cluster.submit(spec())
    assert not cluster.signal("train-a", op_id="s1")
    assert cluster.job("train-a").signals == ("s1",)
    assert cluster.fail("train-a", op_id="f1", reason="its data set is gone")
    job = cluster.job("train-a")
    assert (job.state, job.text) == (JobState.FAILED, "its data set is gone")
    assert not cluster.restart("train-a", op_id="r1")
    assert not cluster.cancel("train-a", op_id="c1")
    assert cluster.job("train-a").state is JobState.FAILED


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.job("nobody"), "does not exist"),
        (lambda c: c.workload("web"), "does not exist"),
        (lambda c: c.scale("serve", 9, op_id="x"), "1 to 8"),
        (lambda c: c.scale("serve", 0, op_id="x"), "1 to 8"),
        (lambda c: c.quarantine(Target.parse("node9"), op_id="x", owner="o", reason=""), "node9"),
        (lambda c: c.quarantine(Target.parse("node1/9"), op_id="x", owner="o", reason=""), "node1"),
        (
            lambda c: c.release(Target.parse("job/a"), op_id="x", owner="o"),
            "expected a target NODE or NODE/INDEX",
        ),
        (lambda c: c.submit(spec("../etc")), "job name"),
        (lambda c: c.submit(spec(gpus=5)), "expected 1 to 4"),
        (lambda c: c.submit(JobSpec("a", ())), "command"),
        (lambda c: c.submit(JobSpec("a", ("x\0y",))), "NUL"),
        (lambda c: c.submit(JobSpec("a", ("x",), env={"A=B": "c"})), "environment"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_not_recorded(
    cluster: LocalCluster, call: Call, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        call(cluster)
    assert not recorded(cluster, "x")


def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cluster.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match="cannot open the cluster"):
        LocalCluster(tmp_path)
