"""Compute the signatures that DingTalk and Feishu require from custom robots with a secret.

Sources: the services' pages on custom robots ("signature verification").
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode, urlsplit, urlunsplit

from remediator.channels.message import Signature


def dingtalk(url: str, secret: str, now: float) -> str:
    """Return the URL with `timestamp` (milliseconds) and `sign` as query parameters."""
    stamp = str(int(now * 1000))
    code = hmac.new(secret.encode(), f"{stamp}\n{secret}".encode(), hashlib.sha256).digest()
    signed = urlencode({"timestamp": stamp, "sign": base64.b64encode(code).decode()})
    parts = urlsplit(url)
    query = f"{parts.query}&{signed}" if parts.query else signed
    return urlunsplit(parts._replace(query=query))


def feishu(secret: str, now: float) -> Signature:
    """Return the timestamp (seconds) and the signature for the message."""
    stamp = str(int(now))
    code = hmac.new(f"{stamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
    return Signature(stamp, base64.b64encode(code).decode())
