"""Without access to a state directory, every command names the path, the cause and the fix."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import StackFile
from fleetmedic.localcluster.jobs_cli import jobs
from fleetmedic.stack import cli
from fleetmedic.stack.cli import up
from fleetmedic.stack.disk_space import existing_parent
from fleetmedic.stack.identity import own_identity
from fleetmedic.stack.inject import inject
from fleetmedic.terminal.disk_errors import explain

NOBODY = 65_534


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state directory of a stack, in which this process may neither read nor write."""
    folder = tmp_path / "state"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs/rules.log").write_text("one\n")
    StackFile("local", 9090, True, {}, "t").save(folder)
    folder.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (up, []), (up, ["--detach"]), (up, ["status"]), (up, ["down"]), (up, ["logs", "rules"]),
        (jobs, []), (inject, ["node1/0", "lost"]),
    ],
)  # fmt: skip
def test_a_state_directory_of_another_user_is_named_with_the_fix(
    state: Path, command: cli.click.Command, words: list[str]
) -> None:
    with pytest.raises((UserError, OSError)) as refused:
        CliRunner().invoke(command, [*words, "--state-dir", str(state)], catch_exceptions=False)
    error = refused.value
    said = str(error) if isinstance(error, UserError) else explain(error) or str(error)
    assert said.startswith(f"cannot use {state}")
    assert ": permission denied. " in said.lower()
    assert "Run the command as" in said or f"Check the permissions of {state}" in said


def test_a_stack_that_does_not_start_leaves_the_signals_as_they_were(state: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        with pytest.raises((UserError, OSError)):
            CliRunner().invoke(up, ["--state-dir", str(state)], catch_exceptions=False)
        assert {signal.getsignal(number) for number in numbers} == {signal.SIG_DFL}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_log_of_another_user_is_not_an_empty_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/rules.log").write_text("one\n")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"cannot use .*/rules\.log: permission denied"):
        CliRunner().invoke(
            up, ["logs", "rules", "--state-dir", str(tmp_path)], catch_exceptions=False
        )


def test_a_stack_of_another_user_is_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    StackFile("local", 9090, True, {}, "t", supervisor=own_identity()).save(tmp_path)
    monkeypatch.setattr(cli, "send", refuse)
    with pytest.raises(UserError, match=f"user .* started the stack in {tmp_path}"):
        CliRunner().invoke(up, ["down", "--state-dir", str(tmp_path)], catch_exceptions=False)


def test_a_hidden_directory_counts_as_missing(state: Path) -> None:
    assert existing_parent(state / "below") in (state, *state.parents)
