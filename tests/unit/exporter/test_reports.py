"""Reports of jobs, pipelines and servers: exported values, rejections, and permissions."""

import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.catalogue import catalogue
from exporter.collectors.progress import ProgressCollector
from exporter.exposition import Renderer
from exporter.reports.files import MAX_FILES, ReportFiles
from exporter.reports.inbox import MAX_OF_A_USER, DatagramTokenBucket, Inbox, Receiver, bind, check
from exporter.reports.permissions import ReportPermissions
from exporter.reports.pipeline_totals import PipelineTotals
from exporter.reports.report import (
    REASONS,
    Key,
    PipelineReport,
    Reason,
    ReportRejected,
    TrainingReport,
)
from exporter.reports.reporter_process import has_exited
from fleetmedic import progress
from fleetmedic.kernel.errors import UserError
from fleetmedic.progress.sender import MAX_DATAGRAM

TRAINING: dict[str, Any] = {
    "job_id": "train-a", "step": 12, "step_seconds": 0.5, "running": True, "step_at": 1000.0,
}  # fmt: skip
PIPELINE: dict[str, Any] = {"kind": "pipeline", "pipeline": "etl", "records": 10, "backlog": 3}
SERVING: dict[str, Any] = {
    "kind": "serving", "service": "chat", "replica": "a", "waiting": 1, "answering": 2,
    "requests": {"200": 4}, "durations": {"counts": [1] * 12, "sum": 3.5}, "tokens": 90,
}  # fmt: skip
CATALOGUE = catalogue()
ALICE, BOB, ROOT = 1001, 1002, 0

Shown = dict[tuple[str, tuple[str, ...]], float]


def shown(collector: ProgressCollector, now: float | None = None) -> Shown:
    samples = list(collector.collect(time.time() if now is None else now))
    Renderer(CATALOGUE).render(samples)  # checks names and labels against the catalogue
    return {(s.name, s.labels): s.value for s in samples}


def rejected(page: Shown) -> dict[str, float]:
    name = "gpu_exporter_progress_rejected_total"
    return {labels[0]: value for (n, labels), value in page.items() if n == name and value}


def write(folder: Path, stem: str, report: dict[str, Any]) -> None:
    (folder / f"{stem}.json").write_text(json.dumps(report))


class Post:
    """An inbox and its rejections."""

    def __init__(self) -> None:
        self.reasons: list[Reason] = []
        self.owners = ReportPermissions()
        self.inbox = Inbox(self.owners, self.reasons.append)

    def send(self, report: object, uid: int | None = ALICE, at: float = 0.0) -> None:
        data = report if isinstance(report, bytes) else json.dumps(report).encode()
        self.inbox.take(data, uid, at)

    @property
    def keys(self) -> set[Key]:
        return {held.report.key for held in self.inbox.reports()}


# ---- exported values


def test_ranks_of_a_job_speak_for_it_together(tmp_path: Path) -> None:
    write(tmp_path, "train-a", TRAINING | {"data_wait_seconds": 0.1, "compute_seconds": 0.3})
    for rank, compute in ((2, 0.31), (10, 0.45)):
        report = {"rank": rank, "step": 11, "data_wait_seconds": 0.2, "compute_seconds": compute}
        write(tmp_path, f"train-a@{rank}", TRAINING | report | {"samples": 64 * rank})
    page = shown(ProgressCollector(tmp_path))
    assert page["training_step", ("train-a",)] == 12
    assert page["training_data_wait_seconds", ("train-a",)] == 0.2
    assert {
        labels[1]: v for (n, labels), v in page.items() if n == "training_step_compute_seconds"
    } == {"0": 0.3, "2": 0.31, "10": 0.45}
    assert page["training_samples_total", ("train-a", "10")] == 640


def test_the_lowest_rank_that_runs_speaks_for_the_job(tmp_path: Path) -> None:
    write(tmp_path, "train-a", TRAINING | {"running": False})
    write(tmp_path, "train-a@9", TRAINING | {"rank": 9, "step": 40})
    page = shown(ProgressCollector(tmp_path))
    assert page["training_step", ("train-a",)] == 40
    assert page["training_running", ("train-a",)] == 1


def test_a_pipeline_that_promises_nothing_has_no_interval(tmp_path: Path) -> None:
    write(tmp_path, "etl@pipeline", PIPELINE | {"expected_interval": 0, "success_at": 0})
    page = shown(ProgressCollector(tmp_path))
    assert page["pipeline_records_processed_total", ("etl",)] == 10
    assert page["pipeline_input_backlog", ("etl",)] == 3
    names = {name for name, _ in page}
    assert not {
        "pipeline_expected_interval_seconds", "pipeline_last_success_timestamp_seconds"
    } & names  # fmt: skip


def test_a_replica_shows_its_load_and_a_histogram_that_adds_up(tmp_path: Path) -> None:
    write(tmp_path, "chat@serving@a", SERVING)
    page = shown(ProgressCollector(tmp_path))
    assert page["inference_requests_running", ("chat", "a")] == 2
    assert page["inference_requests_total", ("chat", "a", "200")] == 4
    name = "inference_request_duration_seconds"
    assert page[f"{name}_bucket", ("chat", "a", "0.1")] == 3
    assert (
        page[f"{name}_bucket", ("chat", "a", "+Inf")] == page[f"{name}_count", ("chat", "a")] == 12
    )


def test_a_server_that_ended_or_is_gone_has_no_load(tmp_path: Path) -> None:
    write(tmp_path, "chat@serving@a", SERVING | {"running": False})
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    write(
        tmp_path, "chat@serving@b", SERVING | {"replica": "b", "pid": 2**31 - 1, "pid_ns": namespace}
    )  # fmt: skip
    assert not {
        name for name, _ in shown(ProgressCollector(tmp_path)) if name.startswith("inference_")
    }


class OfThePool:
    """A cluster that runs the service itself and knows the owners of the jobs."""

    def users(self) -> dict[str, int]:
        return {"train-a": ALICE}

    def pooled(self, service: str) -> bool:
        return service == "chat"


def test_of_the_pools_services_the_gateway_tells_of_the_requests(tmp_path: Path) -> None:
    write(tmp_path, "chat@serving@a", SERVING)
    page = shown(ProgressCollector(tmp_path, cluster=OfThePool()))
    assert {name for name, _ in page if name.startswith("inference_")} == {
        "inference_tokens_generated_total"
    }


# ---- counters of pipelines with many runs


def test_what_earlier_runs_counted_is_added() -> None:
    totals, report = PipelineTotals(), PipelineReport(pipeline="etl", records=500, began=1.0)
    again = msgspec.structs.replace
    assert totals.of(report) == 500
    assert totals.of(again(report, records=700)) == 700
    assert totals.of(again(report, records=0, began=2.0)) == 700
    assert totals.of(again(report, records=700, began=2.0)) == 1400
    assert totals.of(again(report, records=None, began=2.0)) is None
    assert totals.of(again(report, records=5, began=2.0)) == 1405, "the count restarted"
    totals.keep(set())
    assert totals.of(report) == 500


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1000)), max_size=30))
@settings(deadline=None)
def test_a_total_never_falls(told: list[tuple[int, int]]) -> None:
    totals, before = PipelineTotals(), 0
    for began, records in told:
        now = totals.of(PipelineReport(pipeline="etl", records=records, began=began))
        assert now is not None
        assert now >= before
        before = now


def test_an_exporter_that_starts_anew_shows_the_same_counts_of_files(tmp_path: Path) -> None:
    """Otherwise every start would look like a burst of work."""
    for run in (1, 2):
        with progress.Pipeline("etl", tmp_path) as pipeline:
            pipeline.success(500)
        with progress.Progress("train-a", tmp_path) as training:
            training.step(1, samples=64 * run)
    lived, fresh = ProgressCollector(tmp_path), ProgressCollector(tmp_path)
    shown(lived)
    with progress.Progress("train-a", tmp_path) as training:
        training.step(1, samples=100)
    for name, labels, count in (
        ("pipeline_records_processed_total", ("etl",), 1000),
        ("training_samples_total", ("train-a", "0"), 100),
    ):
        assert shown(lived)[name, labels] == shown(fresh)[name, labels] == count


# ---- rejections


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "format"), (b"\xff\xfe", "format"), (b"[]", "format"), (b"[" * 9000, "format"),
        (b'{"job_id": "a", "step": 1', "format"), (b"1" * 5000, "format"),
        ({"kind": "other"} | TRAINING, "format"), ({"kind": ["training"]} | TRAINING, "format"),
        (TRAINING | {"step": True}, "value"), (TRAINING | {"step": 1.5}, "value"),
        (TRAINING | {"step": 2**60}, "value"), (TRAINING | {"rank": -1}, "value"),
        (TRAINING | {"rank": 65_536}, "value"), (TRAINING | {"rank": "0"}, "value"),
        (TRAINING | {"samples": -1}, "value"), (TRAINING | {"compute_seconds": "1"}, "value"),
        (TRAINING | {"data_wait_seconds": float("nan")}, "value"),
        (TRAINING | {"compute_seconds": 1e300}, "value"), (TRAINING | {"began": float("inf")}, "value"),
        (TRAINING | {"job_id": 3}, "value"), (TRAINING | {"job_id": ""}, "name"),
        (TRAINING | {"job_id": "../x"}, "name"), (TRAINING | {"job_id": 'a"} evil 1\n'}, "name"),
        (TRAINING | {"job_id": "j" * 300}, "name"), (TRAINING | {"job_id": "ä"}, "name"),
        (TRAINING | {"job_id": "a\x00b"}, "name"),
        (PIPELINE | {"pipeline": None}, "value"), (PIPELINE | {"records": -5}, "value"),
        (PIPELINE | {"success_at": -1}, "value"), (PIPELINE | {"pipeline": "a b"}, "name"),
        (SERVING | {"replica": ""}, "name"), (SERVING | {"replica": "a/b"}, "name"),
        (SERVING | {"requests": {"evil": 1}}, "value"), (SERVING | {"requests": {"200": -1}}, "value"),
        (SERVING | {"requests": {"٢٠٠": 1}}, "value"), (SERVING | {"requests": [200]}, "value"),
        (SERVING | {"requests": {str(code): 1 for code in range(200, 217)}}, "value"),
        (SERVING | {"durations": {"counts": [1], "sum": 1}}, "value"),
        (SERVING | {"durations": {"counts": [1] * 12, "sum": float("nan")}}, "value"),
        (SERVING | {"tokens": "many"}, "value"),
    ],
)  # fmt: skip
def test_junk_is_refused_and_counted_by_reason(data: object, reason: Reason) -> None:
    post = Post()
    post.send(data)
    assert post.reasons == [reason]
    assert not post.keys


@given(
    st.dictionaries(
        st.sampled_from([*TRAINING, *PIPELINE, *SERVING, "rank", "began", "pid", "loss"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
            | st.sampled_from(["training", "pipeline", "serving", "a"]),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=6,
        ),
    )
)  # fmt: skip
@settings(deadline=None)  # a busy machine is no bug
def test_any_object_is_refused_or_can_be_shown(raw: dict[str, Any]) -> None:
    collector = ProgressCollector(None)
    collector._inbox.take(json.dumps(TRAINING | raw).encode(), ALICE, 0.0)
    page = shown(collector, 1.0)
    held = collector._inbox.reports()
    assert sum(rejected(page).values()) == 1 - len(held)


def test_the_reasons_of_the_catalogue_are_those_that_there_are() -> None:
    metric = catalogue().get("gpu_exporter_progress_rejected_total")
    assert metric.values["reason"] == REASONS


def test_a_datagram_that_is_too_large_is_refused() -> None:
    post = Post()
    post.send(json.dumps(TRAINING | {"pad": "x" * MAX_DATAGRAM}).encode())
    assert post.reasons == ["size"]


def test_one_user_cannot_take_all_places() -> None:
    post = Post()
    post.inbox._within_rate = lambda uid, now: True  # type: ignore[method-assign]  # not about its rate
    for number in range(MAX_OF_A_USER + 3):
        post.send(TRAINING | {"job_id": f"j{number}"})
    assert post.reasons == ["limit"] * 3
    post.send(TRAINING | {"job_id": "j0", "step": 13})
    post.send(TRAINING | {"job_id": "bobs"}, BOB)
    assert post.reasons == ["limit"] * 3, (
        "known reporters are kept, and there is space for a new one"
    )


def test_a_user_who_sends_too_often_holds_up_nobody_else() -> None:
    post = Post()
    for _ in range(400):
        post.send(TRAINING)
    assert set(post.reasons) == {"rate"}
    before = len(post.reasons)
    post.send(PIPELINE, BOB)
    assert len(post.reasons) == before


def test_a_bucket_lets_a_burst_and_then_the_rate_pass() -> None:
    bucket = DatagramTokenBucket(10, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert not bucket.full(0.2)
    assert bucket.full(1.0)


def test_a_file_that_is_wrong_is_counted_once_until_it_changes(tmp_path: Path) -> None:
    collector = ProgressCollector(tmp_path)
    (tmp_path / "train-a.json").write_text("{")
    assert rejected(shown(collector)) == {"format": 1}
    assert rejected(shown(collector)) == {"format": 1}
    (tmp_path / "train-a.json").write_text("{{")
    assert rejected(shown(collector)) == {"format": 2}
    write(tmp_path, "train-a", TRAINING)
    page = shown(collector)
    assert rejected(page) == {"format": 2}
    assert page["gpu_exporter_progress_files_rejected", ()] == 0
    assert page["training_step", ("train-a",)] == 12


@pytest.mark.parametrize(
    "missing", [{"f_bavail": 15}, {"f_favail": 0}], ids=["no space", "no inode"]
)
def test_what_a_training_job_wrote_before_the_disk_was_full_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: dict[str, int]
) -> None:
    write(tmp_path, "train-a", TRAINING)
    write(tmp_path, "etl@pipeline", PIPELINE)
    collector = ProgressCollector(tmp_path)
    room = {"f_flag": 0, "f_bavail": 16, "f_frsize": 4096, "f_files": 100, "f_favail": 1}
    with monkeypatch.context() as disk:
        disk.setattr(os, "statvfs", lambda _: SimpleNamespace(**room | missing))
        page = shown(collector)
        assert rejected(page) == {"unwritable": 1}
        assert ("training_running", ("train-a",)) not in page
        assert any("etl" in labels for _, labels in page)
        disk.setattr(os, "statvfs", lambda _: SimpleNamespace(**room))
        assert shown(collector)["training_running", ("train-a",)] == 1


@pytest.mark.parametrize(
    ("stem", "report"),
    [
        ("train-a@1", TRAINING), ("train-a", TRAINING | {"rank": 1}), ("etl", PIPELINE),
        ("train-a@pipeline", TRAINING), ("chat@serving@b", SERVING), ("chat", SERVING),
    ],
)  # fmt: skip
def test_a_file_speaks_only_for_whom_it_is_named_after(
    tmp_path: Path, stem: str, report: dict[str, Any]
) -> None:
    write(tmp_path, stem, report)
    assert rejected(shown(ProgressCollector(tmp_path))) == {"name": 1}


# ---- permissions


def test_only_who_reported_first_goes_on_and_root_may() -> None:
    post = Post()
    post.send(TRAINING)
    post.send(TRAINING | {"step": 99}, BOB)
    post.send(TRAINING | {"rank": 3}, BOB)
    assert post.reasons == ["owner", "owner"]
    assert post.keys == {Key("training", "train-a", "0")}
    post.send(TRAINING | {"step": 13}, ROOT)
    post.send(TRAINING | {"step": 14}, BOB)
    assert post.reasons == ["owner"] * 3, "root does not become the owner of the job"


def test_the_clusters_word_stands_above_who_was_first() -> None:
    post = Post()
    post.owners.set_owners({"train-a": ALICE})
    post.send(TRAINING, BOB)
    assert post.reasons == ["owner"]
    post.send(TRAINING, ALICE)
    assert post.reasons == ["owner"]


def test_a_sender_whom_the_kernel_does_not_name_is_refused() -> None:
    post = Post()
    post.send(TRAINING, None)
    assert post.reasons == ["owner"]


def test_a_name_is_free_again_when_nobody_reports_it_any_more() -> None:
    owners, key = ReportPermissions(), Key("training", "train-a", "0")
    owners.check(key, ALICE)
    owners.keep(set(), since=0.0)
    with pytest.raises(ReportRejected):
        owners.check(key, BOB)  # the first report arrived after `since`
    owners.keep(set(), since=time.monotonic() + 1)
    owners.check(key, BOB)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    collector = ProgressCollector(tmp_path)
    write(tmp_path, "train-a", TRAINING)
    os.chown(tmp_path / "train-a.json", ALICE, -1)
    assert shown(collector)["training_step", ("train-a",)] == 12
    write(tmp_path, "other", TRAINING)
    os.chown(tmp_path / "other.json", BOB, -1)
    (tmp_path / "other.json").replace(tmp_path / "train-a.json")
    page = shown(collector)
    assert rejected(page) == {"owner": 1}
    assert ("training_step", ("train-a",)) not in page


def test_a_file_of_who_is_not_the_jobs_owner_is_refused(tmp_path: Path) -> None:
    owners, reasons = ReportPermissions(), list[Reason]()
    owners.set_owners({"train-a": 4_000_000})
    write(tmp_path, "train-a", TRAINING)
    found = list(ReportFiles(tmp_path, owners, reasons.append).read())
    assert (len(found), reasons) == ((1, []) if os.getuid() == 0 else (0, ["owner"]))


def test_a_folder_full_of_files_is_read_as_far_as_the_limit(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 3):
        write(tmp_path, f"j{number:04d}", TRAINING | {"job_id": f"j{number:04d}"})
    assert len(list(ReportFiles(tmp_path, ReportPermissions(), lambda _: None).read())) == MAX_FILES


# ---- ended processes


def test_a_job_whose_process_is_gone_does_not_run(tmp_path: Path) -> None:
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    dead = {"pid": 2**31 - 1, "pid_ns": namespace, "pid_start": 1}
    write(tmp_path, "train-a", TRAINING | dead)
    page = shown(ProgressCollector(tmp_path))
    assert page["training_running", ("train-a",)] == 0
    assert page["training_step", ("train-a",)] == 12
    write(tmp_path, "train-a@1", TRAINING | {"rank": 1})
    assert shown(ProgressCollector(tmp_path))["training_running", ("train-a",)] == 1, (
        "a process in another namespace may still run"
    )


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        ({}, False),
        ({"pid": os.getpid()}, False),
        ({"pid": 2**31 - 1, "pid_ns": 7}, False),
        ({"pid": 2**40, "pid_ns": -1}, False),
        ({"pid": os.getpid(), "pid_ns": -1}, False),
        ({"pid": os.getpid(), "pid_ns": -1, "pid_start": 1}, True),
        ({"pid": 2**31 - 1, "pid_ns": -1}, True),
    ],
)
def test_who_cannot_be_looked_at_counts_as_there(process: dict[str, int], expected: bool) -> None:
    if process.get("pid_ns") == -1:
        process = process | {"pid_ns": Path("/proc/self/ns/pid").stat().st_ino}
    assert has_exited(TrainingReport(job_id="a", step=1, **process)) is expected  # type: ignore[arg-type]


# ---- over a real socket


@pytest.fixture
def listening(tmp_path: Path) -> tuple[Path, ProgressCollector]:
    path = tmp_path / "progress.sock"
    return path, ProgressCollector(None, path)


def until(collector: ProgressCollector, holds: str) -> Shown:
    """The page, once it has a family."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        page = shown(collector)
        if any(name == holds for name, _ in page):
            return page
        time.sleep(0.005)
    raise AssertionError(f"no {holds} within 5 s: {page}")


def test_all_three_kinds_come_over_the_socket(listening: tuple[Path, ProgressCollector]) -> None:
    path, collector = listening
    with progress.Progress("train-a", socket=path, rank=2) as training:
        training.step(7, loss=0.5, samples=32, data_wait=0.1, compute=0.2)
        training._write()
        progress.Pipeline("etl", socket=path, expected_interval=60).success(5, backlog=1)
        serving = progress.Serving("chat", "a", socket=path)
        serving.answered(200, seconds=0.2, tokens=9)
        page = until(collector, "inference_tokens_generated_total")
    assert page["training_samples_total", ("train-a", "2")] == 32
    assert page["training_running", ("train-a",)] == 1
    assert page["pipeline_records_processed_total", ("etl",)] == 5
    assert page["inference_tokens_generated_total", ("chat", "a")] == 9
    assert page["inference_request_duration_seconds_bucket", ("chat", "a", "0.25")] == 1
    assert not rejected(page)


def test_descriptors_that_are_sent_along_are_not_kept(
    listening: tuple[Path, ProgressCollector],
) -> None:
    path, collector = listening
    shown(collector)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, open(os.devnull) as file:  # noqa: PTH123
        sender.connect(str(path))
        for _ in range(5):
            socket.send_fds(sender, [json.dumps(TRAINING).encode()], [file.fileno()] * 3)
    until(collector, "training_step")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind(path).close()
    assert path.exists()
    with bind(path):
        with pytest.raises(UserError, match="another process listens"):
            bind(path)
        assert path.exists()


@pytest.mark.parametrize("what", ["file", "folder", "link", "long", "nowhere"])
def test_a_path_that_cannot_be_a_socket_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "s"
    if what == "file":
        path.write_text("precious")
    elif what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = tmp_path / ("x" * 120) if what == "long" else tmp_path / "none" / "s"
    for tried in (check, bind):
        with pytest.raises(UserError, match=r"--progress\.socket"):
            tried(path)
    assert what != "file" or path.read_text() == "precious"


def test_a_receiver_goes_on_after_a_mistake(tmp_path: Path) -> None:
    taken: list[bytes] = []
    receiver = Receiver(tmp_path / "s", lambda data, uid, now: taken.append(data))
    receiver.start()
    receiver.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(tmp_path / "s"))
        sender.send(b"x" * 100_000)
        sender.send(b"")
    end = time.monotonic() + 5
    while len(taken) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    assert [len(data) for data in taken] == [MAX_DATAGRAM + 1, 0]


def test_an_old_report_is_forgotten_and_a_pipelines_is_kept_longer() -> None:
    collector = ProgressCollector(None)
    for report in (TRAINING, PIPELINE, SERVING):
        collector._inbox.take(json.dumps(report).encode(), ALICE, 1000.0)
    after = {name.split("_")[0] for name, _ in shown(collector, 1000.0 + 8 * 86_400)}
    assert after == {"pipeline", "gpu"}
    assert {held.report.key.kind for held in collector._inbox.reports()} == {"pipeline"}


def test_of_a_file_and_the_socket_the_newer_is_shown(tmp_path: Path) -> None:
    write(tmp_path, "train-a", TRAINING)
    at = (tmp_path / "train-a.json").stat().st_mtime
    collector = ProgressCollector(tmp_path)
    for when, expected in ((at - 1, 12), (at + 1, 40)):
        data = json.dumps(TRAINING | {"step": 40}).encode()
        collector._inbox.take(data, os.getuid(), when)
        assert shown(collector, at + 2)["training_step", ("train-a",)] == expected
