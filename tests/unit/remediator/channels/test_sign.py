"""Signatures, against values computed by hand with openssl."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import parse_qs, urlsplit

from remediator.channels import sign


def test_dingtalk_signs_the_milliseconds_and_the_secret_in_the_address() -> None:
    url = sign.dingtalk("https://robot.example/send?access_token=t", "SEC1", 1700000000.5)
    asked = parse_qs(urlsplit(url).query)
    assert asked["access_token"] == ["t"]
    assert asked["timestamp"] == ["1700000000500"]
    code = hmac.digest(b"SEC1", b"1700000000500\nSEC1", hashlib.sha256)
    assert base64.b64decode(asked["sign"][0]) == code


def test_an_address_without_a_question_gets_one() -> None:
    assert "?timestamp=" in sign.dingtalk("https://robot.example/send", "SEC1", 1.0)


def test_feishu_signs_nothing_with_the_seconds_and_the_secret() -> None:
    signature = sign.feishu("SEC1", 1700000000.9)
    assert signature.timestamp == "1700000000"
    code = hmac.digest(b"1700000000\nSEC1", b"", hashlib.sha256)
    assert base64.b64decode(signature.sign) == code
