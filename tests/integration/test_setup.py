"""Set-up of a checkout: run by a bare python3, in a folder that stands for the checkout."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.integration
SETUP = Path(__file__).resolve().parents[2] / "tools" / "setup.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    shutil.copy(SETUP, tmp_path / "tools")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    return tmp_path


def load(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("checkout_setup", checkout / "tools/setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_ensurepip_one_sentence_names_the_package(checkout: Path) -> None:
    (checkout / "ensurepip.py").write_text("raise ImportError\n")
    for _ in range(2):  # the second time must not find a half-made .venv good enough
        done = subprocess.run(
            [sys.executable, checkout / "tools/setup.py"], capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout)}, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "install Debian's package python3-venv" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_half_made_venv_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    (checkout / ".venv/rubbish").touch()
    setup = load(checkout)
    setup._make_venv()
    assert not (checkout / ".venv/rubbish").exists()
    assert setup._runs("-m", "pip", "--version")


def test_it_is_done_only_while_pyproject_is_the_same(checkout: Path) -> None:
    setup = load(checkout)
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").symlink_to(sys.executable)
    assert not setup._fresh("all")
    setup.STAMP.write_text(setup._key("all"))
    assert setup._fresh("all")
    assert not setup._fresh("dev"), "the tools of development are missing"
    setup.STAMP.write_text(setup._key("dev"))
    assert setup._fresh("all"), "development includes the runtime"
    (checkout / "pyproject.toml").write_text("[project]\nname = 'y'\n")
    assert not setup._fresh("dev")


def test_unknown_arguments_are_refused_in_one_sentence(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, checkout / "tools/setup.py", "--fast"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "unknown arguments: --fast" in done.stderr
    assert not (checkout / ".venv").exists()
