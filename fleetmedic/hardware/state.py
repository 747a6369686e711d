"""Read and write the state of simulated GPUs and nodes."""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.files import write_atomic
from fleetmedic.progress.process import pid_namespace

GIB = 1024**3
LOAD_TTL = 5.0
MAX_RECORD = 960  # approximately the kernel's limit for one message
_SEQUENCE = re.compile(rb"^[0-9]+,([0-9]+),", re.MULTILINE)
_GPU_FILE = re.compile(r"gpu([0-9]{1,4})\.state")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GpuState:
    """The state of one simulated GPU.

    `speed` is its clock under load as a fraction of normal. `heat` is added to its temperature
    (degrees C). `heals_by` is the repair that clears its fault. `software_slowdown`: the driver
    reduces the clock because of the temperature. `retired_pages` is for GPUs before Ampere, which
    retire pages; -1 for GPUs that remap rows. `hang_in` is the group of readings in which a hung
    GPU does not respond (empty: all). `delay_ms` is added to every driver call. `recovery` is the
    driver's number of the recovery action. `links_down` contains a bit for each NVLink that is
    down.
    """

    uuid: str
    pci_bus_id: str
    serial: str
    name: str = "NVIDIA H100 80GB HBM3"
    memory_total: int = 80 * GIB
    lost: bool = False
    hung: bool = False
    speed: float = 1.0
    heat: float = 0.0
    ecc_corrected: int = 0
    ecc_uncorrected: int = 0
    remap_correctable: int = 0
    remap_uncorrectable: int = 0
    remap_pending: bool = False
    remap_failure: bool = False
    banks_exhausted: int = 0
    sram_uncorrected: int = 0
    sram_exceeded: bool = False
    recovery: int = 0
    fabric_unhealthy: bool = False
    links_down: int = 0
    link_errors: int = 0
    pcie_width: int = 16
    pcie_replays: int = 0
    power_brake: bool = False
    software_slowdown: bool = False
    retired_pages: int = -1
    pages_pending: bool = False
    mig: bool = False
    stray_pid: int = 0
    delay_ms: int = 0
    hang_in: str = ""
    heals_by: Literal["reset", "reboot", "none"] = "reset"
    fault: str = ""
    fault_at: float = 0.0
    resets: int = 0
    last_reset_op: str = ""

    @property
    def healthy(self) -> bool:
        """Return whether the GPU would pass a burn-in test now."""
        return (
            not (self.lost or self.hung or self.remap_failure or self.sram_exceeded)
            and not self.links_down
            and self.speed >= 0.95
            and self.heat < 10
        )


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """The load of a job on a GPU: utilization and memory as ratios. `at` is Unix seconds.

    `pid` is the job's pid in the pid namespace `namespace` (0: unknown). Containers have different namespaces.
    """

    utilization: float = 0.0
    memory: float = 0.0
    pid: int = 0
    at: float = 0.0
    namespace: int = 0


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of a simulated node. `boot_time` is Unix seconds."""

    boot_id: str
    boot_time: float
    boots: int = 1
    last_reboot_op: str = ""


def _render(value: Any) -> str:
    return "".join(
        f"{key}={int(item) if isinstance(item, bool) else item}\n"
        for key, item in asdict(value).items()
    )


def _read(path: Path, shape: type[T]) -> T:
    """Read the content of a state file. Raises FileNotFoundError, and UserError for a damaged file."""
    try:
        return _parse(path.read_text(encoding="utf-8"), shape, path)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: damaged ({error}). Delete its directory to create it again."
        ) from None


def _parse(text: str, shape: type[T], where: Path) -> T:
    raw = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    kinds = {field.name: str(field.type) for field in fields(shape)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    try:
        for key, item in raw.items():
            kind = kinds[key]
            values[key] = (
                item == "1"
                if kind == "bool"
                else int(item)
                if kind == "int"
                else float(item)
                if kind == "float"
                else item
            )
        return shape(**values)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{where}: damaged ({error}). Delete its directory to create it again."
        ) from None


def _one_line(op_id: str) -> None:
    if len(op_id.splitlines()) > 1:
        raise ValueError("an op_id must be one line")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Hardware:
    """The hardware directory. Every method reads or writes files below `root`; nothing is cached."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, nodes: int = 4, gpus: int = 8) -> None:
        """Create the missing nodes node1..nodeN in healthy state. Existing nodes are not changed."""
        for number in range(1, nodes + 1):
            folder = self.root / f"node{number}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "boot").exists():
                self._write_boot(folder.name, Boot(str(uuid.uuid4()), time.time() - 86_400.0))
            (folder / "kmsg").touch()
            for index in range(gpus):
                if not self._state_path(folder.name, index).exists():
                    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"fleetmedic/{folder.name}/{index}")
                    bus = f"0000:{0x10 + 0x10 * index:02x}:00.0"
                    serial = f"16{number:04d}{index:04d}"
                    self._write_gpu(folder.name, index, GpuState(f"GPU-{identity}", bus, serial))

    def nodes(self) -> list[str]:
        """Return the names of the simulated nodes, sorted."""
        return sorted(path.parent.name for path in self.root.glob("*/boot"))

    def gpus(self, node: str) -> list[int]:
        """Return the indices of a node's GPUs, sorted, lost GPUs included."""
        names = (path.name for path in (self.root / node).glob("gpu*.state"))
        return sorted(int(match[1]) for name in names if (match := _GPU_FILE.fullmatch(name)))

    def gpu(self, node: str, index: int) -> GpuState:
        """Return the state of one GPU. Raises UserError if it does not exist."""
        path = self._state_path(node, index)
        try:
            return _read(path, GpuState)
        except FileNotFoundError:
            known = self.gpus(node)
            if not known:
                nodes = ", ".join(self.nodes()) or "none"
                raise UserError(f"unknown node {node!r}. Expected one of: {nodes}.") from None
            shown = ", ".join(map(str, known))
            raise UserError(
                f"node {node!r} has no GPU {index}. Expected one of: {shown}."
            ) from None

    def load(self, node: str, index: int, now: float) -> GpuLoad:
        """Return the load of a GPU; idle if no job has reported a load for 5 s."""
        path = self._state_path(node, index).with_suffix(".load")
        try:
            found = _read(path, GpuLoad)
        except (FileNotFoundError, UserError):
            return GpuLoad()
        return found if now - found.at <= LOAD_TTL else GpuLoad()

    def set_load(self, node: str, index: int, utilization: float, memory: float) -> None:
        """Report a job's load on a GPU. Jobs do so about once a second."""
        used, held, at = round(utilization, 4), round(memory, 4), round(time.time(), 3)
        value = GpuLoad(used, held, os.getpid(), at, pid_namespace())
        write_atomic(self._state_path(node, index).with_suffix(".load"), _render(value), sync=False)

    def boot(self, node: str) -> Boot:
        """Return the node's current boot. Raises UserError if the node does not exist."""
        path = self.root / node / "boot"
        try:
            return _read(path, Boot)
        except FileNotFoundError:
            raise UserError(
                f"unknown node {node!r}. Expected one of: {', '.join(self.nodes()) or 'none'}."
            ) from None

    def kmsg_path(self, node: str) -> Path:
        """Return the path of the node's kernel log, for the exporter's option `--path.kmsg`."""
        return self.root / node / "kmsg"

    def change(self, node: str, index: int, **changes: Any) -> GpuState:
        """Set fields of a simulated GPU's state. Returns the new state."""
        self.gpu(node, index)
        with _locked(self.root / node):
            state = replace(self.gpu(node, index), **changes)
            self._write_gpu(node, index, state)
        return state

    def log(self, node: str, message: str, *, priority: int = 4) -> None:
        """Append a kernel log record, `priority,sequence,microseconds,-;message`.

        The message becomes one line of at most 960 bytes.
        """
        boot = self.boot(node)
        with _locked(self.root / node):
            path = self.kmsg_path(node)
            with path.open("a+b") as file:
                file.seek(max(0, file.tell() - 4096))
                tail = file.read()
                known = _SEQUENCE.findall(tail)
                sequence = int(known[-1]) + 1 if known else 1
                stamp = int((time.time() - boot.boot_time) * 1_000_000)
                text = " ".join(message.splitlines()).encode("ascii", "replace")[:MAX_RECORD]
                # If a writer was killed within a record, start the next record on a new line.
                torn = b"\n" if tail and not tail.endswith(b"\n") else b""
                file.write(torn + f"{priority},{sequence},{stamp},-;".encode() + text + b"\n")

    def reset(self, node: str, index: int, op_id: str = "") -> bool:
        """Reset a GPU, as `nvidia-smi --gpu-reset` does; returns whether the GPU is healthy.

        A repeated `op_id` does nothing. Every reset clears the volatile ECC counters. Raises UserError
        if the GPU does not exist.
        """
        _one_line(op_id)
        self.gpu(node, index)
        with _locked(self.root / node):
            state = self.gpu(node, index)
            if not op_id or state.last_reset_op != op_id:
                state = replace(state, resets=state.resets + 1, last_reset_op=op_id)
                state = self._healed(state) if state.heals_by == "reset" else state
                self._write_gpu(node, index, replace(state, ecc_corrected=0, ecc_uncorrected=0))
                self._state_path(node, index).with_suffix(".totals").unlink(missing_ok=True)
        return state.healthy

    def reboot(self, node: str, op_id: str = "") -> None:
        """Reboot a node: set a new boot id, and clear faults with `heals_by` reset or reboot.

        A repeated `op_id` does nothing. Raises UserError if the node does not exist.
        """
        _one_line(op_id)
        self.boot(node)
        with _locked(self.root / node):
            before = self.boot(node)
            if op_id and before.last_reboot_op == op_id:
                return
            for index in self.gpus(node):
                state = self.gpu(node, index)
                if state.heals_by != "none":
                    self._write_gpu(node, index, self._healed(state))
                for suffix in (".load", ".totals"):
                    self._state_path(node, index).with_suffix(suffix).unlink(missing_ok=True)
            self._write_boot(node, Boot(str(uuid.uuid4()), time.time(), before.boots + 1, op_id))
        self.log(node, "Linux version 6.1.0 (simulated machine): booting", priority=5)

    @staticmethod
    def _healed(state: GpuState) -> GpuState:
        remapped = state.remap_uncorrectable + int(state.remap_pending)
        return replace(
            state,
            lost=False,
            hung=False,
            speed=1.0,
            heat=0.0,
            fault="",
            heals_by="reset",
            remap_pending=False,
            remap_uncorrectable=remapped,
            recovery=0,
            fabric_unhealthy=False,
            links_down=0,
            link_errors=0,
            pcie_replays=0,
            power_brake=False,
            software_slowdown=False,
            pages_pending=False,
            delay_ms=0,
            hang_in="",
        )

    def _state_path(self, node: str, index: int) -> Path:
        return self.root / node / f"gpu{index}.state"

    def _write_gpu(self, node: str, index: int, state: GpuState) -> None:
        write_atomic(self._state_path(node, index), _render(state), sync=False)

    def _write_boot(self, node: str, boot: Boot) -> None:
        write_atomic(self.root / node / "boot", _render(boot), sync=False)
