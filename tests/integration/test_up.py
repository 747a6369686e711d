"""`fleetmedic up` as a user types it: health, printed addresses, jobs, deaths, and nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from fleetmedic.kernel.home import StackFile
from fleetmedic.stack.health import health_problem
from fleetmedic.stack.identity import Mark, alive, marked_processes
from fleetmedic.stack.ports import is_free, layout

pytestmark = pytest.mark.integration
FLEETMEDIC = [sys.executable, "-P", "-m", "fleetmedic.cli"]


def until(holds: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class Site:
    """A state folder and ports of its own, and the command line on them."""

    def __init__(self, state: Path, base: int) -> None:
        self.state = state
        self.base = base

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        where = ["--state-dir", str(self.state), "--port-base", str(self.base)]
        return subprocess.run(
            [*FLEETMEDIC, "up", *words, *where], capture_output=True, text=True, timeout=200,
            check=False, cwd="/",
        )  # fmt: skip

    def up(self, *words: str) -> str:
        done = self("--detach", "--no-history", "--nodes", "2", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def file(self) -> StackFile:
        return StackFile.read(self.state)

    @property
    def mark(self) -> Mark:
        supervisor = self.file.supervisor
        assert supervisor is not None
        return Mark.of(supervisor, self.state)


@pytest.fixture
def site(
    tmp_path: Path, parts: dict[str, Path], new_port_base: Callable[[], int]
) -> Iterator[Site]:
    for name in ("prometheus", "promtool", "alertmanager"):
        assert parts[name]
    found = Site(tmp_path / "state", new_port_base())
    yield found
    if (found.state / "stack.json").exists():
        found("down")


def test_the_stack_comes_up_every_printed_address_answers_and_down_leaves_nothing(
    site: Site,
) -> None:
    printed = site.up()
    assert "SIMULATED" in printed
    urls = site.file.urls
    pages = [url + "/" for url in urls.values()]
    pages += [f"{urls['prometheus']}/", f"{urls['remediator']}/runbooks/GpuLost"]
    assert {page: wrong for page in pages if (wrong := health_problem(page, 5.0))} == {}
    for url in urls.values():
        assert url in printed
    status = site("status")
    assert status.returncode == 0, status.stdout

    token = site.state / "secrets/webhook.token"
    assert token.stat().st_mode & 0o777 == 0o600
    mark = site.mark
    assert len(marked_processes(mark)) > 8
    began = time.monotonic()
    down = site("down")
    assert down.returncode == 0, down.stderr
    assert time.monotonic() - began < 12
    assert marked_processes(mark) == []
    assert all(is_free(port) for port in layout(site.base, ["node1", "node2"]).values())
    assert site("status").returncode == 1


def test_killing_up_leaves_no_process_and_the_next_one_goes_on_from_its_state(site: Site) -> None:
    site.up()
    token = (site.state / "secrets/webhook.token").read_text()
    mark = site.mark
    job = subprocess.run(
        [*FLEETMEDIC, "run", "--state-dir", str(site.state), "--gpus", "1", "--name", "sleeper",
         "--", "sleep", "600"],
        capture_output=True, text=True, timeout=60, check=False, cwd=site.state,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr
    until(lambda: sleepers(site.state), 20)
    os.kill(mark.supervisor[0], signal.SIGKILL)
    until(lambda: not marked_processes(mark) and not sleepers(site.state), 15)
    assert site("status").returncode == 1

    site.up()
    assert (site.state / "secrets/webhook.token").read_text() == token
    until(lambda: sleepers(site.state), 20)  # the job runs again by itself
    site("down")
    assert sleepers(site.state) == []


def sleepers(state: Path) -> list[int]:
    """The processes of the job above: their progress folder is this stack's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if command == b"sleep\x00600\x00" and str(state).encode() in environment:
            found.append(int(folder.name))
    return found


def test_a_process_that_is_killed_comes_back(site: Site) -> None:
    site.up()
    before = site.file.pids["remediator"]
    os.kill(before[0], signal.SIGKILL)
    until(lambda: alive(site.file.pids.get("remediator")), 20)
    until(lambda: site("status").returncode == 0, 30)
    assert site.file.pids["remediator"] != before
    assert "remediator was killed by SIGKILL" in (site.state / "logs/up.log").read_text()


def test_two_stacks_stand_side_by_side(
    site: Site, tmp_path: Path, new_port_base: Callable[[], int]
) -> None:
    other = Site(tmp_path / "other", new_port_base())
    site.up()
    try:
        other.up()
        assert site("status").returncode == 0
        site("down")
        assert other("status").returncode == 0
    finally:
        other("down")


def test_a_taken_port_is_refused_with_its_holder_and_nothing_is_started(site: Site) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(site.base + 5)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: not is_free(site.base + 5), 10)
        done = site("--detach")
    finally:
        holder.kill()
        holder.wait()
    assert done.returncode == 2
    assert f"port {site.base + 5} of remediator is in use by" in done.stderr
    assert f"pid {holder.pid}" in done.stderr
    assert "Traceback" not in done.stderr


def test_in_the_foreground_it_writes_plain_lines_and_ends_at_ctrl_c(site: Site) -> None:
    where = ["--state-dir", str(site.state), "--port-base", str(site.base)]
    said = []
    with subprocess.Popen(
        [*FLEETMEDIC, "up", "--no-history", "--nodes", "1", *where], text=True, cwd="/",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ready."):
                break
        mark = site.mark
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said.append(process.stdout.read())
        assert process.wait(20) == 0, "".join(said)
    assert time.monotonic() - began < 10
    assert "\x1b[" not in "".join(said)
    assert marked_processes(mark) == []


def test_every_snippet_is_accepted_by_the_real_checkers(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    def snippet(part: str) -> dict[str, object]:
        text = subprocess.run(
            [*FLEETMEDIC, "config", "snippets", "--part", part, "--rules-dir", str(tmp_path)],
            capture_output=True, text=True, check=True, cwd="/",
        ).stdout  # fmt: skip
        found = yaml.safe_load(text)
        assert isinstance(found, dict)
        return found

    prometheus, alertmanager = tmp_path / "prometheus.yml", tmp_path / "alertmanager.yml"
    prometheus.write_text(yaml.safe_dump(snippet("scrape") | snippet("rules")))
    receiver = snippet("receiver")
    receiver["route"] = {**receiver["route"], "receiver": "people"}  # type: ignore[dict-item]
    receiver["receivers"] = [*receiver["receivers"], {"name": "people"}]  # type: ignore[misc]
    alertmanager.write_text(yaml.safe_dump(receiver))
    for command in (
        [parts["promtool"], "check", "config", prometheus],
        [parts["amtool"], "check-config", alertmanager],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
