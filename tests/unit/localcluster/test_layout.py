"""What the controller does to the reports of jobs that it stops or moves."""

import json
import os
from pathlib import Path

from fleetmedic.localcluster.layout import Layout


def test_all_ranks_of_a_job_are_stopped_and_dropped_and_no_other_job(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    folder = layout.progress("node1")
    folder.mkdir(parents=True)
    mine, others = ("a.json", "a@1.json", "a@12.json"), ("ab.json", "a@pipeline.json", "b@1.json")
    for name in (*mine, *others):
        (folder / name).write_text(json.dumps({"step": 3, "running": True}))
    (folder / "a@3.json").write_text("junk")
    os.mkfifo(folder / "a@4.json")
    layout.stop_progress("node1", "a")
    for name in (*mine, *others):
        expected = {"step": 3, "running": name in others}
        assert json.loads((folder / name).read_text()) == expected
    layout.drop_progress("node1", "a")
    layout.drop_progress("node2", "a")
    assert {path.name for path in folder.iterdir()} == set(others)
