"""The machine's families beside those of the real node_exporter: names, types, labels and values."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.catalogue import catalogue
from exporter.collectors import diskstats, filesystem, netdev, systemd
from exporter.host_collectors import HOST

pytestmark = pytest.mark.integration

TREE = Path(__file__).resolve().parents[1] / "unit/exporter/host_tree"
OURS = {metric.name for entry in HOST for metric in catalogue().of_collector(entry.name)}
# What node_exporter 1.5 does not have: later releases do, or the reason stands in docs/exporter.md.
LATER = re.compile(
    r"node_pressure_irq_stalled_seconds_total|node_infiniband_(duplicate_requests|implied_nak"
    r"|local_ack|np_|out_of_|packet_seq|re[qs]p?_|rnr_|roce_|rp_|rx_)\w+"
)
OWN = {
    "node_processes_uninterruptible", "node_pci_aer_errors_total", "node_kernel_module_loaded",
}  # fmt: skip
# What node_exporter 1.9 has no longer: it reads a fixed list of the fields of /proc/meminfo.
NO_LONGER = re.compile(r"node_memory_(FileHugePages|Hugetlb|KReclaimable)_bytes")
# Labels that one release of node_exporter has and another has not.
LABELS_OF_A_RELEASE = {"adminstate", "device_error"}
# Both ask the kernel that runs and not the tree, or the tree's mounts, which are those of nobody.
NOT_OF_THE_TREE = {"filesystem", "time", "timex", "uname", "systemd"}

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Page:
    """What an exporter says of the families that are ours to give."""

    types: dict[str, str]
    values: dict[Key, float]

    @staticmethod
    def read(text: str) -> Page:
        page = Page({}, {})
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in OURS:
                    page.types[sample.name] = family.type
                    page.values[sample.name, frozenset(sample.labels.items())] = sample.value
        return page

    def label_names(self, family: str) -> set[str]:
        return {label for name, labels in self.values if name == family for label, _ in labels}

    def without(self, family: str, names: set[str]) -> dict[Key, float]:
        """The series of a family, without these labels."""
        return {
            (name, frozenset(pair for pair in labels if pair[0] not in names)): value
            for (name, labels), value in self.values.items()
            if name == family
        }


@contextmanager
def node_exporter(program: Path, port: int, *arguments: str) -> Iterator[Callable[[], Page]]:
    """A node_exporter that runs; what is given asks it for its page."""
    excludes = [
        f"--collector.diskstats.device-exclude={diskstats.EXCLUDE}",
        f"--collector.filesystem.mount-points-exclude={filesystem.MOUNTS_EXCLUDE}",
        f"--collector.filesystem.fs-types-exclude={filesystem.TYPES_EXCLUDE}",
        f"--collector.netdev.device-exclude={netdev.EXCLUDE}",
        f"--collector.netclass.ignored-devices={netdev.EXCLUDE}",
        f"--collector.systemd.unit-include={systemd.INCLUDE}",
    ]
    asked = ["mountstats", "processes", "softnet", "systemd", "systemd.enable-restarts-metrics"]
    command = [
        str(program), f"--web.listen-address=127.0.0.1:{port}", *excludes,
        *(f"--collector.{name}" for name in asked), *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask() -> Page:
        until = time.monotonic() + 15
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                    return Page.read(page.read().decode())
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.05)

    try:
        ask()
        yield ask
    finally:
        process.terminate()
        process.wait(10)


def ours(folder: Path, *arguments: str) -> Page:
    command = [
        sys.executable, "-m", "fleetmedic.cli", "exporter", "--once", f"--state.dir={folder}",
        f"--path.kmsg={os.devnull}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return Page.read(done.stdout)


@pytest.fixture(scope="module")
def program(parts: dict[str, Path]) -> Path:
    return parts["node_exporter"]


@pytest.fixture(scope="module")
def of_tree(
    program: Path, new_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Page, Page]:
    """What both say of the same files: node_exporter's page and ours."""
    paths = [f"--path.procfs={TREE}/proc", f"--path.sysfs={TREE}/sys", f"--path.rootfs={TREE}/root"]
    # netlink asks the kernel for the interfaces that there are, and not the tree
    with node_exporter(program, new_port(), *paths, "--no-collector.netdev.netlink") as ask:
        return ask(), ours(tmp_path_factory.mktemp("state"), *paths)


def families_of_tree() -> Iterator[str]:
    for entry in HOST:
        if entry.name not in NOT_OF_THE_TREE:
            yield from (metric.name for metric in catalogue().of_collector(entry.name))


@pytest.mark.parametrize("family", sorted(families_of_tree()))
def test_of_the_same_files_both_say_the_same(family: str, of_tree: tuple[Page, Page]) -> None:
    theirs, mine = of_tree
    assert family in mine.types
    if family not in theirs.types:
        accepted = family in OWN or LATER.fullmatch(family) or NO_LONGER.fullmatch(family)
        assert accepted, "a name that node_exporter does not know"
        return
    assert mine.types[family] == theirs.types[family]
    some = LABELS_OF_A_RELEASE
    assert mine.label_names(family) - some == theirs.label_names(family) - some
    found, known = mine.without(family, some), theirs.without(family, some)
    if family == "node_network_speed_bytes":  # unknown is -125000 there, and nothing here
        known = {key: value for key, value in known.items() if value >= 0}
    if family == "node_processes_state":  # a state without a process is 0 here, and nothing there
        found = {key: value for key, value in found.items() if value or key in known}
    if family.startswith("node_mountstats_nfs_operations"):  # here those that matter, there all
        known = {key: value for key, value in known.items() if key in found}
    assert found == pytest.approx(known)


def test_of_this_machine_both_say_the_same(
    program: Path, new_port: Callable[[], int], tmp_path: Path
) -> None:
    """What only grows must lie between what node_exporter says before and after."""
    with node_exporter(program, new_port()) as ask:
        before, mine, after = ask(), ours(tmp_path), ask()
    both = sorted(mine.types.keys() & before.types.keys())
    assert len(both) > 80, "on any Linux machine there is that much"
    assert {name: mine.types[name] for name in both} == {n: before.types[n] for n in both}
    for name in both:
        some = LABELS_OF_A_RELEASE
        assert mine.label_names(name) - some == before.label_names(name) - some, name
    wrong = []
    for (name, labels), value in mine.values.items():
        first = before.without(name, set()).get((name, labels))
        last = after.without(name, set()).get((name, labels))
        if first is not None and last is not None and not _plausible(name, first, value, last):
            wrong.append((name, sorted(labels), first, value, last))
    assert wrong == []


def _plausible(name: str, first: float, value: float, last: float) -> bool:
    low, high = min(first, last), max(first, last)
    metric = catalogue().get(name)
    # processor time that the kernel took back, node_exporter and we hold each on our own
    slack = 0.1 if name == "node_cpu_seconds_total" else 1e-6 * abs(high)
    if metric.type != "counter" and metric.unit not in ("info", "bool"):
        slack = {"bytes": 512e6, "seconds": 1.0, "timestamp": 1.0}.get(metric.unit, 20.0)
        slack += 0.1 * abs(high)
    return low - slack <= value <= high + slack
