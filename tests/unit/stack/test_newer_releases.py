"""Later releases: which version is taken, from where, and what is said where none can be had."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack import binaries, newer_releases

SOURCES = """\
http://mirror.test/security|bookworm|main|$(SIGNED_BY)
http://mirror.test/debian|bookworm-updates|main|$(SIGNED_BY)
http://mirror.test/debian|bookworm|contrib|$(SIGNED_BY)
http://mirror.test/debian/|bookworm|main|/keys/archive.gpg
"""
OFFERED = """\
prometheus | 3.5.3+ds1-6 | http://mirror.test/debian sid/main amd64 Packages
prometheus | 3.10.0+ds1-1 | http://mirror.test/debian sid/main amd64 Packages
prometheus | 2.53.3+ds1-2 | http://mirror.test/debian trixie/main amd64 Packages
"""


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that stand for apt and dpkg; `asked` there is what they were asked for,
    `sources.list` the sources that apt was given."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (tmp_path / "sources").write_text(SOURCES)
    (tmp_path / "offered").write_text(OFFERED)
    program(
        bin_ / "apt-get",
        f'case "$*" in\n'
        f"*indextargets*) cat {tmp_path}/sources;;\n"
        f"*update*) cp sources.list {tmp_path}/sources.list;;\n"
        f'*download*) echo "$*" >> {tmp_path}/asked; touch one.deb;;\nesac',
    )
    program(bin_ / "apt-cache", f"cat {tmp_path}/offered")
    program(
        bin_ / "dpkg-deb",
        'mkdir -p "$3/usr/bin" && cd "$3/usr/bin" || exit 1\n'
        "for name in prometheus promtool; do\n"
        "  printf '#!/bin/sh\\necho %s, version 3.10\\n' $name > $name && chmod +x $name\ndone",
    )
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    monkeypatch.setenv("FLEETMEDIC_HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_newest_version_that_fits_is_taken_from_the_later_suites(machine: Path) -> None:
    assert (
        newer_releases.fetch("promtool-3") == machine / "home/parts/prometheus-3/usr/bin/promtool"
    )
    asked = (machine / "asked").read_text()
    assert asked.endswith("download prometheus=3.10.0+ds1-1 promtool=3.10.0+ds1-1\n")
    lines = (machine / "sources.list").read_text().splitlines()
    assert lines == [
        f"deb [signed-by=/keys/archive.gpg] http://mirror.test/debian/ {suite} main"
        for suite in newer_releases.SUITES
    ]


def test_both_programs_of_a_release_are_found_and_fetched_once(machine: Path) -> None:
    assert binaries.find("prometheus-3") is None
    newer_releases.fetch("prometheus-3")
    newer_releases.fetch("promtool-3")
    assert len((machine / "asked").read_text().splitlines()) == 1
    assert binaries.find("promtool-3") == newer_releases.path("promtool-3")
    assert binaries.command("prometheus-3")[0] == str(newer_releases.path("prometheus-3"))
    assert binaries.find("prometheus-2.53") is None, "each release has a folder of its own"


def test_where_the_archive_has_no_version_that_fits_its_versions_are_named(machine: Path) -> None:
    (machine / "offered").write_text(OFFERED.splitlines()[-1] + "\n")
    with pytest.raises(
        UserError, match=r"prometheus-3 cannot be fetched.*have only the versions 2\.53\.3"
    ):
        newer_releases.fetch("prometheus-3")
    assert not (machine / "home/parts/prometheus-3").exists()


def test_a_machine_whose_sources_name_no_debian_archive_is_told_so(machine: Path) -> None:
    (machine / "sources").write_text("http://mirror.test/ubuntu|noble-updates|main|\n")
    with pytest.raises(UserError, match="contain no Debian archive"):
        newer_releases.fetch("prometheus-3")


def test_a_failed_download_leaves_nothing_behind(machine: Path) -> None:
    program(
        machine / "bin/dpkg-deb",
        'mkdir -p "$3/usr/bin" && touch "$3/usr/bin/prometheus"\n'
        "echo 'dpkg-deb: error: no space' >&2; exit 2",
    )
    with pytest.raises(UserError, match=r"one\.deb cannot be unpacked \(.*no space\)"):
        newer_releases.fetch("prometheus-3")
    assert [path.name for path in (machine / "home/parts").iterdir()] == [".lock"]


def test_without_apt_the_missing_tool_is_named(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine))
    with pytest.raises(UserError, match="apt-get is not on PATH"):
        newer_releases.fetch("amtool-0.33")


def test_an_archive_that_does_not_answer_is_one_sentence(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("apt-get", 900)

    monkeypatch.setattr(newer_releases.Apt, "update", never)
    with pytest.raises(UserError, match="the package archive does not answer"):
        newer_releases.fetch("prometheus-3")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.5.3+ds1-6", (3, 5, 3)), ("1:0.33.1-5", (0, 33, 1)),
        ("2.40.3-2", (2, 40, 3)), ("none", ()),
    ],
)  # fmt: skip
def test_versions_are_compared_as_numbers(version: str, expected: tuple[int, ...]) -> None:
    assert newer_releases.numbers(version) == expected
