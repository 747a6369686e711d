"""Every dashboard, drawn by Chromium on a real stack during an incident."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleetmedic.hardware.faults import inject
from fleetmedic.hardware.state import Hardware
from fleetmedic.kernel.home import StackFile
from fleetmedic.localcluster.client import LocalCluster
from fleetmedic.localcluster.model import JobSpec
from fleetmedic.stack.lifecycle import Stack, StackOptions
from remediator.dashboards.dashboard_library import dashboards
from remediator.journal import read_events

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.integration
WIDTHS = {"laptop": 1280, "wall": 1920, "phone": 390}
# Panels that can be empty on two simulated nodes a minute after their start, and why. In test_every_alert,
# which raises every alert, only panels of detectors can be empty.
EMPTY: dict[str, str] = {
    # the service of this stack answers requests, not tokens
    "Token throughput": "no tokens",
    "Token throughput by replica": "no tokens",
    "Error budget remaining (3 d)": "its recording rule covers three days and runs every ten minutes",
    # hardware and services that this machine lacks, or that are healthy
    "Memory errors (EDAC)": "no EDAC",
    "InfiniBand port state": "no InfiniBand",
    "Kernel events": "no fault in the kernel log",
    "Failed systemd units": "no systemd",
    # what needs minutes of a job
    "SM clock deviation from job peers": "a median over minutes",
    "Anomaly alerts over time": "no detector alert fires",
    # what was not caused
    "SM clock throttling by reason": "no GPU is hot",
    "Held incidents by reason": "no incident is held",
    "Notifications by channel": "no channel is configured",
}
PANELS = """[...document.querySelectorAll('section[data-panel]:not(.row):not(.text)')].map(one => ({
  title: one.querySelector('h3').textContent, state: one.dataset.state ?? 'never asked',
  said: one.querySelector('.body').textContent, height: one.querySelector('.body').clientHeight,
  drawn: one.querySelectorAll('canvas, .number, .track div, tbody tr').length}))"""


@pytest.fixture(scope="module")
def stack(
    parts: dict[str, Path],
    new_port_base: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
    browser: Browser,
) -> Iterator[Stack]:
    """Two nodes, a job, and a lost GPU that the remediator acts on."""
    for name in ("prometheus", "promtool", "alertmanager"):
        assert parts[name]
    state = tmp_path_factory.mktemp("pictures")
    options = StackOptions(
        state_dir=state, port_base=new_port_base(), factor=30.0, level="repair", simulate=True,
        history=True, nodes=2,
    )  # fmt: skip
    stack = Stack(options)
    load: subprocess.Popen[bytes] | None = None
    try:
        stack.prepare(lambda _: None)
        stack.start()
        stack.wait_ready(90.0)
        program = (sys.executable, "-m", "fleetmedic.demo.training", "--steps", "4000", "--seed", "7",
                   "--step-seconds", "0.2")  # fmt: skip
        cluster = LocalCluster(state / "cluster")
        cluster.submit(JobSpec("train-a", program, gpus=4, env=dict(os.environ), user="test"))
        pool = f"http://127.0.0.1:{stack.plan.ports['pool']}"
        load = subprocess.Popen(
            [sys.executable, "-m", "fleetmedic.localcluster.pool.load", "--url", pool, "--rate", "3",
             "--seconds", "300"], stdout=subprocess.DEVNULL,
        )  # fmt: skip
        inject(Hardware(state / "hardware"), "node2", 3, "lost")
        inject(Hardware(state / "hardware"), "node1", 5, "lost", heals_by="none")
        yield stack
    finally:
        if load is not None:
            load.terminate()
            load.wait(10)
        stack.stop()


@pytest.fixture
def page(stack: Stack, browser: Browser) -> Iterator[Page]:
    """A page that fails the test on a console error or a request to another host."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="dark")
    wrong: list[str] = []
    # The tests check error responses by the text of the panels.
    page.on(
        "console",
        lambda one: (
            wrong.append(one.text)
            if one.type == "error" and "status of 502" not in one.text
            else None
        ),
    )
    page.on("pageerror", lambda one: wrong.append(str(one)))
    page.on(
        "request",
        lambda one: None if one.url.startswith(url(stack)) else wrong.append(f"asked {one.url}"),
    )
    yield page
    page.close()
    assert wrong == []


def url(stack: Stack) -> str:
    return StackFile.read(stack.options.state_dir).urls["remediator"]


def wait_for_incident(stack: Stack, page: Page) -> None:
    for _ in range(300):
        events = read_events(stack.options.state_dir / "remediator" / "data")
        if any(one["event"] == "StepDone" or "PROBATION" in str(one) for one in events):
            return
        page.wait_for_timeout(200)
    pytest.fail("the lost GPU led to no action")


def drawn(page: Page, address: str) -> list[dict[str, Any]]:
    """Open a dashboard, wait until every panel is drawn, and return what each panel shows."""
    page.goto(address)
    page.wait_for_selector("html[data-drawn]:not([data-drawn=''])", state="attached")
    found: list[dict[str, Any]] = page.evaluate(PANELS)
    return found


def patiently(page: Page, address: str) -> list[dict[str, Any]]:
    """Call `drawn` up to ten times, 2 s apart, until only the panels in EMPTY are empty."""
    for _ in range(10):
        found = drawn(page, address)
        if all(one["state"] == "drawn" or one["title"] in EMPTY for one in found):
            break
        page.wait_for_timeout(2000)
    return found


def test_every_panel_of_every_dashboard_shows_data_or_says_why_not(
    stack: Stack, page: Page, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    wait_for_incident(stack, page)
    # Twice: before the first of its code there is no series, in which the second is an increase.
    hardware = Hardware(stack.options.state_dir / "hardware")
    inject(hardware, "node1", 6, "xid", xid=43)
    page.wait_for_timeout(8000)
    inject(hardware, "node1", 6, "xid", xid=43)
    unexplained = set[str]()
    for board in dashboards().values():
        found = patiently(page, f"{url(stack)}/dashboards/{board.uid}?from=now-5m&refresh=")
        assert len(found) == len({panel for panel, _ in board.queries})
        for one in found:
            assert one["state"] in ("drawn", "empty"), one
            assert one["drawn"] or one["said"].startswith(("No data in", "No value in")), one
            assert one["height"] > 20, one
        full = [one for one in found if one["state"] == "drawn"]
        silent = {one["title"] for one in found if one["state"] == "empty"} - set(EMPTY)
        unexplained |= {f"{board.uid}: {title}" for title in silent}
        print(board.uid, [one["title"] for one in found if one["state"] == "empty"])
        record_property(board.uid, f"{len(full)} of {len(found)} drawn")
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size({"width": 1280, "height": min(height, 4000)})
        page.screenshot(path=tmp_path / f"{board.uid}.png")
        page.set_viewport_size({"width": 1280, "height": 1000})
    assert unexplained == set()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nothing_is_wider_than_the_screen(stack: Stack, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    drawn(page, f"{url(stack)}/dashboards/fleetmedic-fleet?refresh=")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    edges = page.evaluate(
        "[...document.querySelectorAll('.panel')].map(one => one.getBoundingClientRect().right)"
    )
    assert max(edges) <= width


def test_a_variable_narrows_every_panel_and_stands_in_the_address(stack: Stack, page: Page) -> None:
    choices = f"{url(stack)}/api/v1/dashboards/fleetmedic-fleet/variables/node?from=now-5m"
    for _ in range(150):  # Prometheus has scraped the nodes
        if "node1" in page.request.get(choices).text():
            break
        page.wait_for_timeout(200)
    patiently(page, f"{url(stack)}/dashboards/fleetmedic-fleet?from=now-5m&refresh=")
    page.locator(".variable", has_text="node").last.locator("summary").click()
    page.get_by_label("node1").check()
    page.wait_for_selector("html[data-drawn='2']", state="attached")
    assert "var-node=node1" in page.url
    up = page.locator("section", has_text="GPUs up").locator(".number strong")
    assert up.inner_text() in ("7", "8")  # one of them is lost


def test_every_picture_has_its_values_as_a_table(stack: Stack, page: Page) -> None:
    drawn(page, f"{url(stack)}/dashboards/fleetmedic-fleet?from=now-5m&refresh=")
    panel = page.locator("section.timeseries[data-state=drawn]").first
    panel.locator("details.values summary").click()
    panel.locator("details.values tbody tr").first.wait_for()


def test_the_incidents_lead_to_the_dashboards_and_back(stack: Stack, page: Page) -> None:
    page.goto(url(stack))
    page.get_by_role("link", name="Dashboards", exact=True).click()
    page.locator("a.card").first.click()
    page.get_by_role("link", name="Incidents", exact=True).click()
    assert page.get_by_role("heading", name="Incidents").count() == 1


def test_a_prometheus_that_hangs_is_said_in_every_panel_and_is_no_zero(
    stack: Stack, page: Page
) -> None:
    who = StackFile.read(stack.options.state_dir).pids["prometheus"]
    assert who is not None
    os.kill(who[0], signal.SIGSTOP)
    try:
        found = drawn(page, f"{url(stack)}/dashboards/fleetmedic-fleet?from=now-5m&refresh=")
    finally:
        os.kill(who[0], signal.SIGCONT)
    assert {one["state"] for one in found} == {"error"}
    assert all(one["said"].startswith("The query to Prometheus failed: ") for one in found)


UNITS = [
    (0, "percentunit", "0 %"), (0.4567, "percentunit", "45.7 %"), (1.5, "s", "1.5 s"),
    (0.0021, "s", "2.1 ms"), (7200, "s", "2 h"), (81.04, "celsius", "81 °C"), (5600, "watt", "5.6 kW"),
    (1024**3 * 80, "bytes", "80 GiB"), (1.98e9, "hertz", "1.98 GHz"), (None, "short", "\N{EN DASH}"),
    (1234567, "short", "1.23 M"), (12, "none", "12"), (0, "short", "0"),
]  # fmt: skip


def test_values_read_in_their_units_and_gaps_stay_gaps(stack: Stack, page: Page) -> None:
    page.goto(f"{url(stack)}/dashboards")
    script = """async ([rows]) => {
      const { text, name, threshold, mapping } = await import('/static/format.js');
      const { aligned, stacked } = await import('/static/timeseries.js');
      const { runs } = await import('/static/statetimeline.js');
      const { newest } = await import('/static/numbers.js');
      const { beginnings } = await import('/static/data.js');
      const steps = { mode: 'absolute', steps: [{ value: null, color: 'green' }, { value: 80, color: 'red' }] };
      return {
        said: rows.map(([value, unit]) => text(value, unit)), nan: text(NaN, 's'),
        name: name({ node: 'n1', gpu: '3' }, '{{node}}/{{ gpu }}{{none}}'),
        steps: [threshold(79.9, steps).color, threshold(80, steps).color, threshold(80, undefined)],
        mapping: mapping(0, [{ type: 'value', options: { 0: { text: 'no' } } }]).text,
        gap: aligned([{ points: [[0, 1], [10, 3]] }], 0, 10, 5)[1],
        pile: stacked([[0, 5], [1, null], [2, 2]])[2],
        begun: beginnings([[0, 0], [5, 1], [10, 1], [15, 0], [20, 2], [40, 1]], 5),
        runs: runs([[0, 1], [5, 1], [15, 1], [20, 0]], 5),
        old: newest([[0, 7]], 100, 5), fresh: newest([[100, 7]], 100, 5),
      };
    }"""
    found = page.evaluate(script, [[row[:2] for row in UNITS]])
    assert found == {
        "said": [row[2] for row in UNITS], "nan": "no value", "name": "n1/3",
        "steps": ["green", "red", None], "mapping": "no", "begun": [5, 20, 40], "gap": [1, None, 3], "pile": [3, 2],
        "runs": [[0, 10, 1], [15, 20, 1], [20, 25, 0]],
        "old": {"value": 7, "age": 100}, "fresh": {"value": 7, "age": None},
    }  # fmt: skip
