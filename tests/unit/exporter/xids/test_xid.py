"""Parsing of kernel log lines into events, and the judgement of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.xids.xid import LineParser, Losses, SwitchEvent, XidEvent, classify
from exporter.xids.xid_catalogue import Codes

GPU = (0, 0x41, 0)
SWITCH = "0000:a9:00.0"
LINES = [
    ("NVRM: Xid (PCI:0000:41:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.", XidEvent(GPU, 79)),
    ("NVRM: Xid (PCI:0000:41:00): 31, pid=4242, name=python, Ch 00000008", XidEvent(GPU, 31)),
    ("NVRM: Xid (0000:41:00): 13, Graphics Exception", XidEvent(GPU, 13)),
    ("NVRM: Xid (PCI:0000:41:00 GPU-I:05): 31, pid=7, name=python", XidEvent(GPU, 31)),
    ("NVRM: Xid (PCI:0000:41:00): 119, pid=9, name=x: 31, y", XidEvent(GPU, 119)),
    ("NVRM: Xid (PCI:0000:41:00): 149, NETIR_LINK_EVT  Fatal XC0 i0 Link 03 (0x1 0x2)", XidEvent(GPU, 149, fatal=True, subcode=0)),
    ("NVRM: Xid (PCI:0000:41:00): 149, NETIR_LINK_DOWN Fatal XC0 i0 Link 03 (0x00400011 0x0)", XidEvent(GPU, 149, fatal=True, subcode=4)),
    ("NVRM: Xid (PCI:0000:41:00): 145, RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000004 0x1)", XidEvent(GPU, 145, fatal=False, subcode=0)),
    ("NVRM: Xid (PCI:0000:41:00): 144, SAW_MVB Non-fatal", XidEvent(GPU, 144, fatal=False)),
    ("NVRM: Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", XidEvent(GPU, 154, recovery="reboot_node")),
    ("NVRM: Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (PF FLR)", XidEvent(GPU, 154, recovery="reset_gpu")),
    ("NVRM: Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x4 (Drain and Reset) to 0x0 (None)", XidEvent(GPU, 154, recovery="none")),
    ("NVRM: Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x0 (None) to 0x6 (Bus Reset)", XidEvent(GPU, 154, recovery="drain_reset")),
    ("NVRM: Xid (PCI:0000:41:00): 154, GPU recovery action changed from 0x0 (None) to 0xff (new)", XidEvent(GPU, 154)),
    ("NVRM: GPU 0000:41:00.0: GPU has fallen off the bus.", XidEvent(GPU, 79, coded=False)),
    ("nvidia-nvswitch3: SXid (PCI:0000:A9:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", SwitchEvent(SWITCH, 20034)),
    ("nvidia-nvswitch3: SXid (PCI:0000:a9:00.0): 20034, Severity 1 Engine instance 30", None),
    ("nvidia-nvswitch3: SXid (PCI:0000:a9:00.0): 20034, Data {0x50610002, 0x10100030}", None),
    ("nvidia-nvswitch3: SXid (PCI:0000:a9:00.0): xyz, Fatal", None),
    ("nvidia-nvswitch3: open (major=510)", None),
    ("NVRM: Xid (PCI:zz): 79, nonsense", None),
    ("NVRM: Xid (PCI:0000:41:00): 0, no code", None),
    ("NVRM: Xid (PCI:0000:41:00): 99999, no code", None),
    ("usb 1-1: Xid (PCI:0000:41:00): 79, not the driver's", None),
    ("", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "event"), LINES)
def test_a_line_is_read(line: str, event: XidEvent | SwitchEvent | None) -> None:
    assert LineParser().feed(line) == event


def test_a_loss_told_over_several_lines_is_one_event() -> None:
    parser = LineParser()
    lines = [
        "NVRM: The NVIDIA GPU 0000:41:00.0",
        "NVRM: (PCI ID: 10de:2330) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ]
    assert [parser.feed(line) for line in lines] == [None, None, XidEvent(GPU, 79, coded=False)]
    assert parser.feed(lines[2]) is None


@pytest.mark.parametrize(("between", "named"), [(0, True), (2, True), (3, False), (500, False)])
def test_a_gpu_is_named_for_the_three_lines_that_follow(between: int, named: bool) -> None:
    """A loss that is logged much later does not belong to the GPU named in an earlier message."""
    parser = LineParser()
    parser.feed("NVRM: The NVIDIA GPU 0000:41:00.0")
    for _ in range(between):
        assert parser.feed("NVRM: (PCI ID: 10de:2330) installed in this system has") is None
    found = parser.feed("NVRM: fallen off the bus and is not responding to commands.")
    assert found == (XidEvent(GPU, 79, coded=False) if named else None)


def test_a_code_in_other_digits_than_the_kernels_is_none() -> None:
    assert LineParser().feed("NVRM: Xid (PCI:0000:41:00): \u0667\u0669, x") is None
    text = "nvidia-nvswitch0: SXid (PCI:0000:41:00.0): \u0662\u0660\u0660\u0663\u0664, Fatal"
    assert LineParser().feed(text) is None


@given(st.text())
def test_no_line_breaks_the_parser(text: str) -> None:
    LineParser().feed("NVRM: " + text)
    LineParser().feed(f"NVRM: Xid ({text}): 79, x")
    LineParser().feed(f"NVRM: Xid (PCI:0000:41:00): 149, {text}")
    LineParser().feed(f"nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): {text}")


@pytest.mark.parametrize(
    ("code", "event", "judgement"),
    [
        (31, XidEvent(GPU, 31), ("warning", "restart_app")),
        (149, XidEvent(GPU, 149, fatal=True), ("critical", "drain_reset")),
        (149, XidEvent(GPU, 149, fatal=True, subcode=10), ("critical", "inspect")),
        (149, XidEvent(GPU, 149, fatal=False, subcode=10), ("warning", "none")),
        (149, XidEvent(GPU, 149), ("warning", "none")),
        (154, XidEvent(GPU, 154, recovery="reboot_node"), ("critical", "reboot_node")),
        (154, XidEvent(GPU, 154, recovery="none"), ("info", "none")),
        (154, XidEvent(GPU, 154), ("warning", "none")),
        (700, XidEvent(GPU, 700), ("warning", "none")),
    ],
)
def test_the_line_decides_where_the_catalogue_says_so(
    code: int, event: XidEvent, judgement: tuple[str, str]
) -> None:
    assert classify(Codes().xid(code), event.fatal, event.subcode, event.recovery) == judgement


CODED, BARE = True, False


@pytest.mark.parametrize(
    ("lines", "counted"),
    [
        ([(0, CODED), (0.1, BARE)], 1),
        ([(0, BARE), (0.1, CODED)], 1),
        ([(0, BARE), (0.1, BARE)], 1),
        ([(0, CODED), (0.1, CODED)], 2),
        ([(0, BARE), (0.1, CODED), (0.2, CODED)], 2),
        ([(0, CODED), (60, BARE)], 2),
    ],
)
def test_a_loss_told_twice_counts_once(lines: list[tuple[float, bool]], counted: int) -> None:
    losses = Losses({})
    assert sum(losses.counts("GPU-a", coded, at) for at, coded in lines) == counted
