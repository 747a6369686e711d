"""The pages of incidents fit the screen of a phone: nothing must be scrolled sideways."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetmedic.kernel.labels import Target
from remediator import pages
from remediator.core.events import Kind, absorbed, noted, opened
from remediator.core.journal_state import JournalState
from remediator.core.model import Episode, Level
from remediator.core.reasons import Reason

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.integration
GPU = Target.parse("gpu-rack-12-node-3/7")
WIDER = """[...document.querySelectorAll('html, .wide, td, .summary, li')]
  .filter(one => one.scrollWidth > one.clientWidth).map(one => one.outerHTML.slice(0, 80))"""
LABELS = (
    """[...document.querySelectorAll('td')].map(one => getComputedStyle(one, '::before').content)"""
)
HEADING = "getComputedStyle(document.querySelector('thead')).display"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the pages of one incident, as the remediator serves them."""
    state = JournalState()
    events = [opened("inc-0123456789", GPU, "gpu-lost", Level.REPAIR, 1_790_000_000.0, 0, "Begun.")]
    uuid = "GPU-5a3c9a0e-2f7b-4c1d-9c0a-3f0f6a1b2c3d"
    for n, name in enumerate(("GpuLost", "GpuUncorrectableErrorsOfAVeryLongName")):
        episode = Episode(f"a/{n}/1", str(n), 1_790_000_000.0, "x", name, "7", uuid)
        events.append(absorbed("inc-0123456789", GPU, episode, 1_790_000_001.0))
    for event in events:
        state.apply(event)
    one = state.incidents["inc-0123456789"]
    text = (
        "4 of 32 GPUs of the pool are out of service, and the limit is 10 %; the quarantine waits."
    )
    events.append(noted(Kind.HELD, one, 1_790_000_002.0, Reason.BUDGET_OUT, text))
    state.apply(events[-1])
    shutil.copytree(Path(pages.__file__).parent / "dashboards" / "static", tmp_path / "static")
    (tmp_path / "incidents").mkdir()
    one = state.incidents["inc-0123456789"]
    (tmp_path / "incidents" / "one.html").write_text(pages.incident(one, events, state, None))
    (tmp_path / "list.html").write_text(pages.home(state))
    return tmp_path


def test_a_phone_shows_each_row_as_a_block_and_a_laptop_as_a_row(
    site: Path, browser: Browser
) -> None:
    for name in ("list.html", "incidents/one.html"):
        for width in (320, 360, 599, 600, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            page.goto(f"{site.as_uri()}/{name}")
            page.screenshot(path=site / f"{Path(name).stem}-{width}.png", full_page=True)
            narrow = width < 600
            shown = "none" if narrow else "table-header-group"
            assert page.evaluate(HEADING) == shown, (name, width)
            labels = set(page.evaluate(LABELS))
            assert ("none" in labels) is not narrow, (name, width, labels)
            if narrow or width == 1280:
                assert page.evaluate(WIDER) == [], (name, width)
            page.close()
