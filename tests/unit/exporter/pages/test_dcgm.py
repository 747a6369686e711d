"""The page for dashboards of dcgm-exporter has its names, labels and units."""

from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import catalogue
from exporter.gpu_states import GpuSnapshot, GpuStatus, NodeSnapshot
from exporter.pages.dcgm import FIELDS, dcgm
from exporter.pages.openmetrics import ExpositionFormat
from exporter.reading.protocol import GroupReadings
from exporter.sources.base import Device, Group, Reading

LABELS = {
    "gpu": "1", "UUID": "GPU-1", "pci_bus_id": "00000000:20:00.0", "device": "nvidia5",
    "modelName": 'An "H100"', "Hostname": "rack1", "hostname": "rack1",
    "DCGM_FI_DRIVER_VERSION": "570.1",
}  # fmt: skip


def view(**readings: list[Reading]) -> NodeSnapshot:
    device = Device(1, "GPU-1", "00000000:20:00.0", 'An "H100"', driver="570.1", minor="5")
    groups: dict[Group, GroupReadings] = {
        group: GroupReadings(1, group, 1000.0, tuple(given))  # type: ignore[misc, arg-type]
        for group, given in readings.items()
    }
    gpu = GpuSnapshot(1, "GPU-1", device, GpuStatus.UP, groups)
    return NodeSnapshot((gpu,), 1, False, "nvml", "", 0, {})


def values(text: bytes) -> dict[str, float]:
    return {
        sample.name.removesuffix("_total"): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


LOAD = [
    Reading("gpu_utilization_ratio", (), 0.57),
    Reading("gpu_memory_used_bytes", (), 3 << 30),
    Reading("gpu_memory_free_bytes", (), (77 << 30) + 7),
    Reading("gpu_clock_hertz", ("sm",), 1_980_000_000),
    Reading("gpu_temperature_celsius", ("gpu",), 41),
    Reading("gpu_power_watts", ("gpu",), 412.25),
    Reading("gpu_energy_joules_total", (), 86_400.123),
]


def test_values_have_the_units_of_dcgm() -> None:
    assert values(dcgm(view(load=LOAD), "rack1").text) == {
        "DCGM_FI_DEV_GPU_UTIL": 57,
        "DCGM_FI_DEV_FB_USED": 3072,
        "DCGM_FI_DEV_FB_FREE": 78_848,
        "DCGM_FI_DEV_SM_CLOCK": 1980,
        "DCGM_FI_DEV_GPU_TEMP": 41,
        "DCGM_FI_DEV_POWER_USAGE": 412.25,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 86_400_123,
    }


def test_labels_are_those_of_dcgm_exporter_and_escaped() -> None:
    [family, *_] = text_string_to_metric_families(dcgm(view(load=LOAD), "rack1").text.decode())
    assert [sample.labels for sample in family.samples] == [LABELS]


def test_profiling_ratios_stay_between_0_and_1() -> None:
    gpm = [
        Reading("gpu_tensor_active_ratio", ("any",), 0.25),
        Reading("gpu_sm_active_ratio", (), 1),
    ]
    assert values(dcgm(view(gpm=gpm), "rack1").text) == {
        "DCGM_FI_PROF_SM_ACTIVE": 1.0,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.25,
    }


def test_ecc_errors_are_summed_without_counting_a_unit_twice() -> None:
    def error(place: str, count: int) -> Reading:
        return Reading("gpu_ecc_errors_total", ("corrected", "volatile", place), count)

    old = [error("dram", 1), error("l1", 2), error("l2", 3)]
    assert values(dcgm(view(health=old), "h").text) == {"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 6}
    new = [*old, error("sram", 5)]
    assert values(dcgm(view(health=new), "h").text) == {"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 6}


def test_the_latest_xid_is_shown_of_lost_gpus_too_and_only_where_it_is_known() -> None:
    assert values(dcgm(view(), "h").text) == {}
    assert values(dcgm(view(), "h", {"GPU-1": 79}).text) == {"DCGM_FI_DEV_XID_ERRORS": 79}
    assert values(dcgm(view(), "h", {"GPU-2": 79}).text) == {"DCGM_FI_DEV_XID_ERRORS": 0}


def test_in_openmetrics_counters_that_are_named_otherwise_are_of_unknown_type() -> None:
    body = dcgm(view(load=LOAD), "rack1").body(ExpositionFormat.OPENMETRICS, gzip=False).decode()
    assert "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION unknown\n" in body
    assert body.endswith("# EOF\n")


def test_every_field_is_a_reading_of_the_catalogue() -> None:
    for field in FIELDS:
        metric = catalogue().get(field.reading)
        assert metric.collector in ("gpu_load", "gpu_gpm", "gpu_health", "gpu_links"), field.name
        assert len(metric.labels) == 2 + len(field.labels), field.name
