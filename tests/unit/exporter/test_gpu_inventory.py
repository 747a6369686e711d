"""GPUs keep their index and uuid, regardless of the driver's numbers."""

from pathlib import Path

import pytest

from exporter.gpu_inventory import InventoryEntry, bus_key, merge, new_bus_devices, read, write
from exporter.sources.base import BusGpu, Device


def device(slot: int, name: str, bus: int | None = None) -> Device:
    return Device(slot, f"GPU-{name}", f"0000:{0x10 + (slot if bus is None else bus):02x}:00.0")


def indices(known: dict[str, InventoryEntry]) -> dict[str, int]:
    return {uuid.removeprefix("GPU-"): entry.index for uuid, entry in known.items()}


@pytest.mark.parametrize(
    "text", ["0000:10:00.0", "00000000:10:00.0", "PCI:0000:10:00", "0000:10:00", "10:00.0"]
)
def test_every_spelling_of_a_bus_address_is_the_same(text: str) -> None:
    assert bus_key(text) == (0, 0x10, 0)


@pytest.mark.parametrize("text", ["", "zz", "1:2:3:4", "PCI:", "0000:\u0661\u0660:00.0"])
def test_what_is_no_bus_address_is_none(text: str) -> None:
    assert bus_key(text) is None


def test_when_the_driver_counts_anew_after_a_loss_the_others_keep_their_index() -> None:
    known = merge({}, (device(0, "a"), device(1, "b"), device(2, "c")))
    after = merge(known, (device(0, "a"), device(1, "c", bus=2)))
    assert indices(after) == {"a": 0, "b": 1, "c": 2}


def test_a_gpu_on_the_address_of_a_missing_one_has_replaced_it() -> None:
    known = merge({}, (device(0, "a"), device(1, "b")))
    assert indices(merge(known, (device(0, "a"), device(1, "new")))) == {"a": 0, "new": 1}


def test_a_new_gpu_never_takes_an_index_that_is_known() -> None:
    known = merge({}, (device(0, "a"), device(1, "b")))
    assert indices(merge(known, (device(1, "c", bus=9),))) == {"a": 0, "b": 1, "c": 2}


def test_the_inventory_is_what_it_was_after_a_restart(tmp_path: Path) -> None:
    known = merge({}, (device(0, "a"), device(1, "b")))
    write(tmp_path / "inventory.json", known)
    assert read(tmp_path / "inventory.json") == known


@pytest.mark.parametrize("text", ["", "{", '{"gpus": 3}', '{"gpus": [{"index": "x"}]}'])
def test_a_damaged_inventory_is_learned_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "inventory.json").write_text(text)
    assert read(tmp_path / "inventory.json") == {}


def test_a_new_gpu_has_the_index_of_its_place_on_the_bus() -> None:
    bus = tuple(BusGpu(f"0000:{0x10 + place:02x}:00.0") for place in range(4))
    found = (device(0, "a"), device(1, "c", bus=2), device(2, "d", bus=3))
    assert indices(merge({}, found, bus)) == {"a": 0, "c": 2, "d": 3}


def test_what_the_bus_shows_with_a_uuid_is_known_and_what_has_none_is_not() -> None:
    bus = (BusGpu("0000:11:00.0", "GPU-b"), BusGpu("0000:10:00.0"), BusGpu("bad", "GPU-????"))
    known = merge({}, (device(0, "a"),), bus)
    assert new_bus_devices(bus, known) == (Device(1, "GPU-b", "0000:11:00.0"),)
    assert new_bus_devices(bus, merge(known, new_bus_devices(bus, known), bus)) == ()
