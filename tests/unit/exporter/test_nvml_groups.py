"""Readings from a fake card that is a table: units, alternatives, omitted values."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from exporter.catalogue import catalogue
from exporter.sources.base import READ_GROUPS, Group
from exporter.sources.nvml_driver import Field, NvmlApi, Share, choose, positive, signed
from exporter.sources.nvml_groups import GroupReader
from exporter.sources.nvml_limits import from_margins
from exporter.sources.nvml_links import ALL_LINKS, Unwrapped
from exporter.sources.nvml_mig import profile
from exporter.sources.nvml_processes import latest

Values = dict[tuple[str, ...], float]
ANSWERS: dict[Any, Any] = {
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=93, memory=41),
    "nvmlDeviceGetTemperatureV": 61,
    "nvmlDeviceGetMarginTemperature": 26,
    ("nvmlDeviceGetClockInfo", 1): 1980,
    "nvmlDeviceGetCurrentClocksEventReasons": 0b1001000,
    "nvmlDeviceGetNumFans": 1,
    ("nvmlDeviceGetFanSpeed_v2", 0): 30,
    "nvmlDeviceGetRemappedRows": (3, 1, 1, 0),
    ("nvmlDeviceGetNvLinkState", 0): 1,
    ("nvmlDeviceGetNvLinkState", 1): 0,
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetComputeRunningProcesses_v3": [],
}
FIELDS: dict[Field, int] = {
    (82, 0): 70, (83, 0): 5_000, (186, 0): 250_500, (269, 0): 2_000_000_000, (270, 0): 500_000_000,
    (230, 0): 1, (163, 0): 12, (163, 1): 0, (138, ALL_LINKS): 3, (187, 0): 200_000,
}  # fmt: skip


class Card:
    """A driver with one GPU that returns values from tables; missing entries are not supported."""

    def __init__(self, answers: dict[Any, Any], fields: dict[Field, int]) -> None:
        self.answers, self.known = dict(answers), dict(fields)
        self.refused: set[Field] = set()
        self.batches: list[list[Field]] = []
        self.learned = 0
        self.profile: dict[int, float] = {}
        self.new_shares: list[Share] | None = None
        self.asked_since: list[int] = []

    def ask(self, slot: int, name: str, *arguments: int, of: Any = None) -> Any:
        if of is not None:
            return of.get(name)
        return self.answers.get((name, *arguments), self.answers.get(name))

    def first(self, slot: int, *names: str, arguments: tuple[int, ...] = ()) -> Any:
        given = (self.ask(slot, name, *arguments) for name in names)
        return next((answer for answer in given if answer is not None), None)

    def fields(self, slot: int, wanted: Iterable[Field]) -> dict[Field, int]:
        asked = [field for field in wanted if field not in self.refused]
        if asked:
            self.batches.append(asked)
        self.refused |= set(asked) - self.known.keys()
        return {field: self.known[field] for field in asked if field in self.known}

    def lacks(self, slot: int, field: Field) -> bool:
        return field in self.refused

    def memory(self, slot: int, of: Any = None) -> Any:
        return (
            SimpleNamespace(total=80, used=50, free=25, reserved=5) if of is None else of["memory"]
        )

    def fabric(self, slot: int) -> Any:
        return self.answers.get("fabric")

    def sram(self, slot: int) -> Any:
        return None

    def gpm(
        self, slot: int, metrics: Sequence[int], instance: int | None = None
    ) -> dict[int, float]:
        return {metric: value for metric, value in self.profile.items() if metric in metrics}

    def shares(self, slot: int, since: int) -> list[Share] | None:
        self.asked_since.append(since)
        return self.new_shares

    def relearn(self, slot: int) -> None:
        self.learned += 1


@pytest.fixture
def card() -> Card:
    return Card(ANSWERS, FIELDS)


def read(card: Card | GroupReader, group: Group, now: float = 0.0) -> Values:
    groups = card if isinstance(card, GroupReader) else GroupReader(card)
    return {(name, *labels): value for name, labels, value in groups.read(0, group, now)}


def test_a_card_is_a_driver(card: Card) -> None:
    driver: NvmlApi = card
    assert driver.lacks(0, (82, 0)) is False


@pytest.mark.parametrize("group", READ_GROUPS)
def test_every_reading_is_a_row_of_the_catalogue(card: Card, group: Group) -> None:
    card.profile = {1: 1.0, 20: 1.0}
    for name, *labels in read(card, group):
        metric = catalogue().get(name)
        assert (metric.collector, len(metric.labels)) == (f"gpu_{group}", 2 + len(labels))


def test_a_card_that_supports_nothing_gives_nothing_and_fails_nothing() -> None:
    bare = Card({}, {})
    for group in READ_GROUPS:
        given = {key[0] for key in read(bare, group)}
        assert given <= {
            f"gpu_memory_{what}_bytes" for what in ("total", "used", "free", "reserved")
        }


def test_load_comes_in_base_units(card: Card) -> None:
    given = read(card, "load")
    assert given["gpu_utilization_ratio",] == 0.93
    assert given["gpu_temperature_celsius", "memory"] == 70
    assert given["gpu_power_watts", "gpu"] == 250.5
    assert given["gpu_energy_joules_total",] == 5
    assert given["gpu_clock_hertz", "sm"] == 1.98e9
    assert given["gpu_fan_speed_ratio", "0"] == 0.3
    assert given["gpu_clock_event_active", "hw_slowdown"] == 1
    assert given["gpu_clock_event_active", "hw_thermal_slowdown"] == 1
    assert given["gpu_clock_event_active", "gpu_idle"] == 0
    assert given["gpu_clock_event_seconds_total", "sw_thermal_slowdown"] == 2


def test_a_load_read_asks_for_all_its_field_values_at_once(card: Card) -> None:
    groups = GroupReader(card)
    read(groups, "load")
    card.batches.clear()
    read(groups, "load")
    assert len(card.batches) == 1
    assert (185, 0) not in card.batches[
        0
    ]  # the average is expensive and not needed with the instantaneous value


@pytest.mark.parametrize("margin", [0, -3, None])
def test_a_margin_that_says_nothing_plausible_is_left_out(card: Card, margin: int | None) -> None:
    card.answers["nvmlDeviceGetMarginTemperature"] = margin
    assert ("gpu_thermal_margin_celsius",) not in read(card, "load")


def test_a_sensor_that_is_not_there_may_read_zero(card: Card) -> None:
    card.known |= {(82, 0): 0, (186, 2): 0, (186, 1): 900_000}
    given = read(card, "load")
    assert ("gpu_temperature_celsius", "memory") not in given
    assert ("gpu_power_watts", "memory") not in given
    assert given["gpu_power_watts", "module"] == 900


def test_the_older_call_stands_in_for_a_field_that_is_missing(card: Card) -> None:
    del card.known[186, 0], card.known[83, 0]
    card.answers |= {
        "nvmlDeviceGetPowerUsage": 99_000,
        "nvmlDeviceGetTotalEnergyConsumption": 7_000,
    }
    given = read(card, "load")
    assert (given["gpu_power_watts", "gpu"], given["gpu_energy_joules_total",]) == (99, 7)


def test_an_older_driver_tells_seconds_of_throttling_as_violations(card: Card) -> None:
    del card.known[269, 0], card.known[270, 0]
    card.answers["nvmlDeviceGetViolationStatus", 1] = SimpleNamespace(violationTime=3_000_000_000)
    given = read(card, "load")
    seconds = {key[1]: v for key, v in given.items() if key[0] == "gpu_clock_event_seconds_total"}
    assert seconds == {"thermal_slowdown": 3}


def test_profiling_metrics_are_shares_and_bytes_a_second(card: Card) -> None:
    card.profile = {2: 92.5, 7: 48.0, 21: 2.0}
    given = read(card, "gpm")
    assert given["gpu_sm_active_ratio",] == 0.925
    assert given["gpu_tensor_active_ratio", "hmma"] == 0.48
    assert given["gpu_pcie_receive_bytes_per_second",] == 2 * 1024**2


def test_the_driver_recommends_one_action(card: Card) -> None:
    given = read(card, "health")
    actions = {key[1]: v for key, v in given.items() if key[0] == "gpu_recovery_action"}
    assert actions["gpu_reset"] == 1
    assert sum(actions.values()) == 1


@pytest.mark.parametrize(
    ("number", "name"), [(6, "bus_reset"), (7, "system_reboot"), (9, "action_9")]
)
def test_an_action_that_is_new_is_not_taken_for_none(card: Card, number: int, name: str) -> None:
    card.known[230, 0] = number
    given = read(card, "health")
    assert given["gpu_recovery_action", name] == 1
    assert given["gpu_recovery_action", "none"] == 0


def test_an_error_count_of_all_ones_is_no_count(card: Card) -> None:
    card.answers["nvmlDeviceGetMemoryErrorCounter"] = (1 << 64) - 1
    card.answers["nvmlDeviceGetMemoryErrorCounter", 1, 0, 2] = 5
    ecc = {
        key[1:]: v for key, v in read(card, "health").items() if key[0] == "gpu_ecc_errors_total"
    }
    assert ecc == {("uncorrected", "volatile", "dram"): 5}


def test_retired_pages_are_told_by_cards_that_retire_pages(card: Card) -> None:
    card.known |= {(29, 0): 4, (30, 0): 1}
    assert not {key for key in read(card, "health") if key[0].startswith("gpu_retired")}
    card.answers["nvmlDeviceGetRetiredPagesPendingStatus"] = 1
    given = read(card, "health")
    assert given["gpu_retired_pages_total", "double_bit"] == 1
    assert given["gpu_retired_pages_pending",] == 1


@pytest.mark.parametrize(
    ("mask", "sick"),
    [
        (2 | 2 << 2 | 2 << 4 | 2 << 6 | 1 << 8, set()),
        (1 | 2 << 2 | 1 << 4, {"bandwidth", "route"}),
        (2 | 5 << 8, {"configuration"}),
        (0, set()),
    ],
)
def test_the_fabric_is_healthy_unless_it_says_otherwise(
    card: Card, mask: int, sick: set[str]
) -> None:
    card.answers["fabric"] = SimpleNamespace(
        state=3, status=0, healthMask=mask, clusterUuid=[1] * 16, cliqueId=7
    )
    given = read(card, "health")
    health = {key[1]: value for key, value in given.items() if key[0] == "gpu_fabric_health"}
    assert {condition for condition, value in health.items() if value == 0} == sick
    assert given["gpu_fabric_state", "completed"] == 1
    assert given["gpu_fabric_info", "01" * 16, "7"] == 1
    if not mask:
        assert not health  # nothing is known


def test_a_fabric_that_is_not_registered_has_no_health(card: Card) -> None:
    card.answers["fabric"] = SimpleNamespace(state=2, status=0, healthMask=1)
    given = read(card, "health")
    assert given["gpu_fabric_state", "in_progress"] == 1
    assert not {key for key in given if key[0] in ("gpu_fabric_health", "gpu_fabric_info")}


def test_links_tell_state_errors_and_bytes(card: Card) -> None:
    given = read(card, "links")
    assert (given["gpu_nvlink_up", "0"], given["gpu_nvlink_up", "1"]) == (1, 0)
    assert ("gpu_nvlink_up", "2") not in given
    assert given["gpu_nvlink_active_links",] == 1
    assert given["gpu_nvlink_errors_total", "0", "crc"] == 12
    assert given["gpu_nvlink_faults_total",] == 12
    assert given["gpu_nvlink_transmit_bytes_total",] == 3 * 1024
    assert ("gpu_nvlink_receive_bytes_total",) not in given


def test_links_of_an_older_card_are_counted_by_their_own_fields(card: Card) -> None:
    card.known = {(46, 0): 1, (47, 0): 2, (59, 0): 9, (149, 0): 4}
    given = read(card, "links")
    errors = {key[1:]: v for key, v in given.items() if key[0] == "gpu_nvlink_errors_total"}
    assert errors == {
        ("0", "replay"): 1, ("1", "replay"): 2, ("1", "ecc"): 4, ("total", "recovery"): 9,
    }  # fmt: skip
    assert given["gpu_nvlink_faults_total",] == 12


def test_the_faults_of_all_links_do_not_fall_with_a_link(card: Card) -> None:
    card.known = {(161, 0): 5, (161, 1): 3, (163, 0): 2, (221, 0): 100}
    groups = GroupReader(card)
    assert read(groups, "links")["gpu_nvlink_faults_total",] == 10
    card.known = {(161, 0): 6, (163, 0): 2}
    assert read(groups, "links")["gpu_nvlink_faults_total",] == 11
    card.known = {}
    assert read(GroupReader(card), "links").get(("gpu_nvlink_faults_total",)) is None


def test_bytes_of_newer_links_are_added_up_and_do_not_fall_with_a_link(card: Card) -> None:
    card.known = {(202, 0): 100, (202, 1): 50, (204, 0): 7}
    groups = GroupReader(card)
    assert read(groups, "links")["gpu_nvlink_transmit_bytes_total",] == 150
    card.known = {(202, 0): 110, (204, 0): 9}
    given = read(groups, "links")
    assert given["gpu_nvlink_transmit_bytes_total",] == 160
    assert given["gpu_nvlink_receive_bytes_total",] == 9


def test_pcie_bytes_start_at_zero_and_follow_the_gpu_not_its_number(card: Card) -> None:
    card.known |= {(197, 0): 4_000_000_000}
    groups = GroupReader(card)
    groups.set_uuid(0, "GPU-a")
    name = ("gpu_pcie_transmit_bytes_total",)
    assert read(groups, "links")[name] == 0
    card.known[197, 0] = 100
    assert read(groups, "links")[name] == 100 + (1 << 32) - 4_000_000_000
    groups.set_uuid(0, "GPU-b")
    card.known[197, 0] = 3_000_000
    assert read(groups, "links")[name] == 0


@pytest.mark.parametrize(
    ("raws", "total"),
    [
        ([7], 0),
        ([7, 7], 0),
        ([7, 19], 12),
        ([(1 << 32) - 1, 0], 1),
        ([(1 << 32) - 10, 5, 25], 35),
        ([1000, 30], 30),  # the card was reset
        ([5 << 32, 3], 3),  # a counter of more than 32 bits does not wrap: reset
        ([5 << 32, 6 << 32], 1 << 32),
    ],
)
def test_a_counter_of_32_bits_is_unwrapped(raws: list[int], total: int) -> None:
    counter = Unwrapped()
    assert [counter.add(raw) for raw in raws][-1] == total


def test_power_limits_fall_back_on_the_older_calls(card: Card) -> None:
    card.answers |= {
        "nvmlDeviceGetPowerManagementLimitConstraints": [100_000, 700_000],
        "nvmlDeviceGetEnforcedPowerLimit": 650_000,
    }
    limits = {k[1]: v for k, v in read(card, "limits").items() if k[0] == "gpu_power_limit_watts"}
    assert limits == {"min": 100, "max": 700, "enforced": 650}


def test_thresholds_are_degrees_where_the_card_tells_degrees(card: Card) -> None:
    card.answers |= {
        ("nvmlDeviceGetTemperatureThreshold", n): d for n, d in enumerate((92, 89, 95, 87))
    }
    card.known |= {(193, 0): -8}
    assert thresholds(card) == {"shutdown": 92, "slowdown": 89, "memory_max": 95, "gpu_max": 87}


@pytest.mark.parametrize("told", [None, 0, (1 << 32) - 8, 5])
def test_margins_are_not_taken_for_degrees(card: Card, told: int | None) -> None:
    card.answers["nvmlDeviceGetTemperatureThreshold"] = told
    card.known |= {(193, 0): (1 << 32) - 8, (194, 0): -2, (196, 0): 0, (195, 0): -10}
    # 61 degrees now and a margin of 26: the limit is 87
    assert thresholds(card) == {"shutdown": 95, "slowdown": 89, "gpu_max": 87}


def thresholds(card: Card) -> dict[str, float]:
    name = "gpu_temperature_threshold_celsius"
    return {key[1]: value for key, value in read(card, "limits").items() if key[0] == name}


@pytest.mark.parametrize(("now", "left"), [(None, 26), (61, None)])
def test_margins_alone_give_no_threshold(now: int | None, left: int | None) -> None:
    assert from_margins({"shutdown": -8}, now, left) == {}


def test_a_margin_out_of_all_proportion_gives_no_threshold() -> None:
    assert from_margins({"shutdown": 9_000, "slowdown": -2}, 61, 26) == {"slowdown": 89}


def part(instance: int, compute: int) -> dict[str, Any]:
    return {
        "nvmlDeviceGetGpuInstanceId": instance,
        "nvmlDeviceGetComputeInstanceId": compute,
        "nvmlDeviceGetUUID": f"MIG-{instance}-{compute}",
        "nvmlDeviceGetName": b"NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "memory": SimpleNamespace(total=40, used=9),
    }


def test_parts_are_read_one_by_one_and_measured_by_instance(card: Card) -> None:
    card.answers |= {
        "nvmlDeviceGetMigMode": [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        ("nvmlDeviceGetMigDeviceHandleByIndex", 0): part(1, 0),
        ("nvmlDeviceGetMigDeviceHandleByIndex", 2): part(1, 1),
        ("nvmlDeviceGetMigDeviceHandleByIndex", 3): part(2, 0),
    }
    card.profile = {2: 50.0}
    given = read(card, "mig")
    assert given["gpu_mig_info", "1", "1", "MIG-1-1", "3g.40gb"] == 1
    assert given["gpu_mig_memory_used_bytes", "2", "0"] == 9
    active = {key[1]: v for key, v in given.items() if key[0] == "gpu_mig_sm_active_ratio"}
    assert active == {"1": 0.5, "2": 0.5}


def test_a_gpu_that_becomes_partitioned_or_whole_is_learned_anew(card: Card) -> None:
    groups = GroupReader(card)
    learned = []
    for mode in ([0, 0], [0, 1], [1, 1], [1, 1], [0, 0]):
        card.answers["nvmlDeviceGetMigMode"] = mode
        read(groups, "mig")
        learned.append(card.learned)
    assert learned == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("NVIDIA H100 MIG 1g.10gb+me", "1g.10gb+me"), ("NVIDIA H100", ""), ("", "")],
)
def test_the_profile_is_in_the_name(name: str, shape: str) -> None:
    assert profile(name) == shape


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_memory_of_a_process_that_is_not_known_is_left_out(card: Card) -> None:
    card.answers |= {
        "nvmlDeviceGetComputeRunningProcesses_v3": [process(7, 100), process(8, None)],
        "nvmlDeviceGetGraphicsRunningProcesses_v3": [process(7, 120)],
    }
    assert read(card, "processes") == {
        ("gpu_processes", "compute"): 2,
        ("gpu_processes", "graphics"): 1,
        ("gpu_process_memory_bytes", "7", ""): 120,
    }


def test_shares_are_asked_for_since_the_newest_one_seen(card: Card) -> None:
    groups = GroupReader(card)
    card.new_shares = [Share(7, 30, 995_000_000), Share(7, 40, 999_000_000), Share(0, 0, 0)]
    given = read(groups, "processes", 1000.0)
    assert given["gpu_process_sm_ratio", "7", ""] == 0.4
    card.new_shares = None
    read(groups, "processes", 1010.0)
    read(groups, "processes", 900.0)  # the clock was set back
    assert card.asked_since == [990_000_000, 999_000_000, 900_000_000]


def test_empty_old_and_senseless_shares_are_left_out() -> None:
    shares = [Share(0, 0, 0), Share(5, 30, 10), Share(6, 4_000_000_000, 50), Share(7, 100, 50)]
    assert latest(shares, 20) == {7: Share(7, 100, 50)}


def test_the_first_field_that_the_card_has_is_chosen_and_the_others_are_not_asked_again() -> None:
    card = Card({}, {(185, 0): 3, (9, 0): 4})
    wanted: dict[str, tuple[Field, ...]] = {
        "power": ((186, 0), (185, 0)), "other": ((9, 0),), "none": ((1, 0), (2, 0)),
    }  # fmt: skip
    assert choose(card, 0, wanted) == {"power": 3, "other": 4}
    card.batches.clear()
    assert choose(card, 0, wanted) == {"power": 3, "other": 4}
    assert card.batches == [[(185, 0), (9, 0)]]


@pytest.mark.parametrize(
    ("told", "number"), [(None, None), (61, 61), ((1 << 32) - 5, -5), (-5, -5), (1 << 40, None)]
)
def test_a_number_told_without_its_sign_gets_it_back(told: int | None, number: int | None) -> None:
    assert signed(told) == number


@pytest.mark.parametrize(("told", "number"), [(None, None), (0, None), (-3, None), (4, 4)])
def test_only_a_positive_number_says_anything(told: int | None, number: int | None) -> None:
    assert positive(told) == number
