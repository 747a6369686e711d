"""The inventory of all GPUs ever seen on this node, stored on disk, so a lost GPU keeps its index
and UUID.

The inventory merges the driver's GPUs, the GPUs on the PCI bus, and the previous inventory. A GPU
keeps its index even if the driver renumbers GPUs after a loss. A GPU at the bus address of a
missing GPU replaces that GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from exporter.sources.base import BusGpu, Device
from fleetmedic.kernel.files import write_atomic

MAX_GPUS = 1024
_NOWHERE = (-1, -1, -1)


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One GPU of the inventory. `index` is the value of its label `gpu`."""

    index: int
    device: Device


class _InventoryFile(msgspec.Struct, frozen=True):
    gpus: tuple[InventoryEntry, ...]


def bus_key(text: str) -> tuple[int, int, int] | None:
    """Return (domain, bus, device) of a PCI bus address in any notation; None if the address is
    invalid.

    The driver writes 00000000:10:00.0, the kernel 0000:10:00, XID lines PCI:0000:10:00.
    """
    if not text.isascii():
        return None
    parts = text.lower().removeprefix("pci:").partition(".")[0].split(":")
    try:
        numbers = [int(part, 16) for part in parts]
    except ValueError:
        return None
    if len(numbers) == 2:
        numbers.insert(0, 0)
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None


def merge(
    known: dict[str, InventoryEntry], found: tuple[Device, ...], bus: tuple[BusGpu, ...] = ()
) -> dict[str, InventoryEntry]:
    """Return the inventory after these GPUs were added or updated. New GPUs get an index.

    If the bus lists the new GPU, the index is the GPU's position on the bus, because the driver does not
    count GPUs that it has lost. Otherwise the index is the driver's number of the GPU.
    """
    merged = dict(known)
    places = {key: place for place, key in enumerate(addresses(bus))}
    uuids = {device.uuid for device in found}
    for device in found[:MAX_GPUS]:
        if device.uuid in merged:
            merged[device.uuid] = InventoryEntry(merged[device.uuid].index, device)
            continue
        here = bus_key(device.pci_bus_id)
        replaced = [
            entry
            for uuid, entry in merged.items()
            if bus_key(entry.device.pci_bus_id) == here and uuid not in uuids
        ]
        taken = {entry.index for entry in merged.values()}
        if replaced:
            del merged[replaced[0].device.uuid]
            index = replaced[0].index
        else:
            wanted = places.get(here, device.slot) if here is not None else device.slot
            index = wanted if wanted not in taken else max(taken) + 1
        merged[device.uuid] = InventoryEntry(index, device)
    return merged


def addresses(bus: tuple[BusGpu, ...]) -> list[tuple[int, int, int]]:
    """Return the PCI bus addresses of GPUs, sorted. The driver numbers GPUs in this order."""
    return sorted(key for gpu in bus if (key := bus_key(gpu.pci_bus_id)) is not None)


def new_bus_devices(
    bus: tuple[BusGpu, ...], known: dict[str, InventoryEntry]
) -> tuple[Device, ...]:
    """Return the GPUs with a UUID on the bus that are not yet in the inventory."""
    places = {key: place for place, key in enumerate(addresses(bus))}
    return tuple(
        Device(places.get(bus_key(gpu.pci_bus_id) or _NOWHERE, -1), gpu.uuid, gpu.pci_bus_id)
        for gpu in bus
        if gpu.uuid and "?" not in gpu.uuid and gpu.uuid not in known
    )


def read(path: Path) -> dict[str, InventoryEntry]:
    """Return the stored inventory, or an empty one if the file is missing or damaged."""
    try:
        gpus = msgspec.json.decode(path.read_bytes(), type=_InventoryFile).gpus
    except (OSError, msgspec.DecodeError):
        return {}
    return {entry.device.uuid: entry for entry in gpus}


def write(path: Path, known: dict[str, InventoryEntry]) -> None:
    """Write the inventory to the disk. Raises OSError."""
    gpus = tuple(sorted(known.values(), key=lambda entry: entry.index))
    write_atomic(path, msgspec.json.encode(_InventoryFile(gpus)))
