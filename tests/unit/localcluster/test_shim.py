"""The exit code of a command that cannot be started tells a missing command from an unusable one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetmedic.localcluster import shim
from fleetmedic.localcluster.retry import CANNOT_START, ExitStatus


def run(folder: Path, *command: str, cwd: str = "/") -> tuple[int, str]:
    """The exit code and the output of a command that the shim runs."""
    order = {"command": command, "env": {"PATH": "/usr/bin:/bin"}, "cwd": cwd, "log_bytes": 65536}
    (folder / "order.json").write_text(json.dumps(order))
    subprocess.run([sys.executable, "-I", "-S", str(shim.__file__), str(folder)], check=True)
    code: int = json.loads((folder / "exit.json").read_text())["code"]
    return code, (folder / "output.log").read_text()


@pytest.mark.parametrize("command", ["/nowhere/train", "no-such-command", "./missing"])
def test_a_missing_command_exits_with_127(tmp_path: Path, command: str) -> None:
    code, output = run(tmp_path, command)
    assert (code, output) == (127, f"cannot start {command}: No such file or directory\n")
    assert str(ExitStatus(code)) == "exited with 127 (command not found)"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/tmp", "Permission denied"),
        ("/etc/passwd", "Permission denied"),
        ("/etc/passwd/x", "Not a directory"),
    ],
)
def test_a_command_that_cannot_be_executed_exits_with_126(
    tmp_path: Path, command: str, why: str
) -> None:
    code, output = run(tmp_path, command)
    assert (code, output) == (126, f"cannot start {command}: {why}\n")
    assert str(ExitStatus(code)) == "exited with 126 (command cannot be executed)"
    assert code in CANNOT_START


def test_a_script_without_an_interpreter_is_found_but_cannot_be_executed(tmp_path: Path) -> None:
    for name, text in (("bare", "exit 0\n"), ("lost", "#!/nowhere/sh\n")):
        script = tmp_path / name
        script.write_text(text)
        script.chmod(0o755)
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        assert run(folder, str(script))[0] == 126


def test_a_missing_working_directory_is_not_reported_as_a_missing_command(tmp_path: Path) -> None:
    code, output = run(tmp_path, "true", cwd="/nowhere")
    assert (code, output) == (126, "cannot use the directory /nowhere: No such file or directory\n")
