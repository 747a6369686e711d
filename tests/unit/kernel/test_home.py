"""One folder holds all state; a stack says there what it is, so that other commands find it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetmedic.kernel import home as home_module
from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile, home, stack_options, state_dir

STACK = StackFile(
    cluster="local",
    port_base=9090,
    simulated=True,
    urls={"prometheus": "http://127.0.0.1:9090"},
    token_file="/state/secrets/webhook.token",
    supervisor=(10, 20),
    pids={"prometheus": (11, 21)},
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEETMEDIC_HOME", "FLEETMEDIC_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_home_is_the_variable_then_xdg_then_the_usual_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".local" / "state" / "fleetmedic"
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert home() == Path("/x/fleetmedic")
    monkeypatch.setenv("FLEETMEDIC_HOME", "/y")
    assert home() == Path("/y")


def test_home_is_absolute_since_processes_start_in_other_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETMEDIC_HOME", "here")
    assert home() == tmp_path / "here"
    assert state_dir() == tmp_path / "here" / "stack"


def test_a_stack_has_a_folder_of_its_own_by_its_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETMEDIC_HOME", "/y")
    assert state_dir() == Path("/y/stack")
    assert state_dir(port_base=19090) == Path("/y/stack-19090")
    monkeypatch.setenv("FLEETMEDIC_STATE_DIR", "/z")
    assert state_dir() == Path("/z")
    assert state_dir("/given") == Path("/given")


@pytest.mark.parametrize(
    ("state", "port_base", "options"),
    [
        ("/y/stack", 0, ""),
        ("/y/stack", 9090, ""),
        ("/y/stack-19090", 0, " --port-base 19090"),
        ("/y/stack-19090", 19090, " --port-base 19090"),
        ("/a b", 0, " --state-dir '/a b'"),
        ("/a", 19090, " --state-dir /a --port-base 19090"),
        ("/a/stack-19090", 0, " --state-dir /a/stack-19090"),
        ("/y/stack-old", 0, " --state-dir /y/stack-old"),
    ],
)
def test_the_options_of_a_stack_select_it(
    monkeypatch: pytest.MonkeyPatch, state: str, port_base: int, options: str
) -> None:
    monkeypatch.setenv("FLEETMEDIC_HOME", "/y")
    assert stack_options(Path(state), port_base) == options
    monkeypatch.setenv("FLEETMEDIC_STATE_DIR", "/a")
    assert "--state-dir" not in stack_options(Path("/a"))
    assert "--state-dir /y/stack" in stack_options(Path("/y/stack"))


def test_a_stack_is_read_as_it_was_saved(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    assert StackFile.read(tmp_path) == STACK


def test_where_no_stack_was_started_the_cure_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"Run `fleetmedic up --state-dir {tmp_path}`"):
        StackFile.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'"x"', b"\xff", b"[" * 20_000,
     json.dumps({"pids": {"a": 3}, "supervisor": None}).encode(),
     json.dumps({"pids": [], "supervisor": None, "more": 1}).encode()],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stack.json").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        StackFile.read(tmp_path)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "stack.json").mkdir()
    with pytest.raises(UserError, match=r"cannot use .*/stack\.json: Is a directory"):
        StackFile.read(tmp_path)


def test_the_default_port_is_prometheus_own() -> None:
    assert home_module.DEFAULT_PORT_BASE == 9090


@pytest.mark.parametrize("text", ['{"cluster": 1}', '{"cluster": "a", "port_base": "x"}', "[]"])
def test_a_stack_file_with_wrong_types_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        StackFile.read(tmp_path)
