"""Who may ask: users with bcrypt hashes. A check costs a tenth of a second, so successes are kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping

MAX_KEPT = 256
MAX_PASSWORD = 72  # bcrypt looks no further, and a longer one is refused rather than cut
# The hash of no password, checked for unknown users so that they take as long as known ones.
_NOBODY = b"$2b$10$VbZTWS1dDpisU1gUE1T8TuWK0zcq0ZaSaROVaD0/fQZrs/17Z2H.O"


def credentials(header: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header; None when it is none for Basic."""
    scheme, _, text = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class Users:
    """Checks passwords against the hashes that it is given. Belongs to one thread but for `check`."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._kept: dict[bytes, None] = {}
        self.failures = 0

    def known(self, header: str, users: Mapping[str, str]) -> bool:
        """Whether these credentials were right before, against the same hash. Takes no time."""
        given = credentials(header)
        return given is not None and self._token(*given, users.get(given[0], "")) in self._kept

    def check(self, header: str, users: Mapping[str, str]) -> bool:
        """Whether the credentials are right; takes as long as bcrypt does, whoever asks."""
        import bcrypt

        given = credentials(header)
        user, password = given or ("", b"")
        known = user in users
        digest = users[user].encode() if known else _NOBODY
        fits = 0 < len(password) <= MAX_PASSWORD and b"\0" not in password
        try:
            right = bcrypt.checkpw(password if fits else b"x", digest)
        except ValueError:
            right = False
        if not (right and known and fits):
            self.failures += 1
            return False
        while len(self._kept) >= MAX_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[self._token(user, password, users[user])] = None
        return True

    def _token(self, user: str, password: bytes, digest: str) -> bytes:
        text = b"\0".join((user.encode(), password, digest.encode()))
        return hmac.new(self._key, text, hashlib.sha256).digest()
