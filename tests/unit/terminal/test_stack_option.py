"""The options that select a stack, before and after the name of a subcommand."""

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fleetmedic.cli import COMMANDS, cli
from fleetmedic.terminal.stack_option import StackLocation, stack_option, suggested

WITHOUT_A_STACK = {"config", "exporter", "rules", "alertmanager", "remediator", "version"}


@click.group(invoke_without_command=True)
@stack_option
@click.pass_context
def group(ctx: click.Context, stack: StackLocation) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(f"{stack.state} {stack.port_base}")


@group.command()
@stack_option
def status(stack: StackLocation) -> None:
    click.echo(f"{stack.state} {stack.port_base}")


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETMEDIC_STATE_DIR", raising=False)
    monkeypatch.setenv("FLEETMEDIC_HOME", "/h")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "/h/stack 9090"),
        ("status", "/h/stack 9090"),
        ("--port-base 19090 status", "/h/stack-19090 19090"),
        ("status --port-base 19090", "/h/stack-19090 19090"),
        ("--port-base 19090 status --port-base 9090", "/h/stack 9090"),
        ("--state-dir /a status --port-base 19090", "/a 19090"),
        ("--state-dir /a status --state-dir /b", "/b 9090"),
    ],
)
def test_the_option_nearest_to_the_command_wins(words: str, found: str) -> None:
    assert CliRunner().invoke(group, words.split()).output.strip() == found


@group.command()
@click.option("--url")
@stack_option
def suggest(url: str | None, stack: StackLocation) -> None:
    click.echo(suggested("jobs a"))
    click.echo(suggested("run -- sleep 9"))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("suggest", ""),
        ("--port-base 19090 suggest", " --port-base 19090"),
        ("suggest --state-dir /a", " --state-dir /a"),
        ("suggest --state-dir /h/stack --port-base 9090", ""),
        (
            "--state-dir '/my state' suggest --url http://h:1",
            " --state-dir '/my state' --url http://h:1",
        ),
    ],
)
def test_a_suggested_command_selects_the_same_stack(words: str, options: str) -> None:
    output = CliRunner().invoke(group, shlex.split(words)).output
    assert output == f"`fleetmedic jobs a{options}`\n`fleetmedic run{options} -- sleep 9`\n"


def test_a_suggested_command_outside_of_a_command_has_no_options() -> None:
    assert suggested("up") == "`fleetmedic up`"


def test_a_suggested_command_selects_a_given_stack() -> None:
    assert suggested("up down", Path("/a")) == "`fleetmedic up down --state-dir /a`"
    assert suggested("up", Path("/h/stack-19090")) == "`fleetmedic up --port-base 19090`"
    started = suggested("up", Path("/a"), 19090)
    assert started == "`fleetmedic up --state-dir /a --port-base 19090`"


def test_up_is_suggested_without_the_options_of_a_remediator() -> None:
    @click.command()
    @click.option("--url")
    @stack_option
    def ask(url: str | None, stack: StackLocation) -> None:
        click.echo(suggested("up status"))

    words = ["--url", "http://h:1", "--state-dir", "/a"]
    assert CliRunner().invoke(ask, words).output == "`fleetmedic up status --state-dir /a`\n"


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WITHOUT_A_STACK))
def test_every_command_that_uses_a_stack_takes_both_options(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    for one in (command, *below):
        options = {word for parameter in one.params for word in parameter.opts}
        if one is not command or name != "localcluster":
            assert {"--state-dir", "--port-base"} <= options, one.name


def test_a_table_in_a_pipe_is_not_wrapped(tmp_path: Path) -> None:
    from fleetmedic.terminal.output import rows

    @click.command()
    def show() -> None:
        rows(("id", "text"), [("a", "x" * 200)], {})

    assert CliRunner().invoke(show).output.splitlines() == ["id  text", f"a   {'x' * 200}"]
