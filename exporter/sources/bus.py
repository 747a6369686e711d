"""Lists GPUs on the PCI bus and in the driver's files in /proc, without NVML."""

from __future__ import annotations

from pathlib import Path

from exporter.sources.base import BusGpu


def bus_gpus(procfs: Path, sysfs: Path) -> tuple[BusGpu, ...]:
    """Return the GPUs on the PCI bus and in the driver's files in /proc, even if NVML does not list
    them."""
    uuids: dict[str, str] = {}
    for page in sorted((procfs / "driver/nvidia/gpus").glob("*/information")):
        uuids[page.parent.name.lower()] = _page_uuid(page)
    for device in sorted((sysfs / "bus/pci/devices").glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if vendor == "0x10de" and kind[:6] in ("0x0302", "0x0300"):
            uuids.setdefault(device.name.lower(), "")
    return tuple(BusGpu(address, uuid) for address, uuid in sorted(uuids.items()))


def _page_uuid(page: Path) -> str:
    try:
        text = page.read_text(errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "GPU UUID" and "?" not in value:
            return value.strip()
    return ""
