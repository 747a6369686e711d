"""The plan: what the options come to on a machine with GPUs and on one without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.stack.plan import StackOptions, decide, host_name

OPTIONS = StackOptions(state_dir=Path("/tmp/somewhere"))


def test_without_gpus_four_nodes_of_eight_are_simulated_and_repaired() -> None:
    plan = decide(OPTIONS, gpus_found=False)
    assert plan.simulated
    assert plan.nodes == ("node1", "node2", "node3", "node4")
    assert plan.level == "repair"
    assert plan.urls()["exporter-node4"] == "http://127.0.0.1:9413"


def test_with_gpus_this_host_is_the_node_and_is_only_observed() -> None:
    plan = decide(OPTIONS, gpus_found=True)
    assert not plan.simulated
    assert plan.nodes == (host_name(),)
    assert plan.level == "observe"


def test_the_caller_may_decide_otherwise() -> None:
    assert decide(replace(OPTIONS, simulate=True), gpus_found=True).simulated
    assert not decide(replace(OPTIONS, simulate=False), gpus_found=False).simulated
    assert decide(replace(OPTIONS, level="drain"), gpus_found=True).level == "drain"


@pytest.mark.parametrize(
    "wrong", [{"factor": 0.5}, {"factor": 1e9}, {"level": "kill"}, {"nodes": 0}, {"gpus": 99}]
)
def test_what_cannot_be_is_refused_in_a_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        decide(replace(OPTIONS, **wrong), gpus_found=False)  # type: ignore[arg-type]


def test_notifications_are_checked_and_their_path_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "notifications.yml"
    file.write_text("quiet: [{weekdays: [sunday]}]")
    given = replace(OPTIONS, notifications="notifications.yml")
    assert decide(given, gpus_found=False).notifications == file
    file.write_text("quiet: [{weekdays: [funday]}]")
    with pytest.raises(UserError, match="'funday' is not a weekday"):
        decide(given, gpus_found=False)
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        decide(given, gpus_found=False)
