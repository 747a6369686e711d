"""Shipped files are found in a checkout first, then in the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetmedic.kernel import share as module
from fleetmedic.kernel.share import share


def _installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "site" / "fleetmedic"
    (package / "_share" / "alertmanager").mkdir(parents=True)
    monkeypatch.setattr(module, "_PACKAGE", package)
    return package


def test_this_checkout_has_the_runbooks() -> None:
    assert share("docs/runbooks") == Path(module.__file__).parents[2] / "docs" / "runbooks"


def test_a_wheel_has_them_below_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = _installation(tmp_path, monkeypatch)
    assert share("alertmanager") == package / "_share" / "alertmanager"


def test_a_folder_beside_an_installed_package_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _installation(tmp_path, monkeypatch)
    (package.parent / "alertmanager").mkdir()
    assert share("alertmanager") == package / "_share" / "alertmanager"


def test_a_checkout_wins_over_a_stale_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = _installation(tmp_path, monkeypatch)
    (package.parent / "pyproject.toml").touch()
    (package.parent / "alertmanager").mkdir()
    assert share("alertmanager") == package.parent / "alertmanager"


def test_what_is_not_shipped_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installation(tmp_path, monkeypatch)
    with pytest.raises(FileNotFoundError, match="does not contain dashboards"):
        share("dashboards")
