"""Passwords are checked whole, wrong ones are never kept, and no header breaks the check."""

import base64

import bcrypt
import pytest

from exporter.auth import Users, credentials

USERS = {"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()}
LONG = {"long": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()}


def basic(user: str, password: str | bytes) -> str:
    raw = password.encode() if isinstance(password, str) else password
    return "Basic " + base64.b64encode(user.encode() + b":" + raw).decode()


def test_a_right_password_is_known_from_then_on_and_only_with_its_hash() -> None:
    users = Users()
    header = basic("prometheus", "right")
    assert not users.known(header, USERS)
    assert users.check(header, USERS)
    assert users.known(header, USERS)
    changed = {"prometheus": bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()}
    assert not users.known(header, changed)
    assert not users.known(header, {})


@pytest.mark.parametrize(
    "header",
    [
        "", "Basic", "Basic ", "Basic !!!", "Basic cHJvbWV0aGV1cw==", "Bearer right",
        basic("prometheus", "wrong"), basic("prometheus", ""), basic("nobody", "right"), basic("", "right"),
        basic("prometheus", "right\0x"), basic("prometheus", b"\xff\xfe"), basic("prometheus", "r" * 100),
        basic("prometheus", "x" * 5000), "Basic " + base64.b64encode(b"\xff\xff:x").decode(),
    ],
)  # fmt: skip
def test_anything_else_is_refused_counted_and_not_kept(header: str) -> None:
    users = Users()
    assert not users.check(header, USERS)
    assert users.failures == 1
    assert not users.known(header, USERS)


def test_a_password_over_72_bytes_is_refused_though_bcrypt_would_cut_it() -> None:
    users = Users()
    assert users.check(basic("long", "x" * 72), LONG)
    assert not users.check(basic("long", "x" * 73), LONG)


def test_a_colon_belongs_to_the_password() -> None:
    assert credentials(basic("a", "b:c")) == ("a", b"b:c")
