"""Patterns of host events in the kernel log, besides XIDs. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple


class EventPattern(NamedTuple):
    """A pattern for one kind of event.

    `hint` is a substring of every line that `pattern` matches. The hint is checked first, because
    this is cheap.
    """

    event: str
    hint: str
    pattern: re.Pattern[str]


def _rule(event: str, hint: str, pattern: str) -> EventPattern:
    return EventPattern(event, hint, re.compile(pattern))


RULES: tuple[EventPattern, ...] = (
    _rule("oom_kill", "ut of memory: Kill", r"[Oo]ut of memory: Kill(?:ed)? process \d+"),
    _rule("soft_lockup", "soft lockup", r"BUG: soft lockup - CPU#\d+"),
    _rule("hard_lockup", "hard LOCKUP", r"Watchdog detected hard LOCKUP on cpu"),
    _rule(
        "hung_task",
        "blocked for more than",
        r"INFO: task .{1,80}:\d+ blocked for more than \d+ sec",
    ),
    _rule(
        "rcu_stall", "stall", r"rcu.{0,40}(?:self-detected stall on CPU|detected stalls on CPUs)"
    ),
    _rule("oops", "BUG", r"^(?:BUG: (?:unable to handle |kernel NULL )|kernel BUG at )"),
    _rule(
        "mce",
        "Machine",
        r"mce: \[Hardware Error\]: (?:Machine check events logged|CPU \d+: Machine Check)",
    ),
    _rule(
        "firmware_hardware_error",
        "APEI Generic",
        r"Hardware error from APEI Generic Hardware Error Source",
    ),
    _rule(
        "cpu_throttled",
        "cpu clock throttled",
        r"temperature.{0,20} above threshold, cpu clock throttled",
    ),
    _rule(
        "aer_correctable",
        "AER: ",
        r"AER: (?:Multiple )?Correct(?:ed|able) error (?:message )?received",
    ),
    _rule(
        "aer_uncorrectable",
        "AER: ",
        r"AER: (?:Multiple )?Uncorrect(?:ed|able) .{0,20}error (?:message )?received",
    ),
    _rule("nvme_timeout", "nvme nvme", r"nvme nvme\d+: I/O .{0,100}timeout,"),
    _rule(
        "nvme_controller_lost",
        "nvme nvme",
        r"nvme nvme\d+: (?:Disabling device after reset failure|Removing after probe failure|controller is down)",
    ),
    _rule("remount_readonly", "read", r"Remounting filesystem read-only|forced readonly"),
    _rule("filesystem_error", "EXT4-fs error (", r"^EXT4-fs error \("),
    _rule(
        "filesystem_error",
        "XFS (",
        r"^XFS \([^)]{1,40}\): (?:.{0,80}[Ss]hutting down filesystem|.{0,20}[Cc]orruption)",
    ),
    _rule("filesystem_error", "BTRFS", r"^BTRFS: error "),
    _rule(
        "io_error",
        " error, dev ",
        r"(?:I/O|critical medium|critical target) error, dev \S+, sector \d+",
    ),
    _rule("buffer_io_error", "Buffer I/O error", r"Buffer I/O error on dev"),
    _rule("raid_disk_failure", "md/raid", r"md/raid\w{0,8}:\w{1,20}: Disk failure on"),
    _rule("nfs_not_responding", "not responding", r"^nfs: server .{1,255} not responding"),
    _rule("nfs_ok", "nfs: server", r"^nfs: server .{1,255} OK$"),
    _rule(
        "nfs_reclaim_failed", "nfs4_reclaim_open_state", r"nfs4_reclaim_open_state: .{0,40}failed"
    ),
    _rule("file_max_reached", "VFS: file-max", r"^VFS: file-max limit \d+ reached"),
    _rule(
        "mlx5_insufficient_power",
        "insufficient power",
        r"mlx5.{0,120}insufficient power on the PCIe slot",
    ),
    _rule("mlx5_high_temperature", "High Temperature", r"Port module event.{0,60}High Temperature"),
    _rule("mlx5_command_failed", "ACCESS_REG", r"mlx5.{0,120}ACCESS_REG.{0,40}failed"),
    _rule(
        "mlx5_health",
        "mlx5_core",
        r"^mlx5_core .{0,100}(?:health compromised|Health issue observed|Fatal error .{0,20}detected)",
    ),
    _rule("mlx5_link_down", "Link down", r"^mlx5_core .{0,60}: Link down"),
    _rule(
        "nvidia_peermem",
        "detected invalid context",
        r"nv_get_p2p_free_callback.{0,20}ERROR detected invalid context",
    ),
    _rule("nvidia_init_failed", "RmInitAdapter failed", r"^NVRM: .{0,60}RmInitAdapter failed"),
    _rule("nvidia_version_mismatch", "API mismatch", r"^NVRM: API mismatch"),
    _rule(
        "nvlink_detect_failed",
        "knvlinkUpdatePostRxDetectLinkMask",
        r"knvlinkUpdatePostRxDetectLinkMask\w*: Failed",
    ),
    _rule("nccl_segfault", "libnccl.so", r"segfault at .{1,120} in libnccl\.so"),
)
EVENTS: tuple[str, ...] = tuple(dict.fromkeys(rule.event for rule in RULES))


def kernel_event(text: str) -> str | None:
    """Return the kind of event in this line; None if the line is not an event."""
    for rule in RULES:
        if rule.hint in text and rule.pattern.search(text):
            return rule.event
    return None
