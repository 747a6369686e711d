"""systemd units, reported by a fake systemctl."""

import re
import sys
from pathlib import Path

import pytest

from exporter.collector import CollectorError
from exporter.collectors import systemd
from exporter.collectors.systemd import INCLUDE, Systemd

LIST = """nvidia-fabricmanager.service loaded failed failed NVIDIA fabric manager service
slurmd.service loaded active running Slurm node daemon
cron.service loaded active running Regular background program processing daemon
gone.service not-found inactive dead gone.service
"""
SHOW = """Type=forking
NRestarts=3
Id=nvidia-fabricmanager.service
LoadState=loaded
ActiveState=failed

Type=simple
NRestarts=0
Id=slurmd.service
LoadState=loaded
ActiveState=reloading
"""


def program(folder: Path, body: str) -> list[str]:
    (folder / "systemctl.py").write_text(f"import sys, time\n{body}\n")
    return [sys.executable, str(folder / "systemctl.py")]


def answering(folder: Path) -> list[str]:
    log = folder / "asked"
    return program(
        folder,
        f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"print({LIST!r} if 'list-units' in sys.argv else {SHOW!r}, end='')",
    )


def collector(folder: Path, command: list[str]) -> Systemd:
    return Systemd(re.compile(INCLUDE), command, booted=folder)


def test_each_unit_has_a_series_for_each_state_and_its_restarts(tmp_path: Path) -> None:
    found = list(collector(tmp_path, answering(tmp_path)).collect(0.0))
    on = {s.labels for s in found if s.name == "node_systemd_unit_state" and s.value}
    assert on == {
        ("nvidia-fabricmanager.service", "failed", "forking"),
        ("slurmd.service", "active", "simple"),
    }
    assert len([s for s in found if s.name == "node_systemd_unit_state"]) == 10
    restarts = {s.labels[0]: s.value for s in found if s.name.endswith("_total")}
    assert restarts == {"nvidia-fabricmanager.service": 3, "slurmd.service": 0}


def test_only_wanted_units_are_asked_for_and_the_list_not_each_time(tmp_path: Path) -> None:
    one = collector(tmp_path, answering(tmp_path))
    for _ in range(systemd.LIST_EVERY + 1):
        list(one.collect(0.0))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len([line for line in asked if "list-units" in line]) == 2
    shown = [line for line in asked if "show" in line]
    assert len(shown) == systemd.LIST_EVERY + 1
    assert all(line.endswith("-- nvidia-fabricmanager.service slurmd.service") for line in shown)


def test_a_machine_without_systemd_gives_no_data(tmp_path: Path) -> None:
    assert list(collector(tmp_path / "no", answering(tmp_path)).collect(0.0)) == []
    assert list(collector(tmp_path, ["no-such-systemctl"]).collect(0.0)) == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.exit('Failed to connect to bus: No such file')", "failed: Failed to connect to bus"),
        ("time.sleep(30)", "did not respond within 0.5 s"),
    ],
)
def test_a_systemctl_that_fails_or_waits_is_said_in_a_sentence(
    body: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "TIMEOUT", 0.5)
    with pytest.raises(CollectorError, match=sentence):
        list(collector(tmp_path, program(tmp_path, body)).collect(0.0))


@pytest.mark.parametrize(
    "unit",
    ["nvidia-fabricmanager", "nvidia-persistenced", "nvidia-dcgm", "chronyd", "slurmd",
     "containerd", "kubelet", "docker", "chrony", "ntpd", "ssh", "munge"],
)  # fmt: skip
def test_the_units_that_rules_read_are_wanted(unit: str) -> None:
    assert re.fullmatch(INCLUDE, f"{unit}.service")
