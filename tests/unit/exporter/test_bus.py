"""GPUs on the bus and in the driver's files, read from folders."""

from pathlib import Path

import pytest

from exporter.sources.base import BusGpu
from exporter.sources.bus import bus_gpus

PAGE = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 131
GPU UUID: \t GPU-5a0d
Video BIOS: \t 96.00.99.00.01
Bus Location: \t 0000:1b:00.0
"""


def device(sysfs: Path, address: str, vendor: str, kind: str) -> None:
    folder = sysfs / "bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "class").write_text(kind + "\n")


def page(procfs: Path, address: str, text: str | bytes) -> None:
    folder = procfs / "driver/nvidia/gpus" / address
    folder.mkdir(parents=True)
    (folder / "information").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_gpus_are_told_from_other_devices(tmp_path: Path) -> None:
    device(tmp_path, "0000:1b:00.0", "0x10de", "0x030200")
    device(tmp_path, "0000:3d:00.0", "0x10de", "0x030000")
    device(tmp_path, "0000:3d:00.1", "0x10de", "0x040300")  # its audio device
    device(tmp_path, "0000:05:00.0", "0x10de", "0x068000")  # an NVSwitch
    device(tmp_path, "0000:02:00.0", "0x1a03", "0x030000")  # the mainboard's VGA device
    assert bus_gpus(tmp_path / "proc", tmp_path) == (
        BusGpu("0000:1b:00.0"), BusGpu("0000:3d:00.0"),
    )  # fmt: skip


def test_the_drivers_page_gives_the_uuid_and_counts_alone(tmp_path: Path) -> None:
    device(tmp_path, "0000:1b:00.0", "0x10de", "0x030200")
    page(tmp_path, "0000:1B:00.0", PAGE)
    page(tmp_path, "0000:5c:00.0", PAGE.replace("GPU-5a0d", "GPU-77"))
    assert bus_gpus(tmp_path, tmp_path) == (
        BusGpu("0000:1b:00.0", "GPU-5a0d"),
        BusGpu("0000:5c:00.0", "GPU-77"),
    )


@pytest.mark.parametrize(
    "text", ["", "GPU UUID: \t GPU-????????-????\n", b"\xff\xfe\x00", "Model: x\n"]
)
def test_a_page_that_does_not_know_leaves_the_uuid_open(tmp_path: Path, text: str | bytes) -> None:
    page(tmp_path, "0000:1b:00.0", text)
    assert bus_gpus(tmp_path, tmp_path) == (BusGpu("0000:1b:00.0"),)


def test_where_nothing_is_to_be_seen_there_is_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bus/pci/devices/0000:1b:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_bytes(b"\xff")
    assert bus_gpus(tmp_path / "proc", tmp_path) == ()
