"""The NVML source through the real binding, on the stand-in of the driver's library: what changes
while it is open.

Each test is a program of its own, since the library is found when a process starts.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import firmware
from fake_nvml.build import build

from fleetmedic.hardware.state import Hardware

pytestmark = pytest.mark.integration
FAKE = Path(__file__).parent.parent / "fake_nvml"
GPUS = 3
HEAD = f"""
import dataclasses, itertools, json, sys, time
from pathlib import Path
sys.path.insert(0, {str(FAKE)!r})
import firmware
from exporter.sources.base import READ_GROUPS, SourceFailed, SourceLost
from exporter.sources.nvml import NvmlSource, events
from fleetmedic.hardware.state import Hardware

hardware = Hardware(Path(sys.argv[1]))
node = hardware.root / "node1"
announced = []
source = NvmlSource(Path("/nowhere"), Path("/nowhere"), lambda: announced.append(1))

def says(slot):
    try:
        source.presence(slot)
        source.identify(slot)
        return "here"
    except SourceLost:
        return "lost"

def told(value):
    print(json.dumps(value, default=dataclasses.astuple))
"""
Run = Callable[[str], Any]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        if os.environ.get("FLEETMEDIC_REQUIRE_PARTS") == "1":
            pytest.fail("there is no C compiler for the stand-in of NVML: install gcc")
        pytest.skip("there is no C compiler for the stand-in of NVML")
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def run(library: Path, tmp_path: Path) -> Run:
    """Runs a program that has `source`, `hardware`, `says` and `told`; returns what it told."""
    hardware = Hardware(tmp_path / "hardware")
    hardware.create(1, GPUS)
    firmware.write(hardware, "node1", time.time())
    environment = {
        **os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_DIR": str(hardware.root / "node1"),
    }  # fmt: skip

    def program(text: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-P", "-c", HEAD + textwrap.dedent(text), str(hardware.root)],
            env=environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return program


def test_a_read_costs_few_calls_once_it_is_known_what_the_card_has(run: Run) -> None:
    calls = run("""
        source.open()
        found = {}
        for _ in range(3):
            for group in READ_GROUPS:
                announced.clear()
                source.read(0, group, time.time())
                found[group] = len(announced)
        told([found, source.errors()])
    """)
    most = {
        "load": 17, "gpm": 3, "health": 15, "links": 26, "mig": 1, "processes": 3, "limits": 15,
    }  # fmt: skip
    assert {group: count for group, count in calls[0].items() if count > most[group]} == {}
    assert calls[1] == {}


def test_a_lost_gpu_is_lost_until_it_is_reset_and_the_source_has_looked_again(run: Run) -> None:
    seen = run("""
        source.open()
        before = [says(slot) for slot in source.slots()]
        hardware.change("node1", 1, lost=True)
        during = [says(slot) for slot in source.slots()]
        source.refresh()
        after = len(source.slots())
        hardware.reset("node1", 1)
        source.refresh()
        told([before, during, after, [says(slot) for slot in source.slots()]])
    """)
    here = ["here"] * GPUS
    assert seen == [here, ["here", "lost", "here"], GPUS - 1, here]


def test_a_read_of_a_lost_gpu_says_so_and_counts_no_error(run: Run) -> None:
    assert run("""
        source.open()
        source.read(0, "load", time.time())
        hardware.change("node1", 0, lost=True)
        said = []
        for group in READ_GROUPS:
            try:
                source.read(0, group, time.time())
            except SourceLost:
                said.append(group)
        told([said == list(READ_GROUPS), source.errors()])
    """) == [True, {}]


def test_a_library_without_any_gpu_opens_and_has_none(run: Run) -> None:
    assert run("""
        for slot in range(3):
            hardware.change("node1", slot, lost=True)
        source.open()
        told(source.slots())
    """) == []  # fmt: skip


@pytest.mark.parametrize(
    ("line", "cure"), [("mismatch=1", "reload the driver, or reboot"), ("loaded=0", "modprobe")]
)
def test_a_driver_that_goes_away_fails_the_source_with_a_cure(
    run: Run, line: str, cure: str
) -> None:
    said = run(f"""
        source.open()
        source.identify(0)
        (node / "driver").write_text("{line}\\n")
        said = []
        asked = (source.slots, lambda: source.presence(0), lambda: source.read(0, "load", 0.0))
        for ask in (*asked, source.refresh):
            try:
                ask()
            except SourceFailed as error:
                said.append(str(error))
        (node / "driver").write_text("")
        source.refresh()
        told([said, says(0)])
    """)
    assert [cure in sentence for sentence in said[0]] == [True] * 4
    assert said[1] == "here"


def test_profiling_goes_on_after_a_reconnection_with_a_sample_of_its_own(run: Run) -> None:
    assert run("""
        source.open()
        counts = []
        for _ in range(2):
            counts += [len(source.read(0, "gpm", time.time())) for _ in range(2)]
            source.refresh()
        told(counts)
    """) == [0, 16, 0, 16]


def test_a_gpu_is_partitioned_and_whole_again(run: Run) -> None:
    counts = run("""
        source.open()
        counts = []
        for mig in (False, True, False):
            hardware.change("node1", 0, mig=mig)
            firmware.write(hardware, "node1", time.time())
            source.read(0, "mig", time.time())
            counts.append([r.name for r in source.read(0, "mig", time.time())])
        told([[names.count("gpu_mig_info"), names.count("gpu_mig_sm_active_ratio")] for names in counts])
    """)
    assert counts == [[0, 0], [2, 2], [0, 0]]


def test_events_come_with_who_they_are_about_and_silence_is_a_heartbeat(run: Run) -> None:
    seen = run("""
        uuid = hardware.gpu("node1", 2).uuid
        heard = events(lambda *_, **__: None)
        first = next(heard)
        (node / "events").write_text(f"{uuid} 79\\n{uuid} 79\\n{uuid} 16384\\n{uuid} 32768\\n")
        told([first, *itertools.islice(filter(None, heard), 4), uuid])
    """)
    uuid = seen.pop()
    assert seen.pop(0) is None
    assert [event[0] for event in seen] == [uuid] * 4
    assert [event[2:] for event in seen] == [
        ["xid", 79], ["xid", 79], ["unavailable", 0x4000], ["recovery", 0x8000],
    ]  # fmt: skip
    assert all(event[1] for event in seen)


def test_events_end_with_a_sentence_when_the_driver_goes_away(run: Run) -> None:
    said = run("""
        heard = events(lambda *_, **__: None)
        next(heard)
        (node / "driver").write_text("mismatch=1\\n")
        try:
            list(heard)
        except SourceFailed as error:
            told(str(error))
    """)
    assert "different versions" in said


def test_a_gpu_that_cannot_be_registered_costs_only_its_own_events(run: Run) -> None:
    seen = run("""
        (node / "driver").write_text("error=nvmlDeviceRegisterEvents:3\\n")
        said = []
        heard = events(lambda event, **fields: said.append([event, fields["slot"]]))
        told([next(heard), said])
    """)
    assert seen == [None, [["gpu_without_events", slot] for slot in range(GPUS)]]
