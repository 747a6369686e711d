"""Verdicts as series."""

from pathlib import Path

import pytest

from exporter.catalogue import catalogue
from exporter.collector import CollectorError
from exporter.collectors.gpu_presence import GpuPresence
from exporter.gpu_states import INTERVALS, GpuStates, WorkerPoolState
from exporter.reading.protocol import Devices, Lost, Present, Round
from exporter.sources.base import Device

GPUS = tuple(Device(slot, f"GPU-{slot}", f"0000:{0x10 + slot:02x}:00.0") for slot in range(4))


@pytest.fixture
def gpu_states(tmp_path: Path) -> GpuStates:
    made = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    for message in (Devices(GPUS, ()), Present(0), Present(1), Lost(2), Round(10.0)):
        made.apply(message, 10.0)
    made.mark_hung(3, 10.0)
    return made


def page(gpu_states: GpuStates) -> dict[str, float]:
    given = {}
    for name, values, value in GpuPresence(gpu_states).collect(10.0):
        labels = zip(catalogue().get(name).labels, values, strict=True)
        shown = ",".join(f'{label}="{text}"' for label, text in labels)
        given[f"{name}{{{shown}}}" if shown else name] = value
    return given


def series(name: str, slot: int, **more: str) -> str:
    labels = {"gpu": str(slot), "uuid": f"GPU-{slot}", **more}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


@pytest.mark.parametrize(
    ("slot", "up", "present", "lost", "responding", "slow"),
    [(0, 1, 1, 0, 1, 0), (1, 1, 1, 0, 1, 1), (2, 0, 0, 1, None, None), (3, 0, 1, 0, 0, None)],
)
def test_each_verdict_has_its_series(
    gpu_states: GpuStates, slot: int, up: int, present: int, lost: int, responding: int | None,
    slow: int | None,
) -> None:  # fmt: skip
    gpu_states.set_worker_pool_state(WorkerPoolState("", slow=frozenset((1,))))
    given = page(gpu_states)
    names = ("gpu_up", "gpu_present", "gpu_lost", "gpu_responding", "gpu_slow")
    assert [given.get(series(name, slot)) for name in names] == [
        up,
        present,
        lost,
        responding,
        slow,
    ]


def test_what_is_left_out_has_a_series_of_its_own(gpu_states: GpuStates) -> None:
    gpu_states.set_worker_pool_state(
        WorkerPoolState("", left_out=((0, "links"), (3, "presence")), stuck=True, abandoned=1)
    )
    given = page(gpu_states)
    assert given[series("gpu_exporter_left_out", 0, collector="gpu_links")] == 1
    assert given[series("gpu_exporter_left_out", 3, collector="gpu_presence")] == 1
    assert given["gpu_worker_stuck"] == given["gpu_exporter_abandoned_workers"] == 1


def test_released_gpus_have_no_verdict_and_the_collector_succeeds(gpu_states: GpuStates) -> None:
    gpu_states.set_worker_pool_state(WorkerPoolState("", released=True))
    given = page(gpu_states)
    assert given["gpu_exporter_released"] == 1
    assert not [name for name in given if name.startswith(("gpu_up", "gpu_lost"))]
    assert len([name for name in given if name.startswith("gpu_info")]) == 4


def test_the_event_process_is_said_where_there_is_one(gpu_states: GpuStates) -> None:
    assert "gpu_exporter_event_process_up" not in page(gpu_states)
    gpu_states.set_worker_pool_state(WorkerPoolState("", events_up=False, event_restarts=2))
    given = page(gpu_states)
    assert given["gpu_exporter_event_process_up"] == 0
    assert given["gpu_exporter_event_process_restarts_total"] == 2


def test_when_nobody_knows_anything_the_collector_fails(tmp_path: Path) -> None:
    empty = GpuStates(tmp_path / "none.json", expected=None, intervals=INTERVALS)
    with pytest.raises(CollectorError, match="no data has been read"):
        list(GpuPresence(empty).collect(0.0))


def test_the_token_changes_with_what_is_shown_and_not_with_each_round(
    gpu_states: GpuStates,
) -> None:
    collector = GpuPresence(gpu_states)
    first = collector.token(10.0)
    gpu_states.apply(Present(0), 10.5)
    gpu_states.apply(Round(10.5), 10.5)
    assert collector.token(10.5) == first
    gpu_states.apply(Lost(0), 11.0)
    assert collector.token(11.0) != first
