"""Regular expressions mean to the remediator what they mean to Alertmanager, or are refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.alerting.expressions import expression


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("gpu-12-.*", "gpu-12-3", "xgpu-12-3"),
        ("a|bc", "bc", "abc"),
        ("Node(Network|Disk).*", "NodeDiskFull", "NodeDown"),
        ("(?:a|b)+", "abba", ""),
        ("(?P<rack>r)[0-9]{1,2}", "r12", "r123"),
        ("(?i)gpu", "GPU", "CPU"),
        ("(?i)a|b", "B", "c"),
        ("(?i:a)b", "Ab", "AB"),
        ("(?s)a.b", "a\nb", "ab"),
        ("a.b", "axb", "a\nb"),
        (r"\d+", "12", "١٢"),
        (r"[\d.-]+", "1.2-3", "1,2"),
        (r"[^\d]", "٣", "3"),
        (r"\w+", "a_1", "ä"),
        (r"\s", "\t", "\v"),
        (r"[\w-]+", "a-b", "a b"),
        (r"[\D]", "a", "1"),
        (r"\bx\b", "x", "xy"),
        ("a$", "a", "a\n"),
        (r"a\.b\-c\_d", "a.b-c_d", "axb-c_d"),
        (r"\x41", "A", "x41"),
        ("a{,5}", "a{,5}", "aaa"),
        ("a{01}", "a{01}", "a"),
        ("a{2,3}?", "aaa", "a"),
        ("[]a]", "]", "b"),
        ("[a-]", "-", "b"),
        ("[a&&b]", "&", "c"),
        ("[[]", "[", "]"),
        ("[!-/]", "-", "0"),
        (r"\z", "", "a"),
        ("", "", "a"),
    ],
)
def test_an_expression_matches_the_whole_text_as_go_does(text: str, good: str, bad: str) -> None:
    assert expression(text).fullmatch(good)
    assert not expression(text).fullmatch(bad)


@pytest.mark.parametrize(
    "text",
    [
        "(?=x)", "(?!x)", "(?<=a)b", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "a*+", "a++", "a{2}+",
        "(?>a)", "(?#c)a", "(?x)a", "(?a)a", "(?u)a", "(?(1)a|b)", "(a)(?(1)a|b)", r"\Z", r"\u0041",
        r"\N{DASH}", r"\é", r"[\b]", r"\01", r"\0", "a{1001}", "(a{100}){11}", "((a{20}){20}b){3}",
        "a**", "*a", "[", "[]", "[^]", "(", ")", "a)", "\\", "[z-a]", r"[+-\d]", r"[a-\d]", "(?P<é>a)",
        "[[:alpha:]]", r"\pL", "a(?i)b", "(" * 500 + ")" * 500,
    ],
)  # fmt: skip
def test_what_either_side_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        expression(text)


@given(st.text(alphabet=r"ab1-^$.|?*+(){}[]\,:=!<>Pidwx&é", max_size=12), st.text(max_size=4))
def test_any_text_compiles_or_is_refused(text: str, label: str) -> None:
    with contextlib.suppress(ValueError):
        expression(text).fullmatch(label)


@given(st.text(max_size=20))
def test_an_escaped_text_matches_itself_alone(text: str) -> None:
    escaped = "".join(f"\\{c}" if c.isascii() and not c.isalnum() else c for c in text)
    assert expression(escaped).fullmatch(text)
    assert not expression(escaped).fullmatch(text + "x")
