"""What the cluster's nodes are, on simulated and on real hardware."""

from __future__ import annotations

from pathlib import Path

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.localcluster.inventory import Inventory

UUID = "GPU-0a1b2c3d-0000-1111-2222-333344445555"


def test_the_hardware_folder_is_the_cluster_and_lost_or_hung_gpus_fail_the_probe(
    tmp_path: Path,
) -> None:
    hardware = Hardware(tmp_path)
    hardware.create(nodes=2, gpus=4)
    inventory = Inventory(tmp_path)
    assert [(node.name, len(node.gpus)) for node in inventory.nodes()] == [
        ("node1", 4),
        ("node2", 4),
    ]
    inject(hardware, "node1", 1, "lost")
    inject(hardware, "node1", 2, "hang")
    inject(hardware, "node1", 3, "slow")
    assert inventory.unresponsive_gpus("node1", (0, 1, 2, 3)) == (1, 2)
    assert inventory.unresponsive_gpus("node1", (9,)) == (9,)


def test_a_damaged_node_is_left_out_and_its_boot_unknown(tmp_path: Path) -> None:
    Hardware(tmp_path).create(nodes=2, gpus=1)
    (tmp_path / "node1" / "boot").write_text("boots=many\n")
    inventory = Inventory(tmp_path)
    assert [node.name for node in inventory.nodes()] == ["node2"]
    assert inventory.boot_id("node1") is None


def test_a_reboot_changes_the_boot_id(tmp_path: Path) -> None:
    hardware = Hardware(tmp_path)
    hardware.create(nodes=1, gpus=1)
    inventory = Inventory(tmp_path)
    before = inventory.boot_id("node1")
    hardware.reboot("node1", "op")
    assert inventory.boot_id("node1") != before


def test_without_a_hardware_folder_the_host_is_the_one_node(tmp_path: Path) -> None:
    for number, lines in (
        ("0000:3b:00.0", f"Model: X\nGPU UUID: \t {UUID}\n"),
        ("0000:5e:00.0", ""),
    ):
        folder = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / number
        folder.mkdir(parents=True)
        (folder / "information").write_text(lines)
    inventory = Inventory(tmp_path / "hardware", tmp_path / "proc", tmp_path / "sys")
    (host,) = inventory.nodes()
    assert host.gpus == ((0, UUID), (1, "PCI-0000:5e:00.0"))
    assert inventory.unresponsive_gpus(host.name, (0, 1)) == ()


def test_sysfs_tells_the_gpus_where_procfs_does_not_and_none_is_none(tmp_path: Path) -> None:
    (tmp_path / "sys" / "bus" / "pci" / "drivers" / "nvidia" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "sys" / "bus" / "pci" / "drivers" / "nvidia" / "bind").touch()
    found = Inventory(None, tmp_path / "proc", tmp_path / "sys").nodes()
    assert found[0].gpus == ((0, "PCI-0000:01:00.0"),)
    assert Inventory(None, tmp_path / "proc", tmp_path / "none").nodes()[0].gpus == ()
