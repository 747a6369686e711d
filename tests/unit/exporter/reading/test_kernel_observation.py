"""Signals of the kernel that need no driver call."""

from pathlib import Path

from exporter.reading.kernel_observation import KernelObservation, observe_kernel


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert observe_kernel(tmp_path, tmp_path) == KernelObservation("", (), ())


def test_version_gpus_and_bus_are_seen(tmp_path: Path) -> None:
    (tmp_path / "driver/nvidia/gpus/0000:10:00.0").mkdir(parents=True)
    (tmp_path / "driver/nvidia/version").write_bytes(b"NVRM version: 570\xff\n")
    (tmp_path / "bus/pci/devices/0000:20:00.0").mkdir(parents=True)
    (tmp_path / "bus/pci/devices/0000:10:00.0").mkdir()
    seen = observe_kernel(tmp_path, tmp_path)
    assert seen.driver.startswith("NVRM version: 570")
    assert seen.gpus == ("0000:10:00.0",)
    assert seen.bus == ("0000:10:00.0", "0000:20:00.0")
