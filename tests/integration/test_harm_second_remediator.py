"""Two remediators on one cluster, one that only observes, and one whose journal cannot be written."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetmedic.hardware.faults import inject
from fleetmedic.kernel.labels import Target
from remediator.journal import read_events
from tests.integration.harm import OWNER, Scene, ask, status_of, until

pytestmark = pytest.mark.integration


class Extra:
    """A remediator beside the stack's, with a data folder and a port of its own."""

    def __init__(self, config: Path, data: Path, port: int) -> None:
        self.data = data
        self._log = config.with_suffix(f".{port}.log")
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            sys.executable, "-P", "-m", "fleetmedic.cli", "remediator", "serve", f"--config={config}",
            f"--data-dir={data}", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, *more], stdout=log, stderr=log)
        until(self._answers, 40, self.log)

    def stop(self, *, hard: bool = False) -> None:
        """End it; `hard` as the kernel does when memory is short."""
        process, self._process = self._process, None
        if process is not None:
            (process.kill if hard else process.terminate)()
            process.wait(20)

    def log(self) -> str:
        """What it logged."""
        return self._log.read_text()

    def events(self, target: str) -> list[dict[str, Any]]:
        """Its journal about a target."""
        return [one for one in read_events(self.data) if one["target"] == target]

    def done(self, target: str) -> list[str]:
        """The actions that it did to a target."""
        return [e["data"]["action"] for e in self.events(target) if e["event"] == "StepDone"]

    def held(self, target: str) -> dict[str, Any]:
        """The newest incident on a target, where a guard holds it; else empty."""
        found = ask(f"{self.url}/api/v1/incidents")["incidents"]
        own = [one for one in found if one["target"] == target and one["held_since"] is not None]
        return own[-1] if own else {}

    def metric(self, name: str) -> float:
        """The value of one of its metrics, which has no labels."""
        page = status_of(f"{self.url}/metrics")[1].splitlines()
        return next(float(x.split()[1]) for x in page if x.startswith(f"{name} "))

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return status_of(f"{self.url}/-/healthy")[0] == 200
        return False


@pytest.fixture(scope="module")
def stack(new_scene: Callable[..., AbstractContextManager[Scene]]) -> Iterator[Scene]:
    """Its own remediator only observes, so that those of the tests may act."""
    with new_scene(level="observe") as found:
        yield found


@pytest.fixture
def extra(
    stack: Scene, new_port: Callable[[], int], tmp_path: Path
) -> Iterator[Callable[[str], Extra]]:
    """Gives further remediators of the stack's cluster that may repair."""
    made: list[Extra] = []

    def make(name: str) -> Extra:
        config = tmp_path / f"{name}.yml"
        body = yaml.safe_load((stack.state / "remediator" / "remediator.yml").read_text())
        config.write_text(yaml.safe_dump(body | {"level": "repair"}))
        made.append(Extra(config, tmp_path / name, new_port()))
        return made[-1]

    yield make
    for one in made:
        one.stop()
    for name in stack.out():
        stack.cluster.release(
            Target.parse(name), op_id=f"after-{tmp_path.name}-{name}", owner=OWNER
        )


def test_one_of_two_remediators_acts_and_the_other_says_so(
    stack: Scene, extra: Callable[[str], Extra]
) -> None:
    first, second = extra("first"), extra("second")
    first.start()
    second.start()
    target = "gpu/node3/1"
    inject(stack.hardware, "node3", 1, "hang")
    until(lambda: "reset_gpu" in first.done(target), 90, first.log)
    until(lambda: second.held(target), 30, second.log)
    held = second.held(target)
    assert held["reason"] == "other_installation"
    assert "Another remediator" in held["text"]
    assert "--take-over" in held["text"]
    assert second.done(target) == []
    assert "lock_held_by_another" in second.log()
    lock = "remediator_instance_lock_held"
    assert (first.metric(lock), second.metric(lock)) == (1, 0)
    assert stack.hardware.gpu("node3", 1).resets == 1

    # The same installation takes its lock at once, though it ended without a word a moment ago.
    first.stop(hard=True)
    first.start()
    began = time.monotonic()
    inject(stack.hardware, "node3", 4, "hang")
    until(lambda: "quarantine_gpu" in first.done("gpu/node3/4"), 40, first.log)
    assert time.monotonic() - began < 40
    assert second.done("gpu/node3/4") == []
    until(lambda: stack.hardware.gpu("node3", 4).resets == 1, 60, first.log)

    # A person lets the second one act: from then on the first says so.
    second.stop()
    second.start("--take-over", "the first host is retired")
    until(lambda: "takes no action" in first.log() or "lock_lost" in first.log(), 40, first.log)
    inject(stack.hardware, "node4", 6, "hang")
    until(lambda: "reset_gpu" in second.done("gpu/node4/6"), 120, second.log)
    assert first.done("gpu/node4/6") == []
    assert stack.hardware.gpu("node4", 6).resets == 1


def test_observe_says_what_would_be_done_within_the_budget(stack: Scene) -> None:
    targets = [f"gpu/{node}/{gpu}" for node in ("node1", "node2") for gpu in range(4)]
    before = stack.note(stack.job_on("node1", 0, name="observed"))
    for node in ("node1", "node2"):
        for gpu in range(4):
            inject(stack.hardware, node, gpu, "hang")

    def would(target: str) -> list[str]:
        events = stack.journal(target)
        return [e["data"]["action"] for e in events if e["event"] == "WouldDo"]

    def decided() -> bool:
        return all(would(one) or stack.held(one) for one in targets)

    until(decided, 60, lambda: {one: stack.story(one) for one in targets})
    stack.passes(3)
    out = [one for one in targets if "quarantine_gpu" in would(one)]
    waiting = [one for one in targets if one not in out]
    assert len(out) == 3, {one: would(one) for one in targets}
    for one in waiting:
        assert stack.held(one) in ("budget_out", "budget_new"), stack.story(one)
        assert would(one) == []
    assert not any(stack.quarantined(one) for one in targets)
    stack.require_untouched(before)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB at this place."""
    if os.geteuid() != 0:
        pytest.skip("a file system that is full needs a mount, and only root can mount")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    said = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=20)
    if said.returncode != 0:
        pytest.skip(f"a file system that is full needs a mount: {said.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=20)


def test_a_remediator_whose_journal_cannot_be_written_is_not_ready(
    stack: Scene, new_port: Callable[[], int], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        one = Extra(stack.state / "remediator" / "remediator.yml", disk / "data", new_port())
        one.start()
        try:
            until(lambda: ready(one)[0] == 200, 20, lambda: ready(one))
            fill(disk / "rest")
            until(lambda: ready(one)[0] == 503, 20, lambda: ready(one))
            said = ready(one)[1]
            assert "disk is full" in said, said
            (disk / "rest").unlink()
            until(lambda: ready(one)[0] == 200, 20, lambda: ready(one))
        finally:
            one.stop()


def ready(one: Extra) -> tuple[int, Any]:
    return status_of(f"{one.url}/-/ready")


def fill(path: Path) -> None:
    """Leave no byte of the file system."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 512)
