"""The XID catalogue: complete, with reasons for differences, and site overrides."""

from pathlib import Path

import pytest

from exporter.xids.xid_catalogue import (
    GPUD_SAYS,
    NVIDIA_SAYS,
    Codes,
    differences,
    markdown,
    sxid_catalogue,
    xid_catalogue,
)
from fleetmedic.kernel.errors import UserError

ROOT = Path(__file__).resolve().parents[4]
APPLICATION = (13, 31, 43, 45, 94)


def test_every_code_that_is_known_is_there_once_and_in_order() -> None:
    codes = list(xid_catalogue())
    assert codes == sorted(set(codes))
    assert set(range(1, 174)) <= set(codes)
    assert len(sxid_catalogue()) >= 92


def test_what_calls_for_an_action_counts_from_zero() -> None:
    zero = {code for code, xid in xid_catalogue().items() if xid.zero}
    assert zero >= {48, 62, 64, 74, 79, 94, 95, 110, 119, 120, 140, 143, 13, 31, 43, 45}
    assert 20 <= len(zero) <= 30


@pytest.mark.parametrize("code", APPLICATION)
def test_errors_of_programs_never_take_a_gpu_away(code: int) -> None:
    xid = xid_catalogue()[code]
    assert xid.action in ("none", "restart_app")
    assert xid.severity != "critical"


def test_what_is_critical_asks_for_the_gpu_and_what_asks_for_nothing_is_not_critical() -> None:
    for xid in (*xid_catalogue().values(), *sxid_catalogue().values()):
        if xid.severity == "critical":
            assert xid.action in ("reset_gpu", "drain_reset", "reboot_node", "inspect"), xid
        if xid.severity == "info":
            assert xid.action == "none", xid


def test_where_we_differ_the_catalogue_says_why() -> None:
    for xid in xid_catalogue().values():
        assert xid.nvidia in NVIDIA_SAYS, xid
        assert not any(differences(xid)) or xid.why, xid
        assert not xid.why or xid.why.endswith("."), xid
    for sxid in sxid_catalogue().values():
        assert sxid.gpud.partition("/")[2].partition("+")[0] in GPUD_SAYS, sxid
        assert sxid.nvidia in ("non_fatal", "fatal", "always_fatal", "notable"), sxid


def test_the_page_is_generated_from_the_catalogue() -> None:
    page = (ROOT / "docs" / "xids.md").read_text()
    assert page == "\n".join(markdown()) + "\n", (
        "run: python -m exporter.xids.xid_catalogue > docs/xids.md"
    )


def test_a_code_that_nobody_knows_is_a_warning_that_calls_for_nothing() -> None:
    xid = Codes().xid(512)
    assert (xid.severity, xid.action) == ("warning", "none")
    assert not Codes().knows(512)


def test_a_site_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "xids.yml"
    path.write_text(
        "xids:\n"
        "  74: {action: reboot_node, why: 'our switches need it'}\n"
        "  13: {zero: false}\n"
        "  512: {name: Site code, severity: critical, action: inspect, zero: true}\n"
        "sxids:\n  20034: {action: reboot_node}\n"
    )
    codes = Codes.of_site(path)
    assert codes.xid(74).action == "reboot_node"
    assert codes.xid(74).name == xid_catalogue()[74].name
    assert codes.xid(512).severity == "critical"
    assert codes.knows(512)
    assert "512" in codes.zeros
    assert "13" not in codes.zeros
    assert codes.sxid(20034).action == "reboot_node"
    assert codes.sxid(20034).severity == "critical"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("xids: {74: {acton: none}}", "at $.xids.74: object contains unknown field `acton`"),
        ("codes: {}", "at $: object contains unknown field `codes`"),
        ("xids: {74: {action: explode}}", "invalid enum value 'explode'"),
        ("xids: {0: {action: none}}", "at $.xids: expected a code from 1 to 999, got 0"),
        ("sxids: {123456: {action: none}}", "expected a code from 1 to 99999, got 123456"),
        ("xids: {abc: {action: none}}", "$.xids: expected `int`"),
        ("xids: [1]", "at $.xids"),
        ("xids: {74: {zero: maybe}}", "expected `bool | null`"),
        ("xids: {", "the file ends inside a value"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_one_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "xids.yml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        Codes.of_site(path)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Codes.of_site(tmp_path / "none.yml")
