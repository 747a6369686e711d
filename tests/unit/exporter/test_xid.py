"""Kernel log lines become events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.xid import Event, LineParser, Losses, xid_catalogue

GPU = (0, 0x41, 0)
LINES = [
    ("NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", Event(GPU, 79)),
    ("NVRM: Xid (PCI:0000:41:00): 31, pid=4242, name=python, Ch 00000008", Event(GPU, 31)),
    ("NVRM: Xid (0000:41:00): 13, Graphics Exception", Event(GPU, 13)),
    ("NVRM: Xid (PCI:0000:41:00): 149, NETIR_LINK_EVT  Fatal XC0 i0 Link 03 (0x1 0x2)", Event(GPU, 149)),
    ("NVRM: GPU 0000:41:00.0: GPU has fallen off the bus.", Event(GPU, 79, coded=False)),
    ("NVRM: Xid (PCI:zz): 79, nonsense", None),
    ("NVRM: Xid (PCI:0000:41:00): 0, no code", None),
    ("NVRM: Xid (PCI:0000:41:00): 99999, no code", None),
    ("usb 1-1: Xid (PCI:0000:41:00): 79, not the driver's", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "event"), LINES)
def test_a_line_is_read(line: str, event: Event | None) -> None:
    assert LineParser().feed(line) == event


def test_a_loss_told_over_several_lines_is_one_event() -> None:
    parser = LineParser()
    lines = [
        "NVRM: The NVIDIA GPU 0000:41:00.0",
        "NVRM: (PCI ID: 10de:2330) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ]
    assert [parser.feed(line) for line in lines] == [None, None, Event(GPU, 79, coded=False)]
    assert parser.feed(lines[2]) is None


@given(st.text())
def test_no_line_breaks_the_parser(text: str) -> None:
    LineParser().feed("NVRM: " + text)
    LineParser().feed(f"NVRM: Xid ({text}): 79, x")


CODED, BARE = Event(GPU, 79), Event(GPU, 79, coded=False)


@pytest.mark.parametrize(
    ("events", "counted"),
    [
        ([(0, CODED), (0.1, BARE)], 1),
        ([(0, BARE), (0.1, CODED)], 1),
        ([(0, BARE), (0.1, BARE)], 1),
        ([(0, CODED), (0.1, CODED)], 2),
        ([(0, BARE), (0.1, CODED), (0.2, CODED)], 2),
        ([(0, CODED), (60, BARE)], 2),
        ([(0, Event(GPU, 31)), (0, Event(GPU, 31))], 2),
    ],
)
def test_a_loss_told_twice_counts_once(events: list[tuple[float, Event]], counted: int) -> None:
    losses = Losses({})
    assert sum(losses.counts("GPU-a", event, at) for at, event in events) == counted


def test_the_catalogue_counts_what_calls_for_an_action_from_zero() -> None:
    zero = {code for code, xid in xid_catalogue().items() if xid.zero}
    assert zero >= {48, 62, 64, 74, 79, 94, 95, 110, 119, 120, 140, 143, 13, 31, 43, 45}
    assert 20 <= len(zero) <= 30
