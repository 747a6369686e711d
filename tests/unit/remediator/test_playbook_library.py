from __future__ import annotations

import pytest

from fleetmedic.kernel.errors import UserError
from remediator.actions.registry import actions
from remediator.core.model import FaultClass, Level
from remediator.playbook_library import load_library, read_playbook

GOOD = """
playbook: mine
match: {alertname: [GpuLost]}
target: gpu
quarantine: true
ladder: [{do: reset_gpu, max: 3/2h, cooldown: 10m}]
readmit: {probation: 15m}
"""


@pytest.fixture
def read(tmp_path):
    """Reads a text as a playbook file."""

    def one(text: str, factor: float = 1.0):
        path = tmp_path / "mine.yml"
        path.write_text(text)
        return read_playbook(path, factor)

    return one


def test_long_durations_are_divided_by_the_factor_and_deadlines_are_not(read) -> None:
    slow, quick = read(GOOD), read(GOOD, 30)
    assert (slow.probation, quick.probation) == (900, 30)
    assert (slow.ladder[0].window, quick.ladder[0].window) == (7200, 240)
    assert (slow.ladder[0].cooldown, quick.ladder[0].cooldown) == (600, 20)
    assert slow.ladder[0].deadline == quick.ladder[0].deadline
    assert slow.verify == quick.verify


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("playbook: mine", "playbok: mine", "$"),
        ("target: gpu", "target: gpus", "$.target"),
        ("quarantine: true", "quarantine: yes please", "$.quarantine"),
        ("quarantine: true", "quarantine: false", "$.ladder"),
        ("do: reset_gpu", "do: replace", "$.ladder[0].do"),
        ("max: 3/2h", "max: often", "$.ladder[0].max"),
        ("max: 3/2h", "max: 3/2x", "$.ladder[0].max"),
        ("cooldown: 10m", "cooldown: 10", "$.ladder[0].cooldown"),
        ("probation: 15m", "probation: soon", "$.readmit.probation"),
        ("[GpuLost]", "GpuLost", "$.match.alertname"),
        ("[GpuLost]", "[GpuXidContained]", "$.match.alertname"),
        ("[GpuLost]", "[]", "$.match.alertname"),
        ("target: gpu", "target: job", "$.target"),
        ("target: gpu", "target: node", "$.ladder"),
        ("quarantine: true", "quarantine: true\nclass: application", "$.quarantine"),
        ("quarantine: true", "quarantine: true\nscale: {step: 1}", "$.scale"),
        ("quarantine: true", "quarantine: true\nwitnesses: 0", "$.witnesses"),
        ("quarantine: true", "quarantine: true\nverify: {passes: 0}", "$.verify.passes"),
        ("quarantine: true", "quarantine: true\nverify: {tests: []}", "$.verify.tests"),
    ],
)
def test_a_bad_playbook_is_one_sentence_that_names_file_and_place(read, old, new, place) -> None:
    with pytest.raises(UserError) as caught:
        read(GOOD.replace(old, new))
    said = str(caught.value)
    assert "mine.yml" in said
    assert f"at {place}:" in said
    assert "\n" not in said


def test_a_users_playbook_replaces_the_shipped_one_of_its_name(tmp_path) -> None:
    (tmp_path / "a.yml").write_text(GOOD.replace("mine", "gpu-lost"))
    found = [one for one in load_library([tmp_path]) if one.name == "gpu-lost"]
    assert [one.ladder[0].window for one in found] == [7200]
    assert load_library([tmp_path])[0].name == "gpu-lost"


def test_two_playbooks_of_one_name_and_missing_folders_are_refused(tmp_path) -> None:
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD)
    with pytest.raises(UserError, match="'mine'"):
        load_library([tmp_path])
    with pytest.raises(UserError, match="directory not found"):
        load_library([tmp_path / "none"])


def test_widening_to_a_playbook_that_is_not_there_is_refused(tmp_path) -> None:
    (tmp_path / "a.yml").write_text(GOOD + "widen_to: nowhere\n")
    with pytest.raises(UserError, match="nowhere"):
        load_library([tmp_path])


def test_what_matches_any_alert_comes_last() -> None:
    named = [bool(one.alertnames) for one in load_library(())]
    assert sorted(named, reverse=True) == named


def test_a_silent_exporter_alone_does_not_reboot_a_node() -> None:
    (one,) = (one for one in load_library(()) if "NodeDown" in one.alertnames)
    assert one.witnesses == 2


def test_the_shipped_ones_know_only_registered_actions_and_application_faults_only_tell() -> None:
    names = set(actions().names())
    for one in load_library(()):
        assert {rung.action.name for rung in one.ladder} <= names
        if one.fault_class is FaultClass.APPLICATION:
            assert one.notify_only
        if one.notify_only:
            assert Level.OBSERVE is one.level
