"""Passwords are checked completely, wrong ones are never cached, user names are not revealed, and no
header breaks the check."""

import base64
from pathlib import Path

import bcrypt
import pytest

from exporter.web.auth import TokenFile, Users, credentials
from fleetmedic.kernel.errors import UserError

RIGHT = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
USERS = {"prometheus": RIGHT}
LONG = {"long": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()}


def basic(user: str | bytes, password: str | bytes) -> str:
    raw = [part.encode() if isinstance(part, str) else part for part in (user, password)]
    return "Basic " + base64.b64encode(b":".join(raw)).decode()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (basic("a", "b"), ("a", b"b")),
        (basic("a", "b:c"), ("a", b"b:c")),
        (basic("", ""), ("", b"")),
        (basic("ä", b"\xff"), ("ä", b"\xff")),
        ("bAsIc  " + basic("a", "b")[6:], ("a", b"b")),
        ("", None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic YQ==", None),
        ("Basic YTpi YTpi", None),
        ("Bearer YTpi", None),
        (basic(b"\xff", "b"), None),
        (basic("a", "b" * 5000), None),
    ],
)
def test_a_header_is_a_login_or_none(header: str, found: tuple[str, bytes] | None) -> None:
    assert credentials(header) == found


def test_a_right_password_is_known_from_then_on_and_only_with_its_hash() -> None:
    users = Users()
    assert not users.is_cached("prometheus", b"right", USERS)
    assert users.check("prometheus", b"right", USERS)
    users.cache("prometheus", b"right", USERS)
    assert users.is_cached("prometheus", b"right", USERS)
    assert not users.is_cached("prometheus", b"wrong", USERS)
    changed = {"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()}
    assert not users.is_cached("prometheus", b"right", changed)
    assert not users.is_cached("prometheus", b"right", {})
    assert b"right" not in repr(vars(users)).encode()


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("prometheus", b"wrong"), ("prometheus", b""), ("prometheus", b"right\0"), ("prometheus", b"\xff"),
        ("prometheus", b"right" + b"r" * 100), ("nobody", b"right"), ("", b"right"), ("a\0b", b"right"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(user: str, password: bytes) -> None:
    assert not Users().check(user, password, USERS)


def test_a_password_over_72_bytes_is_refused_though_bcrypt_would_look_at_the_first_72() -> None:
    assert Users().check("long", b"x" * 72, LONG)
    assert not Users().check("long", b"x" * 73, LONG)


def test_somebody_unknown_costs_the_check_of_a_real_hash_and_always_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[bytes] = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda _, digest: checked.append(digest) is None)
    users, known = Users(), {f"user{n}": f"hash{n}" for n in range(8)}
    for name in ("nobody", "nobody", *(f"no{n}" for n in range(40))):
        assert not users.check(name, b"x", known), (
            "an unknown user is rejected even if the password matches the checked hash"
        )
    assert checked[0] == checked[1]
    assert {digest.decode() for digest in checked} <= set(known.values())
    assert len(set(checked)) > 1, "so that the response time is inconspicuous when costs differ"


def test_what_is_kept_is_bounded() -> None:
    users, known = Users(), {f"user{n}": "hash" for n in range(1000)}
    for name in known:
        users.cache(name, b"x", known)
    assert not users.is_cached("user0", b"x", known)
    assert users.is_cached("user999", b"x", known)


@pytest.mark.parametrize(
    "text", ["", "short", "a" * 2000, "two words of which both are long", "ümlauts in a long token"]
)
def test_a_bad_token_is_refused_with_the_file_and_the_cure(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(
        UserError, match=r"--web.release-token-file .*token: expected one token of 16"
    ):
        TokenFile(tmp_path / "token")


def test_a_token_is_matched_whole_and_may_change(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(UserError, match="check the path"):
        TokenFile(path)
    path.write_text("0123456789abcdef\n")
    token = TokenFile(path)
    assert token.matches("Bearer 0123456789abcdef")
    assert token.matches("bearer  0123456789abcdef ")
    for header in (
        "",
        "Bearer",
        "Bearer 0123456789abcde",
        "Basic 0123456789abcdef",
        "0123456789abcdef",
    ):
        assert not token.matches(header)
    path.write_text("fedcba9876543210")
    assert not token.matches("Bearer 0123456789abcdef")
    assert token.matches("Bearer fedcba9876543210")
    path.unlink()
    with pytest.raises(UserError):
        token.matches("Bearer fedcba9876543210")
