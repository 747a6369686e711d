"""The command line: every command loads, explains itself with an example, and fails in a sentence."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fleetmedic import cli as module
from fleetmedic.cli import COMMANDS, cli, main
from fleetmedic.kernel.errors import UserError

Run = Callable[..., tuple[int, str, str]]


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, f"{path} lists {name} and has none"
            yield from _walk(child, (*path, name))


def _load(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the console script in this process: exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fleetmedic", *words])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


@pytest.fixture
def add_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a command `extra` into the table, whose module has the given text."""

    def add(source: str) -> None:
        name = f"command_{abs(hash(str(tmp_path)))}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(COMMANDS, "extra", (f"{name}:extra", "stack", "An extra command."))

    return add


def test_the_table_holds_every_command_that_users_and_tools_rely_on() -> None:
    assert set(COMMANDS) == {
        "doctor", "up", "demo", "exporter", "rules", "remediator", "localcluster", "inject", "run",
        "jobs", "incidents", "why", "pause", "resume", "release", "close", "retry", "approve", "reject", "config", "version",
        "alertmanager",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_command_loads_and_explains_itself_with_an_example(name: str) -> None:
    command = _load(name)
    for path, each in _walk(command, (name,)):
        text = inspect.cleandoc(each.help or "")
        assert text, f"`fleetmedic {path}` has no help"
        assert "\b\nExample" in text, f"`fleetmedic {path}` has no example block"
        assert f"fleetmedic {path}" in text, f"no example of {path!r} calls it by its name"
        shown = CliRunner().invoke(each, ["--help"])
        assert shown.exit_code == 0, f"`fleetmedic {path} --help` failed"
        for parameter in each.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, (
                    f"`fleetmedic {path}` does not say what {parameter.opts[0]} is"
                )


@pytest.mark.parametrize("name", COMMANDS)
def test_command_gives_its_own_name(name: str) -> None:
    assert _load(name).name == name


@pytest.mark.parametrize(
    ("path", "children"),
    [
        ("up", {"status", "down", "logs"}),
        ("incidents", {"list", "show"}),
        ("config", {"snippets"}),
        ("remediator", {"serve", "journal"}),
        ("rules", {"serve", "render"}),
        ("localcluster", {"serve"}),
    ],
)
def test_group_holds_the_commands_that_tools_drive(path: str, children: set[str]) -> None:
    group = _load(path)
    assert isinstance(group, click.Group)
    assert children <= set(group.list_commands(click.Context(group)))


def test_help_lists_every_command_without_loading_it(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out and text.split()[0] in out for name, (_, _, text) in COMMANDS.items())


def test_an_unknown_command_is_exit_code_2(run: Run) -> None:
    code, out, err = run("heal-everything")
    assert (code, out) == (2, "")
    assert "No such command 'heal-everything'" in err
    assert "Traceback" not in err


def test_a_mistyped_command_line_is_answered_with_the_right_one(run: Run) -> None:
    _, _, err = run("--port-base", "19090", "up", "status")
    assert "`fleetmedic up --port-base 19090 status`" in err
    assert "Did you mean `fleetmedic up status`?" in run("status")[2]


def test_a_user_error_is_one_sentence_and_exit_code_2(
    run: Run, add_command: Callable[[str], None]
) -> None:
    add_command(
        "import click\nfrom fleetmedic.kernel.errors import UserError\n"
        "@click.command()\ndef extra(): raise UserError('a.yml:3: no such key; take it out.')\n"
    )
    assert run("extra") == (2, "", "fleetmedic: a.yml:3: no such key; take it out.\n")


def test_an_unforeseen_error_is_one_sentence_and_exit_code_1(
    run: Run, add_command: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLEETMEDIC_DEBUG", raising=False)
    add_command("import click\n@click.command()\ndef extra(): open('/proc/none')\n")
    code, _, err = run("extra")
    assert code == 1
    assert err.startswith("fleetmedic: FileNotFoundError: ")
    assert len(err.splitlines()) == 1


def test_debug_shows_where_an_unforeseen_error_came_from(
    add_command: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETMEDIC_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["fleetmedic", "extra"])
    add_command("import click\n@click.command()\ndef extra(): open('/proc/none')\n")
    with pytest.raises(FileNotFoundError):
        main()


def test_a_missing_extra_says_what_to_install(run: Run, add_command: Callable[[str], None]) -> None:
    add_command("import a_library_that_is_not_there\n")
    code, _, err = run("extra")
    assert code == 2
    assert err == (
        "fleetmedic: `fleetmedic extra` needs the library a_library_that_is_not_there, which is not "
        "installed. Run `pip install 'fleetmedic[stack]'`.\n"
    )


def test_a_missing_module_of_ours_is_not_called_a_missing_extra(
    add_command: Callable[[str], None],
) -> None:
    add_command("import remediator.no_such_module\n")
    with pytest.raises(ModuleNotFoundError):
        _load("extra")


def test_a_package_of_the_same_name_is_found_out_before_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(package: str) -> None:
        raise UserError(f"the package {package!r} also belongs to another")

    monkeypatch.setattr(module, "require_sole_owner", refuse)
    for name in ("exporter", "rules", "remediator"):
        with pytest.raises(UserError, match=name):
            _load(name)


def test_ctrl_c_is_exit_code_130(run: Run, add_command: Callable[[str], None]) -> None:
    add_command("import click\n@click.command()\ndef extra(): raise KeyboardInterrupt\n")
    code, _, err = run("extra")
    assert (code, err.strip()) == (130, "fleetmedic: stopped.")


def test_names_are_completed_from_the_table_though_a_library_is_missing(
    add_command: Callable[[str], None],
) -> None:
    add_command("import a_library_that_is_not_there\n")
    items = cli.shell_complete(click.Context(cli), "e")
    assert [item.value for item in items] == ["exporter", "extra"]


def test_loading_every_command_imports_no_heavy_library() -> None:
    code = (
        "import sys, importlib; from fleetmedic.cli import COMMANDS\n"
        "[importlib.import_module(path.split(':')[0]) for path, _, _ in COMMANDS.values()]\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'pynvml', 'starlette', 'uvicorn', 'httpx2', 'requests'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"loaded too early: {done.stderr.strip().splitlines()[-1]}"


def test_version_is_the_packages_own(run: Run) -> None:
    code, out, _ = run("version")
    assert code == 0
    assert out.startswith("fleetmedic 0.")


def _shell(words: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line in which $F is the command line."""
    command = f"F='{sys.executable} -P -m fleetmedic.cli'; {words}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)


def test_a_reader_that_has_gone_ends_the_command_like_a_signal_and_without_a_word() -> None:
    ended = _shell("$F --help | true; echo ${PIPESTATUS[0]}")
    assert (ended.stdout, ended.stderr) == ("141\n", "")


def test_a_closed_output_is_no_error_and_a_full_one_is_named() -> None:
    closed = _shell("$F --version >&-")
    assert (closed.returncode, closed.stderr) == (0, "")
    full = _shell("$F --version >/dev/full")
    assert full.returncode == 2
    assert full.stderr.startswith("fleetmedic: cannot use the output of the command, or a file")
    assert "no space left" in full.stderr
