"""The simulated source: reads GPUs from the hardware directory.

A lost GPU raises SourceLost and a hung GPU really blocks, so the same code handles simulated and
real faults.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from exporter.sources.base import (
    CLOCK_REASONS,
    BusGpu,
    Device,
    Group,
    Progress,
    Reading,
    SourceFailed,
    SourceLost,
)
from exporter.sources.nvml_health import FABRIC_BITS, FABRIC_STATES, RECOVERY_ACTIONS
from exporter.sources.nvml_links import PCIE_ERRORS
from exporter.sources.nvml_load import REASON_SECONDS
from fleetmedic.hardware.sensors import Registers, sense
from fleetmedic.hardware.state import GpuState, Hardware
from fleetmedic.kernel.errors import UserError

DRIVER, CUDA, VBIOS = "simulated", "12.8", "96.00.99.00.01"
HANG_POLL = 0.1
CALLS_PER_READ = 3  # delayed calls in each read of a delayed GPU
_GPM = {
    "gpu_graphics_active_ratio": "graphics",
    "gpu_sm_active_ratio": "sm",
    "gpu_sm_occupancy_ratio": "occupancy",
    "gpu_integer_active_ratio": "integer",
    "gpu_dram_active_ratio": "dram",
}
LINK_ERRORS = ("replay", "recovery", "crc")  # the error counters of a Hopper GPU
_TENSOR = {"any": "tensor", "dfma": "dfma", "hmma": "hmma", "imma": "imma"}
_RATES = {
    "gpu_pcie_transmit_bytes_per_second": "gpm_pcie_tx",
    "gpu_pcie_receive_bytes_per_second": "gpm_pcie_rx",
    "gpu_nvlink_receive_bytes_per_second": "gpm_nvlink_rx",
    "gpu_nvlink_transmit_bytes_per_second": "gpm_nvlink_tx",
}


class SimulatedSource:
    """The simulated GPUs of one node in the hardware directory."""

    name = "simulated"

    def __init__(self, root: Path, node: str, progress: Progress) -> None:
        self._hardware = Hardware(root)
        self._node = node
        self._progress = progress
        self._sensed: tuple[int, float, Registers] = (-1, 0.0, {})
        self._read = {
            "load": _load,
            "gpm": _gpm,
            "health": _health,
            "links": _links,
            "mig": _mig,
            "processes": _processes,
            "limits": _limits,
        }

    def open(self) -> None:
        try:
            self._hardware.boot(self._node)
        except (OSError, UserError) as error:
            raise SourceFailed(str(error)) from None

    def refresh(self) -> None:
        """Do nothing, because every read reopens the directory."""

    def slots(self) -> tuple[int, ...]:
        return tuple(self._hardware.gpus(self._node))

    def bus(self) -> tuple[BusGpu, ...]:
        found = []
        for slot in self.slots():
            try:
                state = self._hardware.gpu(self._node, slot)
            except UserError:
                continue
            found.append(BusGpu(state.pci_bus_id, state.uuid))
        return tuple(found)

    def errors(self) -> dict[str, int]:
        return {}

    def identify(self, slot: int) -> Device:
        state = self._state(slot)
        if state.lost:
            raise SourceLost(slot)
        return Device(
            slot,
            state.uuid,
            state.pci_bus_id,
            state.name,
            state.serial,
            DRIVER,
            CUDA,
            VBIOS,
            "hopper",
            str(slot),
        )

    def presence(self, slot: int) -> None:
        self._wait_for_response(slot, "presence")

    def read(self, slot: int, group: Group, now: float) -> tuple[Reading, ...]:
        self._wait_for_response(slot, group)
        return tuple(self._read[group](self._registers(slot, now)))

    def _registers(self, slot: int, now: float) -> Registers:
        """Return the simulated registers of the GPU at Unix time `now`, the same for all groups."""
        if self._sensed[:2] != (slot, now):
            try:
                self._sensed = (slot, now, sense(self._hardware, self._node, slot, now))
            except UserError:
                raise SourceLost(slot) from None
        return self._sensed[2]

    def _state(self, slot: int) -> GpuState:
        """Return the simulated state of the GPU. A GPU with a damaged state file counts as lost."""
        try:
            return self._hardware.gpu(self._node, slot)
        except (OSError, UserError):
            raise SourceLost(slot) from None

    def _wait_for_response(self, slot: int, group: Group) -> None:
        """Return if the simulated GPU responds; block while it hangs. Raises SourceLost if it is lost."""
        self._progress()
        state = self._state(slot)
        while state.hung and state.hang_in in ("", group):
            time.sleep(HANG_POLL)
            state = self._state(slot)
        for _ in range(CALLS_PER_READ if state.delay_ms else 0):
            self._progress()
            time.sleep(state.delay_ms / 1000)
        if state.lost:
            raise SourceLost(slot)


def _load(found: Registers) -> Iterator[Reading]:
    yield Reading("gpu_utilization_ratio", (), found["utilization"] / 100)
    yield Reading("gpu_memory_activity_ratio", (), found["memory_activity"] / 100)
    for engine in ("encoder", "decoder", "jpeg", "ofa"):
        yield Reading(f"gpu_{engine}_utilization_ratio", (), 0.0)
    for what in ("total", "used", "free", "reserved"):
        yield Reading(f"gpu_memory_{what}_bytes", (), found[f"memory_{what}"])
    yield Reading("gpu_bar1_total_bytes", (), found["bar1_total"])
    yield Reading("gpu_bar1_used_bytes", (), found["bar1_used"])
    yield Reading("gpu_temperature_celsius", ("gpu",), float(found["temperature"]))
    yield Reading("gpu_temperature_celsius", ("memory",), found["memory_temperature"])
    if found["margin"] > 0:
        yield Reading("gpu_thermal_margin_celsius", (), found["margin"])
    yield Reading("gpu_power_watts", ("gpu",), found["power"] / 1000)
    yield Reading("gpu_energy_joules_total", (), found["energy"] / 1000)
    for domain in ("graphics", "sm", "memory", "video"):
        clock = found["clock_sm" if domain == "graphics" else f"clock_{domain}"]
        yield Reading("gpu_clock_hertz", (domain,), clock * 1_000_000)
    yield Reading("gpu_performance_state", (), found["performance_state"])
    for bit, reason in enumerate(CLOCK_REASONS):
        yield Reading("gpu_clock_event_active", (reason,), found["reasons"] >> bit & 1)
    seconds = {
        "sw_thermal_slowdown": "software_ns",
        "hw_thermal_slowdown": "thermal_ns",
        "hw_power_brake_slowdown": "brake_ns",
    }
    for reason in REASON_SECONDS:
        total = found[seconds[reason]] if reason in seconds else 0
        yield Reading("gpu_clock_event_seconds_total", (reason,), total / 1e9)


def _gpm(found: Registers) -> Iterator[Reading]:
    for name, part in _GPM.items():
        yield Reading(name, (), found[f"gpm_{part}"] / 1000 / 100)
    for kind, part in _TENSOR.items():
        yield Reading("gpu_tensor_active_ratio", (kind,), found[f"gpm_{part}"] / 1000 / 100)
    for precision in ("fp64", "fp32", "fp16"):
        share = found[f"gpm_{precision}"] / 1000 / 100
        yield Reading("gpu_fp_active_ratio", (precision,), share)
    for name, register in _RATES.items():
        yield Reading(name, (), found[register] / 1024 * (1 << 20))


def _health(found: Registers) -> Iterator[Reading]:
    for error in ("corrected", "uncorrected"):
        for scope in ("volatile", "aggregate"):
            for location in ("dram", "sram"):
                count = found[f"ecc_{error}"] if location == "dram" else 0
                if (error, location) == ("uncorrected", "sram"):
                    count = found["sram_uncorrected"]
                yield Reading("gpu_ecc_errors_total", (error, scope, location), count)
    for source in ("l2", "sm", "microcontroller", "pcie", "other"):
        count = found["sram_uncorrected"] if source == "l2" else 0
        yield Reading("gpu_sram_ecc_uncorrectable_source_total", (source,), count)
    yield Reading("gpu_sram_ecc_threshold_exceeded", (), found["sram_exceeded"])
    yield Reading("gpu_row_remap_total", ("correctable",), found["remap_correctable"])
    yield Reading("gpu_row_remap_total", ("uncorrectable",), found["remap_uncorrectable"])
    yield Reading("gpu_row_remap_pending", (), found["remap_pending"])
    yield Reading("gpu_row_remap_failure", (), found["remap_failure"])
    for left in ("max", "high", "partial", "low", "none"):
        yield Reading("gpu_row_remap_banks", (left,), found.get(f"banks_{left}", 0))
    yield Reading("gpu_unrepairable_memory", (), found["unrepairable"])
    if found["pages_retired"] >= 0:
        yield Reading("gpu_retired_pages_pending", (), found["pages_pending"])
        yield Reading("gpu_retired_pages_total", ("single_bit",), 0)
        yield Reading("gpu_retired_pages_total", ("double_bit",), found["pages_retired"])
    for number, action in enumerate(RECOVERY_ACTIONS):
        yield Reading("gpu_recovery_action", (action,), int(number == found["recovery"]))
    for state in FABRIC_STATES:
        yield Reading("gpu_fabric_state", (state,), int(state == "completed"))
    yield Reading("gpu_fabric_status", (), 0)
    for condition in (*FABRIC_BITS, "configuration"):
        sick = found["fabric_unhealthy"] and condition == "route"
        yield Reading("gpu_fabric_health", (condition,), int(not sick))
    yield Reading("gpu_fabric_info", ("00" * 16, "1"), 1)


def _links(found: Registers) -> Iterator[Reading]:
    for link in range(found["links"]):
        up = not found["links_down"] >> link & 1
        yield Reading("gpu_nvlink_up", (str(link),), int(up))
    if found["links"]:
        active = found["links"] - found["links_down"].bit_count()
        yield Reading("gpu_nvlink_active_links", (), active)
        yield Reading("gpu_nvlink_faults_total", (), found["link_crc"])
    for kind in LINK_ERRORS:
        for link in range(found["links"]):
            count = found["link_crc"] if (kind, link) == ("crc", 0) else 0
            yield Reading("gpu_nvlink_errors_total", (str(link), kind), count)
    yield Reading("gpu_nvlink_transmit_bytes_total", (), found["nvlink_tx"] * 1024)
    yield Reading("gpu_nvlink_receive_bytes_total", (), found["nvlink_rx"] * 1024)
    for which in ("current", "max"):
        yield Reading("gpu_pcie_link_generation", (which,), found["pcie_generation"])
        width = found["pcie_width"] if which == "current" else 16
        yield Reading("gpu_pcie_link_width", (which,), width)
    yield Reading("gpu_pcie_replay_total", (), found["pcie_replays"])
    for kind in PCIE_ERRORS:
        yield Reading("gpu_pcie_errors_total", (kind,), 0)
    yield Reading("gpu_pcie_transmit_bytes_total", (), found["pcie_tx"] * 1024)
    yield Reading("gpu_pcie_receive_bytes_total", (), found["pcie_rx"] * 1024)


def _mig(found: Registers) -> Iterator[Reading]:
    if not found["mig"]:
        return
    for place in range(2):
        key = (str(place + 1), "0")
        yield Reading("gpu_mig_info", (*key, f"MIG-{place}", "3g.40gb"), 1)
        yield Reading("gpu_mig_memory_total_bytes", key, found["memory_total"] // 2)
        yield Reading("gpu_mig_memory_used_bytes", key, found["memory_used"] // 2)


def _processes(found: Registers) -> Iterator[Reading]:
    pids = {pid: found["pid_memory"] for pid in (found["pid"],) if pid}
    if found["stray_pid"]:
        pids[found["stray_pid"]] = 1 << 30
    yield Reading("gpu_processes", ("compute",), len(pids))
    yield Reading("gpu_processes", ("graphics",), 0)
    if found["pid_elsewhere"]:
        pids.pop(found["pid"], None)
    for pid, used in pids.items():
        yield Reading("gpu_process_memory_bytes", (str(pid), ""), used)


def _limits(found: Registers) -> Iterator[Reading]:
    for kind in ("min", "max", "default", "enforced", "requested"):
        limit = found["power_min" if kind == "min" else "power_limit"]
        yield Reading("gpu_power_limit_watts", (kind,), limit / 1000)
    for threshold in ("shutdown", "slowdown", "memory_max", "gpu_max"):
        yield Reading("gpu_temperature_threshold_celsius", (threshold,), found[threshold])
    for domain in ("graphics", "sm", "memory", "video"):
        clock = found["clock_max_sm" if domain == "graphics" else f"clock_max_{domain}"]
        yield Reading("gpu_clock_max_hertz", (domain,), clock * 1_000_000)
    for mode, on in (("ecc", 1), ("mig", found["mig"])):
        yield Reading(f"gpu_{mode}_mode", ("current",), on)
        yield Reading(f"gpu_{mode}_mode", ("pending",), on)
    yield Reading("gpu_persistence_mode", (), 1)
    yield Reading("gpu_accounting_mode", (), 0)
    yield Reading("gpu_compute_mode", (), 0)
