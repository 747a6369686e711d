"""The HTML pages show incidents and runbooks, and escape all values."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest

from fleetmedic.kernel.labels import Target
from remediator import pages
from remediator.core.events import Kind, absorbed, moved, noted, opened, paused
from remediator.core.journal_state import JournalState
from remediator.core.model import Episode, IncidentState, Level
from remediator.core.reasons import Reason

LINK = re.compile(r'(?:href|src)="([^"]*)"')


def test_an_incident_is_listed_and_its_text_is_escaped() -> None:
    journal_state = JournalState()
    target = Target.parse("node1/3")
    journal_state.apply(
        opened("inc-1", target, "gpu-lost", Level.REPAIR, 1.0, 0, "<script>alert(1)</script>")
    )
    page = pages.home(journal_state)
    assert "gpu/node1/3" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_an_incident_that_is_held_in_any_state_says_so_with_the_present_reason() -> None:
    journal_state = JournalState()
    journal_state.apply(
        opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "Begun.")
    )
    journal_state.apply(
        moved(
            journal_state.incidents["inc-1"],
            IncidentState.TRIAGED,
            2.0,
            Reason.ROUTED,
            "On its way.",
        )
    )
    page = pages.home(journal_state)
    assert (">TRIAGED<" in page, "On its way." in page) == (True, True)
    held = noted(
        Kind.HELD, journal_state.incidents["inc-1"], 3.0, Reason.BUDGET_OUT, "4 of 4 are <out>."
    )
    journal_state.apply(held)
    page = pages.home(journal_state)
    assert ">TRIAGED, held<" in page
    assert "4 of 4 are &lt;out&gt;." in page
    assert "On its way." not in page
    journal_state.apply(
        moved(
            journal_state.incidents["inc-1"],
            IncidentState.HELD,
            4.0,
            Reason.BUDGET_OUT,
            "Held by it.",
        )
    )
    journal_state.apply(
        noted(Kind.HELD, journal_state.incidents["inc-1"], 5.0, Reason.BUDGET_OUT, "3 of 4.")
    )
    page = pages.home(journal_state)
    assert (">HELD<" in page, "3 of 4." in page) == (True, True)


def test_an_open_incident_is_listed_however_many_are_newer() -> None:
    journal_state = JournalState()
    for n in range(pages.MAX_SHOWN + 1):
        target = Target.parse(f"node1/{n}")
        journal_state.apply(opened(f"inc-{n}", target, "gpu-lost", Level.REPAIR, 1.0, 0, "Begun."))
    assert "incidents/inc-0" in pages.home(journal_state)


def test_the_list_says_how_many_incidents_it_leaves_out_and_links_to_them() -> None:
    journal_state = JournalState()
    for n in range(pages.MAX_SHOWN + 3):
        target = Target.parse(f"node1/{n}")
        journal_state.apply(opened(f"inc-{n}", target, "gpu-lost", Level.REPAIR, 1.0, 0, "Begun."))
        one = journal_state.incidents[f"inc-{n}"]
        journal_state.apply(moved(one, IncidentState.SUPPRESSED, 2.0, Reason.SILENCED))
    first = pages.home(journal_state)
    assert "3 of 203 incidents are earlier and not shown" in first
    assert 'href="./incidents?before=inc-3"' in first
    second = pages.home(journal_state, before="inc-3")
    assert re.findall(r"incidents/(inc-\d+)", second) == ["inc-2", "inc-1", "inc-0"]
    assert "not shown" not in second
    assert "Latest incidents" in second


def test_no_control_character_reaches_a_page() -> None:
    journal_state = JournalState()
    text = "a\x00b\x1b[2Jc\x07d\re\x85f\u202eg"
    target = Target.parse("node1/3")
    event = opened("inc-1", target, "gpu-lost", Level.REPAIR, 1.0, 0, text)
    alert = Episode("a/b/1", "b", 1.0, "x", text, text, text)
    for each in (event, absorbed("inc-1", target, alert, 1.0), paused(text, text, 2.0)):
        journal_state.apply(each)
    one, notices = journal_state.incidents["inc-1"], pages.Notices(text, text)
    for page in (
        pages.home(journal_state, notices),
        pages.incident(one, [event], journal_state, None, notices),
    ):
        assert "a b [2Jc d e f g" in page
        assert not [letter for letter in page if not letter.isprintable() and letter != "\n"]


def test_the_pages_say_that_the_journal_cannot_be_written() -> None:
    journal_state = JournalState()
    event = opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "Begun.")
    journal_state.apply(event)
    notices = pages.Notices(unready="The journal <j> cannot be written: disk is full.")
    one = journal_state.incidents["inc-1"]
    for page in (
        pages.home(journal_state, notices),
        pages.incident(one, [event], journal_state, None, notices),
    ):
        assert 'role="alert">The journal &lt;j&gt; cannot be written: disk is full.' in page
        assert "the remediator accepts no alerts and starts no action" in page
    assert 'role="alert"' not in pages.home(journal_state)


def test_the_page_of_an_incident_obeys_nothing_and_says_what_it_leaves_out() -> None:
    journal_state = JournalState()
    event = opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "<script>x")
    journal_state.apply(event)
    page = pages.incident(
        journal_state.incidents["inc-1"], [event] * (pages.MAX_EVENTS + 1), journal_state, None
    )
    assert "<script>" not in page
    assert f"The latest {pages.MAX_EVENTS} events" in page
    assert page.count("<li>") == pages.MAX_EVENTS
    assert "<time>1970-01-01 00:00:01.000 UTC</time>" in page, "two events of a second differ"


def test_a_pause_is_shown_on_the_pages_of_incidents() -> None:
    journal_state = JournalState()
    journal_state.apply(
        opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "Begun.")
    )
    journal_state.apply(paused("alice", "<rack 4>", 2.0))
    for page in (
        pages.home(journal_state),
        pages.incident(journal_state.incidents["inc-1"], [], journal_state, None),
    ):
        assert "Paused by alice since 1970-01-01 00:00:02 UTC: &lt;rack 4&gt;." in page


def test_the_pages_say_that_another_remediator_acts() -> None:
    journal_state = JournalState()
    journal_state.apply(
        opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "Begun.")
    )
    taken = "Another remediator (on host <b>) acts; this one takes no action."
    for page in (
        pages.home(journal_state, pages.Notices(taken)),
        pages.incident(
            journal_state.incidents["inc-1"], [], journal_state, None, pages.Notices(taken)
        ),
    ):
        banner = "Another remediator (on host &lt;b&gt;) acts; this one takes no action."
        assert f'role="status">{banner}' in page


def test_a_runbook_is_drawn_with_its_code_and_headings() -> None:
    page = pages.runbook("GpuLost") or ""
    assert "<h2>Check</h2>" in page
    assert "<pre><code" in page
    assert "<code>gpu_lost</code>" in page


def test_every_page_fits_the_width_of_the_device() -> None:
    for page in (pages.home(JournalState()), pages.runbook("GpuLost") or ""):
        assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page


def test_the_links_of_a_page_are_relative_so_that_a_proxy_can_add_a_prefix() -> None:
    journal_state = JournalState()
    event = opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "Begun.")
    journal_state.apply(event)
    one = journal_state.incidents["inc-1"]
    rendered = {
        "incidents": pages.home(journal_state),
        "incidents/inc-1": pages.incident(one, [event], journal_state, None),
        "runbooks": pages.runbooks(),
        "runbooks/GpuLost": pages.runbook("GpuLost") or "",
    }
    for path, page in rendered.items():
        found = {urljoin(f"http://h/gpu/{path}", one) for one in LINK.findall(page)}
        assert {"http://h/gpu/", "http://h/gpu/static/page.css", "http://h/gpu/dashboards"} <= found
        assert all(one.startswith("http://h/gpu/") for one in found), found
    dashboard = "http://h/gpu/dashboards/fleetmedic-gpu?var-node=node1&amp;var-gpu=3"
    links = LINK.findall(rendered["incidents/inc-1"])
    assert dashboard in {urljoin("http://h/gpu/incidents/inc-1", one) for one in links}


def test_each_cell_of_a_table_has_the_heading_of_its_column_for_narrow_screens() -> None:
    journal_state = JournalState()
    event = opened("inc-1", Target.parse("node1/3"), "gpu-lost", Level.REPAIR, 1.0, 0, "Begun.")
    alert = Episode("a/b/1", "b", 1.0, "x", "GpuLost", "3", "GPU-d")
    journal_state.apply(event)
    journal_state.apply(absorbed("inc-1", Target.parse("node1/3"), alert, 1.0))
    one = journal_state.incidents["inc-1"]
    for page in (pages.home(journal_state), pages.incident(one, [event], journal_state, None)):
        headings = re.findall(r"<th>([^<]*)", page)
        assert len(headings) == 5
        assert '<table class="stacked">' in page
        assert re.findall(r'<td data-label="([^"]*)">', page) == headings
        assert page.count("<td") == 5


def test_no_template_and_no_script_names_a_path_from_the_root_of_the_host() -> None:
    folder = Path(pages.__file__).parent
    sources = [*folder.glob("templates/*"), *folder.glob("dashboards/templates/*")]
    sources += [one for one in folder.glob("dashboards/static/*.js") if "uPlot" not in one.name]
    assert len(sources) > 10
    absolute = re.compile(
        r"""(?:href|src)="/|["'`(]/(?:api|static|dashboards|incidents|runbooks)\b"""
    )
    assert {one.name for one in sources if absolute.search(one.read_text())} == set()


@pytest.mark.parametrize("name", ["Nothing", "../GpuLost", "a/b", "", "G" * 101, "Nothing.md"])
def test_a_name_that_is_no_alert_has_no_page(name: str) -> None:
    assert pages.runbook(name) is None


def test_html_in_a_runbook_is_shown_and_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.md").write_text(
        "# X\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1))\n"
    )
    monkeypatch.setattr(pages, "share", lambda _: tmp_path / "x.md")
    page = pages.runbook("X") or ""
    assert "<img" not in page
    assert 'href="javascript' not in page


def test_a_runbook_has_the_urls_of_the_site() -> None:
    urls = {
        "http://localhost:9090": "https://prometheus.example/a",
        "http://localhost:9093": "http://am:9093",
    }
    page = pages.runbook("GpuLost", urls) or ""
    assert "promtool query instant https://prometheus.example/a" in page
    assert "--alertmanager.url=http://am:9093" in page
    assert "localhost:909" not in page
