"""A Host header is this machine only if all of it is an address or a known name."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetmedic.http.hosts import host_name, is_own_host, own_names


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST.:9095", "localhost"),
        ("gpu-mon:80", "gpu-mon"),
        ("10.0.0.9:", "10.0.0.9"),
        ("[::1]:9095", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
    ],
)
def test_a_valid_header_is_read(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    "header",
    ["", "[", "[::1", "[::1]evil.com", "[::1]:80@evil.com", "[::1%lo]", "[evil]", "fe80::1%x", "::1", "::1:80",
     "a:b", "a b", "a/b", "a:1:2", "a:123456", "a@b", "a\nb", "é", "a:\u0661", "[127.0.0.1]"],
)  # fmt: skip
def test_a_header_with_anything_else_is_invalid(header: str) -> None:
    assert host_name(header) is None
    assert not is_own_host(header, own_names())


@given(st.text(string.ascii_lowercase + string.digits + "[]:.%@-_", max_size=12))
def test_no_foreign_name_passes_as_an_address_of_this_machine(part: str) -> None:
    for header in (f"[::1]{part}x", f"[::1{part}]x.example", f"127.0.0.1{part}.example"):
        assert not is_own_host(header, own_names()), header


def test_the_names_of_this_machine_contain_localhost_and_nothing_empty() -> None:
    assert "localhost" in own_names()
    assert "" not in own_names()
