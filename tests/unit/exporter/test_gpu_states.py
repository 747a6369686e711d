"""GpuStates reports known values only."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter import gpu_inventory
from exporter.gpu_states import INTERVALS, GpuStates, GpuStatus, WorkerPoolState
from exporter.reading.protocol import (
    Devices,
    GroupReadings,
    Hello,
    Lost,
    Message,
    Present,
    Round,
    Slots,
)
from exporter.sources.base import BusGpu, Device, GpuEvent, Reading

A = Device(0, "GPU-a", "0000:10:00.0")
B = Device(1, "GPU-b", "0000:20:00.0")
BUS = (BusGpu(A.pci_bus_id), BusGpu(B.pci_bus_id))
BOTH = Devices((A, B), (), BUS)
BUSY = (Reading("gpu_utilization_ratio", (), 0.5),)


@pytest.fixture
def gpu_states(tmp_path: Path) -> GpuStates:
    return GpuStates(
        tmp_path / "inventory.json", expected=None, intervals={"load": 2.0, "health": 5.0}
    )


def tell(gpu_states: GpuStates, now: float, *messages: Message) -> None:
    for message in messages:
        gpu_states.apply(message, now)


def statuses(gpu_states: GpuStates, now: float) -> list[GpuStatus]:
    return [gpu.status for gpu in gpu_states.snapshot(now).gpus]


def test_before_anything_was_read_there_is_no_verdict(gpu_states: GpuStates) -> None:
    assert gpu_states.snapshot(0.0).failure
    tell(gpu_states, 0.0, BOTH)
    assert statuses(gpu_states, 0.0) == [GpuStatus.UNKNOWN, GpuStatus.UNKNOWN]


def test_a_lost_gpu_has_no_values_and_stays_lost_while_rounds_go_on(gpu_states: GpuStates) -> None:
    tell(
        gpu_states,
        10.0,
        BOTH,
        GroupReadings(0, "load", 10.0, BUSY),
        GroupReadings(0, "health", 10.0, ()),
        Present(1),
        Round(10.0),
    )
    tell(gpu_states, 11.0, Lost(0), Present(1), Round(11.0))
    lost = gpu_states.snapshot(11.0).gpus[0]
    assert (lost.status, lost.groups) == (GpuStatus.LOST, {})
    for now in range(12, 40):
        tell(gpu_states, float(now), Present(1), Round(float(now)))
    assert statuses(gpu_states, 40.0) == [GpuStatus.LOST, GpuStatus.UP]


def test_a_lost_gpu_comes_back_without_its_old_values(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, GroupReadings(0, "load", 10.0, BUSY), Round(10.0))
    tell(gpu_states, 11.0, Lost(0), Round(11.0))
    tell(gpu_states, 12.0, Present(0), Round(12.0))
    back = gpu_states.snapshot(12.0).gpus[0]
    assert (back.status, back.groups) == (GpuStatus.UP, {})


def test_values_are_withheld_after_three_intervals(gpu_states: GpuStates) -> None:
    tell(
        gpu_states,
        10.0,
        BOTH,
        GroupReadings(0, "load", 10.0, BUSY),
        GroupReadings(0, "health", 10.0, ()),
    )
    tell(gpu_states, 16.0, Present(0))
    assert gpu_states.snapshot(16.0).gpus[0].value("load", "gpu_utilization_ratio") == 0.5
    tell(gpu_states, 17.0, Present(0))
    assert gpu_states.snapshot(17.0).gpus[0].value("load", "gpu_utilization_ratio") is None
    assert "health" in gpu_states.snapshot(17.0).gpus[0].groups


def test_verdicts_are_withheld_when_nobody_gives_them_any_more(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, Present(0), Lost(1), Round(10.0))
    assert statuses(gpu_states, 16.0) == [GpuStatus.UNKNOWN, GpuStatus.UNKNOWN]


def test_a_hung_gpu_is_hung_until_it_answers(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, Present(0), Present(1), Round(10.0))
    gpu_states.mark_hung(1, 11.0)
    tell(gpu_states, 500.0, Devices((A,), (1,), BUS), Present(0), Round(500.0))
    assert statuses(gpu_states, 500.0) == [GpuStatus.UP, GpuStatus.HUNG]
    tell(gpu_states, 501.0, Present(1))
    assert statuses(gpu_states, 501.0) == [GpuStatus.UP, GpuStatus.UP]


def test_after_a_restart_a_gpu_that_is_gone_keeps_its_uuid(
    gpu_states: GpuStates, tmp_path: Path
) -> None:
    tell(gpu_states, 10.0, BOTH)
    again = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    tell(again, 20.0, Devices((A,), (), BUS[:1]), Present(0), Round(20.0))
    view = again.snapshot(20.0)
    assert [(g.index, g.uuid, g.status) for g in view.gpus] == [
        (0, "GPU-a", GpuStatus.UP), (1, "GPU-b", GpuStatus.LOST),
    ]  # fmt: skip
    assert view.expected == 2


def test_after_a_loss_a_number_given_to_another_gpu_is_that_ones(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, Present(0), Present(1), Round(10.0))
    moved = Device(0, "GPU-b", "0000:20:00.0")
    tell(gpu_states, 20.0, Devices((moved,), (), BUS[:1]), Present(0), Round(20.0))
    assert statuses(gpu_states, 20.0) == [GpuStatus.LOST, GpuStatus.UP]


def test_a_given_expectation_holds(tmp_path: Path) -> None:
    gpu_states = GpuStates(tmp_path / "inventory.json", expected=8, intervals=INTERVALS)
    tell(gpu_states, 10.0, BOTH)
    assert gpu_states.snapshot(10.0).expected == 8


def test_an_inventory_that_cannot_be_written_is_said_and_costs_nothing(tmp_path: Path) -> None:
    gpu_states = GpuStates(tmp_path / "none" / "inventory.json", expected=None, intervals=INTERVALS)
    tell(gpu_states, 10.0, BOTH, Present(0))
    assert gpu_states.write_error
    assert statuses(gpu_states, 10.0)[0] is GpuStatus.UP


def state(**given: object) -> WorkerPoolState:
    return WorkerPoolState(**{"failure": "", **given})  # type: ignore[arg-type]


def test_a_hang_of_a_gpu_that_was_never_identified_is_known_by_the_bus(
    gpu_states: GpuStates,
) -> None:
    bus = (BusGpu("0000:10:00.0", "GPU-a"), BusGpu("0000:20:00.0", "GPU-b"))
    tell(gpu_states, 10.0, Slots((0, 1), bus))
    gpu_states.mark_hung(1, 12.0)
    assert [(g.index, g.uuid, g.status) for g in gpu_states.snapshot(12.0).gpus] == [
        (0, "GPU-a", GpuStatus.UNKNOWN), (1, "GPU-b", GpuStatus.HUNG),
    ]  # fmt: skip
    tell(gpu_states, 13.0, Devices((A,), (1,), bus), Present(0), Round(13.0))
    assert statuses(gpu_states, 13.0) == [GpuStatus.UP, GpuStatus.HUNG]


def test_a_hang_of_a_gpu_that_was_never_identified_is_known_by_the_inventory(
    gpu_states: GpuStates, tmp_path: Path
) -> None:
    tell(gpu_states, 10.0, BOTH)
    again = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    again.mark_hung(1, 20.0)
    assert statuses(again, 20.0) == [GpuStatus.UNKNOWN, GpuStatus.HUNG]


def test_a_gpu_that_the_bus_shows_and_the_driver_does_not_give_is_lost(
    gpu_states: GpuStates,
) -> None:
    bus = (BusGpu("0000:10:00.0"), BusGpu("0000:20:00.0", "GPU-b"))
    tell(gpu_states, 10.0, Slots((0,), bus), Devices((A,), (), bus), Present(0), Round(10.0))
    assert [(g.index, g.uuid, g.status) for g in gpu_states.snapshot(10.0).gpus] == [
        (0, "GPU-a", GpuStatus.UP), (1, "GPU-b", GpuStatus.LOST),
    ]  # fmt: skip


def test_started_with_a_gpu_lost_the_others_have_the_index_of_their_place(
    gpu_states: GpuStates,
) -> None:
    bus = (BusGpu("0000:10:00.0"), BusGpu("0000:20:00.0"), BusGpu("0000:30:00.0"))
    moved = Device(1, "GPU-c", "0000:30:00.0")
    tell(gpu_states, 10.0, Slots((0, 1), bus), Devices((A, moved), (), bus))
    assert [(g.index, g.uuid) for g in gpu_states.snapshot(10.0).gpus] == [
        (0, "GPU-a"),
        (2, "GPU-c"),
    ]
    assert gpu_states.snapshot(10.0).expected == 3


def test_each_worker_has_numbers_of_its_own(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH)
    other = Device(0, "GPU-b", B.pci_bus_id)
    gpu_states.apply(Hello("x"), 11.0, 2)
    gpu_states.apply(Devices((other,), (), BUS), 11.0, 2)
    gpu_states.apply(Present(0), 11.0, 1)
    gpu_states.apply(Present(0), 11.0, 2)
    assert gpu_states.snapshot(11.0).gpus[1].status is GpuStatus.UP


def test_calls_that_come_back_are_life_but_do_not_bring_back_a_lost_gpu(
    gpu_states: GpuStates,
) -> None:
    tell(gpu_states, 10.0, BOTH, Present(0), Lost(1), Round(10.0))
    gpu_states.mark_hung(0, 11.0)
    for second in range(12, 30):
        gpu_states.mark_responding(0, float(second))
        gpu_states.mark_responding(1, float(second))
        tell(gpu_states, float(second), Round(float(second)))
    assert statuses(gpu_states, 30.0) == [GpuStatus.UP, GpuStatus.LOST]


def test_a_hang_that_was_none_does_not_make_a_hole_in_the_values(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, GroupReadings(0, "load", 10.0, BUSY), Round(10.0))
    gpu_states.mark_hung(0, 11.0)
    assert gpu_states.snapshot(11.0).gpus[0].groups == {}
    gpu_states.mark_responding(0, 12.0)
    assert "load" in gpu_states.snapshot(12.0).gpus[0].groups


def test_limits_stay_until_a_read_of_them_fails(tmp_path: Path) -> None:
    gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals=INTERVALS)
    tell(gpu_states, 10.0, BOTH, GroupReadings(0, "limits", 10.0, BUSY))
    tell(gpu_states, 9_999.0, Present(0))
    assert "limits" in gpu_states.snapshot(9_999.0).gpus[0].groups
    tell(gpu_states, 10_000.0, GroupReadings(0, "limits", 10_000.0, (), {"999": 1}))
    view = gpu_states.snapshot(10_000.0)
    assert view.gpus[0].readings("limits") == ()
    assert view.errors == {("limits", "999"): 1}


def test_values_of_a_slow_gpu_are_shown_for_three_of_its_own_intervals_up_to_a_minute(
    gpu_states: GpuStates,
) -> None:
    tell(gpu_states, 10.0, BOTH, GroupReadings(0, "load", 10.0, BUSY, {}, 1.0, 8.0, 16.0))
    tell(gpu_states, 57.0, Present(0))
    assert "load" in gpu_states.snapshot(57.0).gpus[0].groups
    tell(gpu_states, 70.5, Present(0))
    assert gpu_states.snapshot(70.5).gpus[0].groups == {}


def test_what_the_supervisor_says_is_shown_by_gpu(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, Present(0), Present(1), Round(10.0))
    gpu_states.set_worker_pool_state(
        state(slow=frozenset((1,)), left_out=((0, "links"),), stuck=True, abandoned=2)
    )
    view = gpu_states.snapshot(10.0)
    assert [(gpu.slow, gpu.left_out) for gpu in view.gpus] == [(False, ("links",)), (True, ())]
    assert (view.stuck, view.abandoned) == (True, 2)


def test_a_group_that_nobody_reads_any_more_is_withheld_at_once(gpu_states: GpuStates) -> None:
    tell(
        gpu_states,
        10.0,
        BOTH,
        GroupReadings(0, "load", 10.0, BUSY),
        GroupReadings(0, "health", 10.0, ()),
    )
    gpu_states.remove_group(0, "load")
    assert list(gpu_states.snapshot(10.0).gpus[0].groups) == ["health"]


def test_while_released_nothing_is_said_of_any_gpu_and_that_is_no_failure(
    gpu_states: GpuStates,
) -> None:
    tell(gpu_states, 10.0, BOTH, GroupReadings(0, "load", 10.0, BUSY), Lost(1), Round(10.0))
    gpu_states.set_worker_pool_state(state(released=True))
    view = gpu_states.snapshot(10.1)
    assert [gpu.status for gpu in view.gpus] == [GpuStatus.UNKNOWN, GpuStatus.UNKNOWN]
    assert [gpu.uuid for gpu in view.gpus] == ["GPU-a", "GPU-b"]
    assert (view.released, view.failure) == (True, "")
    gpu_states.set_worker_pool_state(state())
    tell(gpu_states, 11.0, Present(0))
    assert statuses(gpu_states, 11.0) == [GpuStatus.UP, GpuStatus.UNKNOWN]
    assert gpu_states.snapshot(11.0).gpus[0].groups == {}


def test_when_the_clock_is_set_back_old_verdicts_do_not_live_on(gpu_states: GpuStates) -> None:
    tell(
        gpu_states, 10_000.0, BOTH, Present(0), Present(1), GroupReadings(0, "load", 10_000.0, BUSY)
    )
    assert statuses(gpu_states, 5_000.0) == [GpuStatus.UNKNOWN, GpuStatus.UNKNOWN]
    tell(gpu_states, 5_001.0, Present(0))
    assert statuses(gpu_states, 5_001.0) == [GpuStatus.UP, GpuStatus.UNKNOWN]
    assert gpu_states.snapshot(5_001.0).gpus[0].groups == {}


def test_events_are_given_once_with_the_time_of_their_arrival(gpu_states: GpuStates) -> None:
    event = GpuEvent("GPU-a", A.pci_bus_id, "xid", 79)
    gpu_states.add_event(event, 10.0)
    assert gpu_states.take_events() == [(10.0, event)]
    assert gpu_states.take_events() == []


def test_a_view_is_made_once_for_all_who_ask_at_the_same_moment(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, BOTH, Present(0))
    assert gpu_states.snapshot(10.0) is gpu_states.snapshot(10.0)
    first = gpu_states.snapshot(10.0)
    tell(gpu_states, 10.0, Present(1))
    assert gpu_states.snapshot(10.0) is not first


def test_the_inventory_is_written_though_it_could_not_be_at_first(
    tmp_path: Path,
) -> None:
    gpu_states = GpuStates(tmp_path / "later" / "inventory.json", expected=None, intervals={})
    tell(gpu_states, 0.0, BOTH)
    assert "No such file" in gpu_states.write_error
    (tmp_path / "later").mkdir()
    tell(gpu_states, 1.0, Round(1.0))
    assert gpu_states.write_error == ""
    again = GpuStates(tmp_path / "later" / "inventory.json", expected=None, intervals={})
    assert [gpu.uuid for gpu in again.snapshot(2.0).gpus] == ["GPU-a", "GPU-b"]


def test_what_is_known_is_shown_while_the_inventory_waits_for_a_disk(
    gpu_states: GpuStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, free = threading.Event(), threading.Event()

    def write(*_: object) -> None:
        waits.set()
        free.wait(10)

    monkeypatch.setattr(gpu_inventory, "write", write)
    with ThreadPoolExecutor(2) as pool:
        told = pool.submit(tell, gpu_states, 0.0, BOTH)
        assert waits.wait(5)
        try:
            assert len(pool.submit(gpu_states.snapshot, 0.0).result(2).gpus) == 2
            assert not told.done()
        finally:
            free.set()
        told.result(5)


def test_a_worker_that_starts_again_numbers_its_gpus_again(gpu_states: GpuStates) -> None:
    """The second GPU has the first number now, and no GPU has the second number."""
    tell(gpu_states, 10.0, BOTH, Present(0), Present(1), Round(10.0))
    again = Device(0, "GPU-b", B.pci_bus_id)
    tell(gpu_states, 11.0, Hello("x"), Devices((again,), (1,), BUS), Present(0), Round(11.0))
    assert statuses(gpu_states, 11.0)[1] is GpuStatus.UP
    gpu_states.mark_hung(1, 12.0)
    assert statuses(gpu_states, 12.0)[1] is GpuStatus.UP, "GPU-b no longer has the number 1"


def test_numbers_that_changed_mean_the_gpus_on_the_bus(gpu_states: GpuStates) -> None:
    """After the loss of a GPU, the first number means the other GPU even before a worker reports this."""
    tell(gpu_states, 10.0, Slots((0, 1), BUS), BOTH, Present(0), Present(1), Round(10.0))
    tell(gpu_states, 11.0, Slots((0,), BUS[1:]))
    gpu_states.mark_hung(0, 12.0)
    assert statuses(gpu_states, 12.0) == [GpuStatus.UP, GpuStatus.HUNG]


def test_numbers_that_are_told_again_leave_each_worker_its_own(gpu_states: GpuStates) -> None:
    tell(gpu_states, 10.0, Slots((0, 1), BUS), BOTH, Present(0), Present(1), Round(10.0))
    gpu_states.apply(Hello("x"), 11.0, 2)
    gpu_states.apply(Devices((Device(0, "GPU-b", B.pci_bus_id),), (1,), BUS), 11.0, 2)
    tell(gpu_states, 12.0, Slots((0, 1), BUS))
    gpu_states.mark_hung(0, 13.0, 2)
    assert statuses(gpu_states, 13.0)[1] is GpuStatus.HUNG
