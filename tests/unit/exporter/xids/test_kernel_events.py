"""Host events in the kernel log."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.xids.kernel_events import EVENTS, RULES, kernel_event

LINES = [
    ("oom_kill", "Out of memory: Killed process 1234 (python) total-vm:123kB, anon-rss:1kB"),
    ("oom_kill", "Memory cgroup out of memory: Killed process 4321 (python) total-vm:1kB"),
    ("oom_kill", "Out of memory: Kill process 99 (java) score 900 or sacrifice child"),
    ("soft_lockup", "watchdog: BUG: soft lockup - CPU#12 stuck for 22s! [python:1234]"),
    ("hard_lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 3"),
    ("hard_lockup", "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3"),
    ("hung_task", "INFO: task DataXceiver for:7494 blocked for more than 120 seconds."),
    ("hung_task", "INFO: task kworker/u16:9:7088 blocked for more than 241 seconds."),
    ("rcu_stall", "rcu: INFO: rcu_sched self-detected stall on CPU"),
    ("rcu_stall", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
    ("oops", "BUG: unable to handle page fault for address: ffffffffc0a1b000"),
    ("oops", "kernel BUG at mm/slub.c:305!"),
    ("mce", "mce: [Hardware Error]: Machine check events logged"),
    ("mce", "mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 4: be00000000800400"),
    ("firmware_hardware_error", "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1"),
    ("cpu_throttled", "CPU12: Core temperature is above threshold, cpu clock throttled (total events = 7)"),
    ("cpu_throttled", "CPU0: Package temperature above threshold, cpu clock throttled (total events = 1)"),
    ("aer_correctable", "pcieport 0000:40:01.1: AER: Corrected error received: 0000:41:00.0"),
    ("aer_correctable", "pcieport 0000:40:01.1: AER: Multiple Correctable error message received from 0000:41:00.0"),
    ("aer_uncorrectable", "pcieport 0000:40:01.1: AER: Uncorrected (Fatal) error received: 0000:41:00.0"),
    ("aer_uncorrectable", "pcieport 0000:40:01.1: AER: Uncorrectable (Non-Fatal) error message received from 0000:41:00.0"),
    ("nvme_timeout", "nvme nvme0: I/O 21 QID 5 timeout, aborting"),
    ("nvme_timeout", "nvme nvme1: I/O tag 12 (100c) opcode 0x2 (I/O Cmd) QID 3 timeout, aborting req_op:READ(0) size:4096"),
    ("nvme_timeout", "nvme nvme0: I/O 7 QID 0 timeout, reset controller"),
    ("nvme_controller_lost", "nvme nvme0: Disabling device after reset failure: -19"),
    ("nvme_controller_lost", "nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff"),
    ("remount_readonly", "EXT4-fs (nvme0n1p1): Remounting filesystem read-only"),
    ("remount_readonly", "BTRFS info (device sda1: state E): forced readonly"),
    ("filesystem_error", "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm ls: reading directory lblock 0"),
    ("filesystem_error", "XFS (nvme1n1): Metadata corruption detected at xfs_buf_ioend+0x54/0x1e0"),
    ("filesystem_error", "XFS (nvme1n1): Log I/O Error Detected.  Shutting down filesystem"),
    ("io_error", "I/O error, dev nvme0n1, sector 123456 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2"),
    ("io_error", "blk_update_request: I/O error, dev sda, sector 2048 op 0x1:(WRITE)"),
    ("io_error", "blk_update_request: critical medium error, dev sdb, sector 1"),
    ("buffer_io_error", "Buffer I/O error on dev dm-0, logical block 0, async page read"),
    ("raid_disk_failure", "md/raid1:md0: Disk failure on sda1, disabling device."),
    ("nfs_not_responding", "nfs: server 10.0.0.5 not responding, still trying"),
    ("nfs_not_responding", "nfs: server storage.example not responding, timed out"),
    ("nfs_ok", "nfs: server 10.0.0.5 OK"),
    ("nfs_reclaim_failed", "NFS: nfs4_reclaim_open_state: Lock reclaim failed!"),
    ("file_max_reached", "VFS: file-max limit 1000000 reached"),
    ("mlx5_insufficient_power", "mlx5_core 0000:5c:00.0: mlx5_pcie_event:301:(pid 268269): Detected insufficient power on the PCIe slot (27W)."),
    ("mlx5_high_temperature", "mlx5_core 0000:5c:00.0: Port module event[error]: module 0, Cable error, High Temperature"),
    ("mlx5_command_failed", "mlx5_core 0000:d2:00.0: mlx5_cmd_out_err:838:(pid 1441871): ACCESS_REG(0x805) op_mod(0x1) failed, status bad operation(0x2)"),
    ("mlx5_health", "mlx5_core 0000:5c:00.0: poll_health:820:(pid 0): device's health compromised - reached miss count"),
    ("mlx5_link_down", "mlx5_core 0000:5c:00.0 eth2: Link down"),
    ("nvidia_peermem", "nvidia-peermem nv_get_p2p_free_callback:127 ERROR detected invalid context, skipping further processing"),
    ("nvidia_init_failed", "NVRM: GPU 0000:41:00.0: RmInitAdapter failed! (0x26:0x56:1474)"),
    ("nvidia_version_mismatch", "NVRM: API mismatch: the client has the version 570.86, but this kernel module has the version 550.54"),
    ("nvlink_detect_failed", "NVRM: knvlinkUpdatePostRxDetectLinkMask_IMPL: Failed to update Rx Detect Link mask!"),
    ("nccl_segfault", "pt_main_thread[2536443]: segfault at 7f797fe00000 ip 00007f7c7ac69996 sp 00007f7c12fd7c30 error 4 in libnccl.so.2[7f7c7ac00000+d3d3000]"),
]  # fmt: skip
QUIET = [
    "usb 1-1: new high-speed USB device number 5 using ehci_hcd",
    "oom_reaper: reaped process 1234 (python), now anon-rss:0kB",
    "mlx5_core 0000:5c:00.0 eth2: Link up",
    "nvme nvme0: 32/0/0 default/read/poll queues",
    "EXT4-fs (sda1): mounted filesystem with ordered data mode",
    "EXT4-fs (sda1): re-mounted. Quota mode: none.",
    "python[1]: segfault at 0 ip 0 sp 0 error 4 in libc.so.6[7f0000+1000]",
    "nfs: server OKAPI mounted",
    "XFS (nvme1n1): Mounting V5 Filesystem",
    "Machine learning job says: soft lockup, no timeout, I/O error, dev null",
    "",
]


@pytest.mark.parametrize(("event", "line"), LINES)
def test_a_line_is_of_its_kind(event: str, line: str) -> None:
    assert kernel_event(line) == event


@pytest.mark.parametrize("line", QUIET)
def test_other_lines_are_of_none(line: str) -> None:
    assert kernel_event(line) is None


def test_every_kind_has_a_line_and_a_name_of_its_own() -> None:
    assert {event for event, _ in LINES} == set(EVENTS)
    assert len(set(EVENTS)) == len(EVENTS)


def test_the_first_look_never_hides_a_line() -> None:
    for _, line in LINES:
        assert all(rule.hint in line for rule in RULES if rule.pattern.search(line))


@given(st.text(max_size=300))
def test_no_line_breaks_it(text: str) -> None:
    kernel_event(text)


def test_the_page_names_every_kind() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "exporter.md").read_text()
    assert [event for event in EVENTS if f"`{event}`" not in page] == []
