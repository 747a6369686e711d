"""The kernel files of one simulated machine, and functions that change them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2] / "unit/exporter/host_tree"
SOURCE = Path(__file__).with_name("kernel_stand_in.c")
BLOCKS = 1_000_000
PORTS = "sys/class/infiniband"
_MDSTAT = """Personalities : [raid1]
md0 : active raid1 nvme1n1[1] nvme0n1[0]
      3750483968 blocks super 1.2 [2/2] [UU]

unused devices: <none>
"""
_UNITS = {
    "kubelet.service": "active", "containerd.service": "active",
    "nvidia-fabricmanager.service": "active", "sshd.service": "active",
}  # fmt: skip
_SYSTEMCTL = """#!/bin/sh
# fake systemctl for the units of this machine: `systemctl --no-pager list-units|show ...`
while read -r unit state; do
  case "$2" in
    list-units) echo "$unit loaded $state running $unit" ;;
    show) printf 'Id=%s\\nLoadState=loaded\\nActiveState=%s\\nType=simple\\nNRestarts=0\\n\\n' "$unit" "$state" ;;
  esac
done < '{units}'
"""


def build_stand_in(folder: Path) -> Path:
    """Compile the fake of two system calls. Raises FileNotFoundError without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler found: install gcc")
    library = folder / "kernel_stand_in.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE)], check=True)
    return library


class Machine:
    """ROOT/proc and ROOT/sys, ROOT/kmsg, and ROOT/kernel for the fake system calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filesystems: dict[str, tuple[int, int, int]] = {}
        self._mounts: list[str] = []
        self._units = dict(_UNITS)
        self._sequence = 0
        shutil.copytree(TREE / "proc", root / "proc", symlinks=True)
        shutil.copytree(TREE / "sys", root / "sys", symlinks=True)
        for folder in ("kernel/systemd", "bin"):
            (root / folder).mkdir(parents=True)
        (root / "kmsg").touch()
        systemctl = root / "bin/systemctl"
        systemctl.write_text(_SYSTEMCTL.format(units=root / "kernel/units"))
        systemctl.chmod(0o755)
        self._heal()

    def _heal(self) -> None:
        """Make the machine healthy: the copied tree contains faults."""
        self.write("proc/mdstat", _MDSTAT)
        self.boot(time.time() - 86_400)
        self.clock(0, 1_000, 500)
        self.unit("sshd.service", "active")
        for device in ("mlx5_0", "mlx5_1"):
            self.port(device, "4: ACTIVE", "5: LinkUp")
            self.write(f"{PORTS}/{device}/ports/1/counters/port_rcv_packets", "87654321\n")
        for nvme in ("nvme0", "nvme1"):
            self.write(f"sys/class/nvme/{nvme}/state", "live\n")
        for module in ("nvidia", "nvidia_peermem"):
            self.write(f"sys/module/{module}/initstate", "live\n")
        self.mount("/dev/nvme0n1p1", "/", "ext4")
        self.mount("/dev/md0", "/data", "xfs")

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the exporter of this machine, in addition to LD_PRELOAD."""
        path = f"{self.root / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        return {"KERNEL_STAND_IN": str(self.root / "kernel"), "PATH": path}

    def write(self, path: str, text: str) -> None:
        """Write a file atomically."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        beside.write_text(text)
        beside.rename(target)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text in a file."""
        text = (self.root / path).read_text()
        assert old in text, f"{path} has no {old!r}"
        self.write(path, text.replace(old, new))

    def add(self, path: str, more: int) -> None:
        """Increase the counter in a file; a missing file counts as 0."""
        try:
            now = int((self.root / path).read_text())
        except FileNotFoundError:
            now = 0
        self.write(path, f"{now + more}\n")

    def raise_field(self, path: str, key: str, more: int) -> None:
        """Increase the number after a key at the start of a line."""
        words = dict(line.split()[:2] for line in (self.root / path).read_text().splitlines())
        self.field(path, key, int(words[key]) + more)

    def field(self, path: str, key: str, value: int) -> None:
        """Set the number after a key at the start of a line."""
        lines = (self.root / path).read_text().splitlines()
        found = [line for line in lines if line.split()[:1] == [key]]
        assert len(found) == 1, f"{path} has no line of {key}"
        words = found[0].split()
        words[1] = str(value)
        self.write(
            path, "\n".join(" ".join(words) if ln is found[0] else ln for ln in lines) + "\n"
        )

    def log(self, text: str) -> None:
        """Add a record to the kernel log."""
        self._sequence += 1
        with (self.root / "kmsg").open("a") as file:
            file.write(f"4,{self._sequence},{int(time.monotonic() * 1e6)},-;{text}\n")

    def boot(self, at: float) -> None:
        """Set the boot time, as Unix time."""
        text = (self.root / "proc/stat").read_text().splitlines()
        lines = [f"btime {int(at)}" if line.startswith("btime ") else line for line in text]
        self.write("proc/stat", "\n".join(lines) + "\n")
        self.write("proc/sys/kernel/random/boot_id", f"00000000-0000-4000-8000-{int(at):012d}\n")

    def clock(self, state: int, offset_ns: int, most_us: int) -> None:
        """Set the result of adjtimex(2); state 5 is an unsynchronised clock."""
        self.write("kernel/clock", f"{state} {offset_ns} {most_us}\n")

    def unit(self, name: str, state: str) -> None:
        """Set the state of a systemd unit."""
        self._units[name] = state
        lines = [f"{unit} {each}\n" for unit, each in self._units.items()]
        self.write("kernel/units", "".join(lines))

    def mount(self, device: str, mountpoint: str, fstype: str) -> None:
        """Mount a file system with two thirds of its space free."""
        self._mounts.append(f"{device} {mountpoint} {fstype} rw,relatime 0 0\n")
        self.filesystem(mountpoint, free=BLOCKS * 2 // 3)
        self.write("proc/1/mounts", "".join(self._mounts))

    def filesystem(self, mountpoint: str, *, free: int, readonly: bool = False) -> None:
        """Set how many of a million blocks are free; a negative number returns an error."""
        blocks = BLOCKS if free >= 0 else -1
        self._filesystems[mountpoint] = (blocks, max(0, free), int(readonly))
        lines = [f"{path} {b} {f} {ro}\n" for path, (b, f, ro) in self._filesystems.items()]
        self.write("kernel/filesystems", "".join(lines))

    def port(self, device: str, state: str, physical: str) -> None:
        """Set the state of an InfiniBand port, in the format of sysfs."""
        self.write(f"{PORTS}/{device}/ports/1/state", f"{state}\n")
        self.write(f"{PORTS}/{device}/ports/1/phys_state", f"{physical}\n")

    def process(self, pid: int, name: str) -> None:
        """Add a process that belongs to no job."""
        zeros = " ".join(["0"] * 30)
        self.write(f"proc/{pid}/stat", f"{pid} ({name}) S 1 {pid} {pid} 0 -1 {zeros}\n")
        self.write(f"proc/{pid}/cgroup", "0::/user.slice/user-1000.slice/session-3.scope\n")
        self.write(f"proc/{pid}/environ", "")
