"""Finding programs: the order of places, and what is no Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import binaries, fetch


def program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/bin/nowhere")
    monkeypatch.setenv("FLEETMEDIC_HOME", str(tmp_path / "home"))
    for variable in binaries.OVERRIDES.values():
        monkeypatch.delenv(variable, raising=False)


def test_what_is_nowhere_is_none_and_its_command_says_what_to_do() -> None:
    assert binaries.find("prometheus") is None
    with pytest.raises(UserError, match="--prometheus-bin"):
        binaries.command("prometheus")
    with pytest.raises(UserError, match="doctor --fetch"):
        binaries.command("alertmanager")


def test_path_comes_before_the_unpacked_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/bin:/bin")
    says = "amtool, version 0.25.0 (branch: x)"
    unpacked = program(tmp_path / "home/parts/root/usr/bin/amtool", says)
    assert binaries.find("amtool") == unpacked
    on_path = program(tmp_path / "path/amtool", says)
    assert binaries.find("amtool") == on_path
    assert binaries.version(on_path) == "amtool, version 0.25.0"


def test_both_names_of_alertmanager_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/bin:/bin")
    debian = program(tmp_path / "path/prometheus-alertmanager", "alertmanager, version 0.25.0")
    assert binaries.find("alertmanager") == debian


def test_a_program_of_the_same_name_that_is_another_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/bin:/bin")
    impostor = program(tmp_path / "path/prometheus", "prometheus the game 3.1")
    assert binaries.find("prometheus") is None
    monkeypatch.setenv(binaries.OVERRIDES["prometheus"], str(impostor))
    with pytest.raises(UserError, match="--prometheus-bin: expected prometheus"):
        binaries.find("prometheus")


def test_promtool_is_taken_from_beside_the_named_prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    named = program(tmp_path / "own/prometheus", "prometheus, version 3.5.0")
    beside = program(tmp_path / "own/promtool", "promtool, version 3.5.0")
    monkeypatch.setenv(binaries.OVERRIDES["prometheus"], str(named))
    assert binaries.find("prometheus") == named
    assert binaries.find("promtool") == beside


def test_an_alertmanager_that_never_starts_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/usr/bin:/bin")
    program(tmp_path / "path/alertmanager", "alertmanager, version 9")
    with pytest.raises(UserError, match="does not start on this machine") as error:
        binaries.command("alertmanager")
    assert "alertmanager, version 9" in str(error.value)


def test_without_apt_the_fetch_names_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"apt-get is not on PATH.*prometheus-alertmanager"):
        fetch.fetch(print)


def test_what_was_unpacked_before_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        program(tmp_path / "path" / tool, "must not be called")
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/bin")
    folder = fetch.parts_dir()
    folder.mkdir(parents=True)
    asked = {"packages": [], "asked": [*fetch.SERVERS, *fetch.OPTIONAL]}
    (folder / "parts.json").write_text(json.dumps(asked))
    told: list[str] = []
    fetch.fetch(told.append)
    assert told == []


def test_what_an_earlier_download_did_not_know_of_is_fetched_and_its_lack_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        failing = program(tmp_path / "path" / tool, "")
        failing.write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/path:/bin")
    folder = fetch.parts_dir()
    folder.mkdir(parents=True)
    (folder / "parts.json").write_text(json.dumps({"packages": ["prometheus.deb"]}))
    assert fetch.missing_packages() == ["prometheus-node-exporter"]
    told: list[str] = []
    fetch.fetch(told.append)
    assert told[-1].endswith(
        "cannot be fetched (no such package); only tests and benchmarks need it"
    )
    assert fetch.missing_packages() == ["prometheus-node-exporter"], "asked again the next time"
