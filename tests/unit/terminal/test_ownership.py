"""Common package names: another distribution's `rules` is found out before it is run."""

from __future__ import annotations

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.terminal.ownership import owners, require_sole_owner


def installed(folder: Path, name: str, file: str, text: str) -> None:
    info = folder / name
    info.mkdir()
    (info / file).write_text(text)


def test_ours_alone_is_fine(tmp_path: Path) -> None:
    installed(tmp_path, "fleetmedic-0.1.0.dist-info", "RECORD", "rules/cli.py,sha256=x,1\n")
    installed(tmp_path, "other-1.0.dist-info", "RECORD", "other/rules/a.py,,\nrulesets/a.py,,\n")
    require_sole_owner("rules", [str(tmp_path)])


def test_a_checkout_that_is_not_installed_is_fine(tmp_path: Path) -> None:
    require_sole_owner("rules", [str(tmp_path), str(tmp_path / "gone"), ""])


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("business_rules-1.1.dist-info", "RECORD", "LICENSE,,\nrules/__init__.py,sha256=x,1\n"),
        ("business_rules-1.1.egg-info", "top_level.txt", "tests\nrules\n"),
    ],
)
def test_another_owner_is_named_with_the_cure(
    tmp_path: Path, name: str, file: str, text: str
) -> None:
    installed(tmp_path, "fleetmedic-0.1.0.dist-info", "RECORD", "rules/cli.py,sha256=x,1\n")
    installed(tmp_path, name, file, text)
    with pytest.raises(UserError, match=r"'rules' also belongs to business_rules,.*environment"):
        require_sole_owner("rules", [str(tmp_path)])


def test_a_record_that_cannot_be_read_owns_nothing(tmp_path: Path) -> None:
    (tmp_path / "odd-1.0.dist-info" / "RECORD").mkdir(parents=True)
    require_sole_owner("rules", [str(tmp_path)])


def test_this_environment_holds_no_other_owner() -> None:
    for package in ("exporter", "rules", "remediator"):
        require_sole_owner(package)


def test_it_says_what_importlib_says() -> None:
    expected = packages_distributions().get("yaml", [])
    assert {name.lower() for name in owners("yaml", sys.path)} == {
        name.lower() for name in expected
    }
