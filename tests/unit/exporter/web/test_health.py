"""The state of each component; an unknown state is never reported as healthy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.gpu_states import GpuSnapshot, GpuStates, GpuStatus, NodeSnapshot
from exporter.pages.collector_runner import CollectorState
from exporter.sources.base import Device
from exporter.web import health
from exporter.xids.recommend import Recommendation
from exporter.xids.xid_ledger_state import RecentError

DEVICE = Device(
    slot=3, uuid="GPU-3", pci_bus_id="0000:3b:00.0", name="H100", serial="1", driver="570"
)


def gpu(status: GpuStatus = GpuStatus.UP, **more: Any) -> GpuSnapshot:
    return GpuSnapshot(3, "GPU-3", DEVICE, status, {}, **more)


def view(*gpus: GpuSnapshot, **more: Any) -> NodeSnapshot:
    fields = {"expected": len(gpus), "stuck": False, "source": "nvml", "failure": "", "restarts": 0}
    return NodeSnapshot(gpus=gpus, errors={}, **(fields | more))


@pytest.mark.parametrize(
    ("one", "wish", "more", "state", "why"),
    [
        (gpu(), ("none", "ok"), {}, "healthy", ""),
        (gpu(), None, {}, "healthy", ""),
        (gpu(), ("restart_app", "xid_13"), {}, "degraded", "xid 13"),
        (gpu(), ("reset_gpu", "xid_95"), {}, "unhealthy", "xid 95"),
        (gpu(), ("inspect", "row_remap_failure"), {}, "unhealthy", "row remap failure"),
        (gpu(slow=True), ("none", "ok"), {}, "degraded", "slowly"),
        (gpu(left_out=("health",)), ("none", "ok"), {}, "degraded", "a call hung: health"),
        (gpu(GpuStatus.LOST), ("reboot_node", "lost"), {}, "unhealthy", "missing"),
        (
            gpu(GpuStatus.HUNG),
            ("none", "not_responding"),
            {},
            "unhealthy",
            "calls for this GPU hang",
        ),
        (gpu(GpuStatus.UNKNOWN), None, {"released": True}, "unknown", "released"),
        (gpu(GpuStatus.UNKNOWN), None, {"failure": "no driver"}, "unknown", "no driver"),
        (gpu(GpuStatus.UNKNOWN), None, {}, "unknown", "no recent data"),
    ],
)
def test_a_gpu_is_what_is_known_of_it(
    one: GpuSnapshot, wish: tuple[Any, str] | None, more: dict[str, Any], state: str, why: str
) -> None:
    wanted = Recommendation(*wish, since=5.0) if wish else None
    found = health.gpu(view(one, **more), one, wanted)
    assert (found.name, found.state, found.uuid) == ("gpu/3", state, "GPU-3")
    assert why in found.why
    assert found.action == (wish[0] if wish else "none")
    assert found.since == (5.0 if wish and wish[0] != "none" else None)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, {"driver": "healthy"}),
        ({"failure": "the driver did not answer"}, {"driver": "unhealthy"}),
        ({"abandoned": 1}, {"driver": "degraded"}),
        ({"expected": 8}, {"driver": "degraded"}),
        ({"released": True, "events_up": False}, {"driver": "unknown"}),
        ({"events_up": True}, {"driver": "healthy", "driver_events": "healthy"}),
        ({"events_up": False}, {"driver": "healthy", "driver_events": "degraded"}),
    ],
)
def test_the_driver_is_what_is_known_of_it(more: dict[str, Any], found: dict[str, str]) -> None:
    parts = list(health.driver(view(gpu(), **more), 12.0))
    assert {part.name: part.state for part in parts} == found
    assert all(bool(part.why) == (part.state != "healthy") for part in parts)


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        ("", "unknown"),
        ("healthy", "healthy"),
        ("healthy unknown", "unknown"),
        ("unknown degraded healthy", "degraded"),
        ("degraded unknown unhealthy", "unhealthy"),
    ],
)
def test_the_node_is_as_its_worst_part(states: str, worst: str) -> None:
    parts = [health.Component("a", "gpu", word, "", "none", "") for word in states.split()]  # type: ignore[arg-type]
    assert health.worst(parts) == worst


def test_a_collector_that_fails_or_a_log_that_cannot_be_read_degrades() -> None:
    states = [
        CollectorState("xid", "", 1.0, 5.0),
        CollectorState("cpu", "the latest run failed", 5.0, 0.0),
    ]
    assert [part.state for part in health.collectors(states)] == ["healthy", "degraded"]
    assert health.kernel_log("", read=True).state == "healthy"
    assert health.kernel_log("no permission", read=True).state == "degraded"
    assert health.kernel_log("no permission", read=False).state == "degraded"
    unread = health.kernel_log("", read=False)
    assert (unread.state, unread.why) == ("unknown", "the kernel log was not read recently")


def test_events_are_told_newest_first_with_the_gpu_that_they_are_about() -> None:
    old = RecentError(
        "xid", "GPU-3", 95, "contained", "fatal", "reset_gpu", 1.0, 2.0, 2, "both", "NVRM: Xid"
    )
    new = RecentError(
        "sxid", "0000:01:00.0", 20034, "ltssm", "fatal", "reset_gpu", 3.0, 3.0, 1, "kernel", ""
    )
    first, second = health.events([old, new], view(gpu()))
    assert (first.code, first.gpu) == (20034, None)
    assert (second.code, second.gpu, second.count) == (95, 3, 2)


def test_the_whole_answer_is_json_that_says_what_is_recommended_of_every_part(
    tmp_path: Path, new_pages: Any, new_reader: Any
) -> None:
    from exporter.web.backend import WebBackend

    gpu_states = GpuStates(tmp_path / "inventory.json", expected=None, intervals={})
    site = WebBackend(new_pages(), gpu_states, "node1", "1.2.3", new_reader(), clock=lambda: 100.0)
    found = msgspec.json.decode(msgspec.json.encode(site.health()))
    assert found["node"] == "node1"
    assert found["at"] == 100.0
    assert found["state"] == "unhealthy"
    parts = {part["name"]: part for part in found["components"]}
    assert parts["driver"]["why"] == "no data has been read yet"
    assert set(parts) == {"driver", "collector/gpu_load", "collector/xid"}
    assert all({"state", "why", "action", "reason"} <= set(part) for part in parts.values())
    assert "uuid" not in parts["driver"]
