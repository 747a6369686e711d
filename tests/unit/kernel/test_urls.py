"""A URL has a host and a valid port; an error names the place and the cure, and never the URL."""

from __future__ import annotations

import pytest

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.urls import check_base_url, check_public_url, check_url

SCHEME = "$.x: expected a URL such as http://HOST:PORT."
HOST = "$.x: expected a URL with a valid host, such as http://HOST:PORT."
PORT = "$.x: expected a URL with a port from 1 to 65535, or without a port."
PATHS = "$.x: expected a URL without query and fragment; remove the part from ? or # on."
USER = "$.x: expected a URL without user name and password; remove the part up to @."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", SCHEME), ("localhost:9093", SCHEME), ("ftp://h", SCHEME), ("//h", SCHEME), ("http:h", HOST),
        ("http://a b", SCHEME), ("http://a\n", SCHEME), ("http://a\x00", SCHEME), (" http://a", SCHEME),
        ("http://", HOST), ("http://:9090", HOST), ("http:///x", HOST), ("http://u@:1/", HOST),
        ("http://[::1", HOST), ("http://[x]:1", HOST), ("http://a..b", HOST), ("http://.a", HOST),
        (f"http://{'a' * 64}", HOST),
        ("http://127.0.0.1:99999", PORT), ("http://h:0", PORT), ("http://h:65536", PORT), ("http://h:", PORT),
        ("http://h:-1", PORT), ("http://h:x", PORT), ("http://h:1:2", PORT), ("http://u:p@h:y/", PORT),
        ("http://h:\u0663", PORT),
    ],
)  # fmt: skip
def test_a_wrong_url_is_one_sentence(text: str, sentence: str) -> None:
    for check in (check_url, check_base_url, check_public_url):
        with pytest.raises(UserError) as caught:
            check(text, "$.x")
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "text",
    ["http://h", "https://h/", "http://h:1", "http://h:65535/a/b", "HTTP://H", "http://[::1]:9090",
     "http://127.0.0.1:9093/", "http://gpu_1.rack-2.example.", "http://m\u00fcnchen.example"],
)  # fmt: skip
def test_a_valid_url_is_accepted(text: str) -> None:
    check_url(text, "$.x")
    check_base_url(text, "$.x")
    check_public_url(text, "$.x")


@pytest.mark.parametrize("text", ["http://h/a?b=c", "http://h/a#b", "http://h?", "http://h/#"])
def test_a_url_to_which_paths_are_appended_has_no_query_and_no_fragment(text: str) -> None:
    check_url(text, "$.x")
    for check in (check_base_url, check_public_url):
        with pytest.raises(UserError) as caught:
            check(text, "$.x")
        assert str(caught.value) == PATHS


@pytest.mark.parametrize("text", ["http://u:secret@h", "http://u@h:1/x", "http://@h"])
def test_a_url_that_people_see_has_no_user_and_no_password(text: str) -> None:
    check_base_url(text, "$.x")
    with pytest.raises(UserError) as caught:
        check_public_url(text, "$.x")
    assert str(caught.value) == USER
