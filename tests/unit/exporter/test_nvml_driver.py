"""The results of the library's errors: remembered, counted, a lost GPU, or a failed source.

The library itself is not used: the tests call fake functions.
"""

from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from exporter.sources.base import GpuEvent, SourceFailed, SourceLost
from exporter.sources.nvml import NvmlDriver, events


class Library:
    """A fake function that returns the specified results in order; numbers in `codes` are errors."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _handle: object, *_: object) -> object:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, pynvml.NVMLError):
            raise answer
        return answer


def refusal(name: str) -> pynvml.NVMLError:
    return pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{name}"))


@pytest.fixture
def announced() -> list[str]:
    return []


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, announced: list[str]) -> NvmlDriver:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda slot: f"handle {slot}")
    return NvmlDriver(lambda: announced.append("call"))


@pytest.mark.parametrize("name", ["NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "INVALID_ARGUMENT"])
def test_what_is_not_supported_is_not_asked_again_and_is_no_error(
    driver: NvmlDriver, name: str
) -> None:
    library = Library(refusal(name))
    assert [driver.call(0, "fans", library) for _ in range(3)] == [None, None, None]
    assert library.asked == 1
    assert driver.errors == {}


def test_it_is_remembered_for_this_gpu_and_until_it_is_learned_anew(driver: NvmlDriver) -> None:
    library = Library(refusal("NOT_SUPPORTED"), 3)
    driver.call(0, "fans", library)
    assert driver.call(1, "fans", library) == 3
    assert driver.call(0, "fans", library) is None
    driver.relearn(0)
    assert driver.call(0, "fans", library) == 3


def test_a_part_that_does_not_support_something_does_not_speak_for_the_whole(
    driver: NvmlDriver,
) -> None:
    library = Library(refusal("NOT_SUPPORTED"), 3)
    assert driver.call(0, "memory", library, of="part") is None
    assert driver.call(0, "memory", library) == 3


def test_other_refusals_are_counted_by_code_and_asked_again(driver: NvmlDriver) -> None:
    library = Library(refusal("UNKNOWN"), refusal("TIMEOUT"), refusal("UNKNOWN"), 5)
    assert [driver.call(0, "rows", library) for _ in range(4)] == [None, None, None, 5]
    assert driver.errors == {"999": 2, "10": 1}


def test_no_permission_is_counted_once_and_not_asked_again(driver: NvmlDriver) -> None:
    library = Library(refusal("NO_PERMISSION"))
    assert [driver.call(0, "rows", library) for _ in range(2)] == [None, None]
    assert (driver.errors, library.asked) == ({"4": 1}, 1)


@pytest.mark.parametrize("name", ["NOT_FOUND", "NO_DATA"])
def test_nothing_new_is_no_error(driver: NvmlDriver, name: str) -> None:
    library = Library(refusal(name), 4)
    assert [driver.call(0, "shares", library) for _ in range(2)] == [None, 4]
    assert driver.errors == {}


def test_an_argument_that_was_valid_before_is_an_error_and_is_asked_again(
    driver: NvmlDriver,
) -> None:
    library = Library(7, refusal("INVALID_ARGUMENT"), 8)
    assert [driver.call(0, "rows", library) for _ in range(3)] == [7, None, 8]
    assert driver.errors == {"2": 1}


@pytest.mark.parametrize("name", ["GPU_IS_LOST", "GPU_NOT_FOUND"])
def test_a_lost_gpu_is_lost_but_a_lost_part_is_only_absent(driver: NvmlDriver, name: str) -> None:
    with pytest.raises(SourceLost):
        driver.call(0, "rows", Library(refusal(name)))
    assert driver.call(0, "rows", Library(refusal(name)), of="part") is None
    assert driver.errors == {}


@pytest.mark.parametrize(
    "name", ["UNINITIALIZED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "LIBRARY_NOT_FOUND"]
)
def test_a_library_that_is_of_no_use_fails_all(driver: NvmlDriver, name: str) -> None:
    with pytest.raises(SourceFailed, match="NVML does not respond"):
        driver.call(0, "rows", Library(refusal(name)))


def test_each_call_is_announced_before_it_is_made(driver: NvmlDriver, announced: list[str]) -> None:
    seen: list[int] = []
    driver.call(0, "rows", lambda _handle: seen.append(len(announced)))
    assert seen == [2]  # the handle, and the call
    driver.call(0, "rows", lambda _handle: seen.append(len(announced)))
    assert seen == [2, 3]


def test_only_functions_on_the_list_may_be_asked(driver: NvmlDriver) -> None:
    with pytest.raises(KeyError):
        driver.ask(0, "nvmlDeviceGetPcieThroughput")


def handles(*answers: object) -> Callable[[int], Any]:
    library = Library(*answers)
    return lambda slot: library(slot)


def test_a_gpu_that_we_may_not_open_is_not_ours_to_watch(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handles(refusal("NO_PERMISSION")))
    with pytest.raises(SourceLost):
        driver.handle(3)
    assert driver.forbidden == {3}


def test_a_gpu_without_a_handle_is_lost_and_may_come_back(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = handles(refusal("GPU_IS_LOST"), refusal("UNKNOWN"), "handle")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", answers)
    for _ in range(2):
        with pytest.raises(SourceLost):
            driver.handle(0)
    assert driver.handle(0) == "handle"
    assert driver.forbidden == set()


def test_a_gpu_is_verified_by_a_handle_of_its_own(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.handle(0)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", handles(refusal("GPU_IS_LOST")))
    driver.handle(0)
    with pytest.raises(SourceLost):
        driver.verify(0)


def values(**codes: int) -> Any:
    made = (pynvml.c_nvmlFieldValue_t * len(codes))()
    for value, (kind, code) in zip(made, codes.items(), strict=True):
        value.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
        value.nvmlReturn = code
        value.value.uiVal = int(kind.removeprefix("v"))
    return made


def fields(monkeypatch: pytest.MonkeyPatch, *answers: object) -> Library:
    library = Library(*answers)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetFieldValues", library)
    return library


def test_field_values_are_judged_one_by_one(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields(monkeypatch, values(v1=0, v2=3, v3=999, v4=6))
    wanted = [(1, 0), (2, 0), (3, 5), (4, 0)]
    assert driver.fields(0, wanted) == {(1, 0): 1}
    assert [driver.lacks(0, field) for field in wanted] == [False, True, False, False]
    assert driver.errors == {"999": 1}


def test_a_field_value_that_says_lost_is_a_loss(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields(monkeypatch, values(v1=pynvml.NVML_ERROR_GPU_IS_LOST))
    with pytest.raises(SourceLost):
        driver.fields(0, [(1, 0)])


def test_a_driver_without_field_values_has_none(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = fields(monkeypatch, refusal("FUNCTION_NOT_FOUND"))
    assert driver.fields(0, [(1, 0)]) == driver.fields(0, [(2, 0)]) == {}
    assert driver.lacks(0, (3, 0))
    assert library.asked == 1


def test_many_field_values_are_asked_for_in_batches(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = fields(monkeypatch, values(**{f"v{place}": 0 for place in range(64)}))
    assert len(driver.fields(0, [(place, 0) for place in range(100)])) == 100
    assert library.asked == 2


def test_the_newer_memory_call_is_not_replaced_for_one_failure(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(refusal("UNKNOWN"), refusal("FUNCTION_NOT_FOUND"), "older")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", library)
    assert driver.memory(0) is None  # the older call would report another used memory
    assert driver.memory(0) == "older"


def test_the_second_name_is_asked_where_the_first_is_not_known(
    driver: NvmlDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Library(refusal("UNKNOWN"), refusal("FUNCTION_NOT_FOUND"))
    names = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
    monkeypatch.setattr(pynvml, names[0], new)
    monkeypatch.setattr(pynvml, names[1], Library(64))
    assert [driver.first(0, *names) for _ in range(3)] == [None, 64, 64]
    assert new.asked == 2


class Support:
    isSupportedDevice = 1


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Fake profiling calls: samples are numbers, metrics are their differences."""
    counts = {"made": 0, "freed": 0}

    def alloc() -> int:
        counts["made"] += 1
        return counts["made"]

    def free(_sample: int) -> None:
        counts["freed"] += 1

    monkeypatch.setattr(pynvml, "nvmlGpmQueryDeviceSupport", Library(Support()))
    monkeypatch.setattr(pynvml, "nvmlGpmSampleAlloc", alloc)
    monkeypatch.setattr(pynvml, "nvmlGpmSampleFree", free)
    monkeypatch.setattr(pynvml, "nvmlGpmSampleGet", lambda _handle, _sample: None)
    monkeypatch.setattr(pynvml, "nvmlGpmMigSampleGet", lambda _handle, _instance, _sample: None)
    monkeypatch.setattr(
        "exporter.sources.nvml._gpm_metrics", lambda _h, before, after, _m: {2: after - before}
    )
    return counts


def test_profiling_needs_two_samples_and_keeps_one(
    driver: NvmlDriver, samples: dict[str, int]
) -> None:
    assert driver.gpm(0, (2,)) == {}
    assert driver.gpm(0, (2,)) == {2: 1}
    assert driver.gpm(0, (2,), instance=1) == {}
    assert samples == {"made": 3, "freed": 1}
    driver.forget()
    assert samples == {"made": 3, "freed": 3}
    assert driver.gpm(0, (2,)) == {}


def test_a_sample_that_was_not_taken_is_freed(
    driver: NvmlDriver, samples: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pynvml, "nvmlGpmSampleGet", Library(refusal("UNKNOWN")))
    assert driver.gpm(0, (2,)) == {}
    assert samples == {"made": 1, "freed": 1}
    assert driver.errors == {"999": 1}


def test_a_card_before_hopper_is_asked_once_whether_it_profiles(
    driver: NvmlDriver, samples: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    no = Support()
    no.isSupportedDevice = 0
    asked = Library(no)
    monkeypatch.setattr(pynvml, "nvmlGpmQueryDeviceSupport", asked)
    assert driver.gpm(0, (2,)) == driver.gpm(0, (2,)) == {}
    assert (asked.asked, samples["made"]) == (1, 0)


def test_events_of_a_lost_gpu_are_told_and_then_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInitWithFlags", lambda _flags: None)
    monkeypatch.setattr(pynvml, "nvmlEventSetCreate", lambda: "set")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
    library = Library(refusal("TIMEOUT"), refusal("GPU_IS_LOST"))
    monkeypatch.setattr(pynvml, "nvmlEventSetWait_v2", library)
    heard = events(lambda *_, **__: None)
    assert next(heard) is None
    assert next(heard) == GpuEvent("", "", "unavailable", 0x4000)
    with pytest.raises(SourceFailed):
        next(heard)
