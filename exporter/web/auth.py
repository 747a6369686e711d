"""Authentication: users with bcrypt hashes, and the token for releasing GPUs.

A bcrypt check takes a tenth of a second of CPU time, so successful checks are cached as a keyed
hash, never as a password. Failed checks are not cached.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path

from fleetmedic.kernel.errors import UserError

MAX_KEPT = 256
MAX_PASSWORD = 72  # bcrypt ignores further bytes; longer passwords are rejected, not truncated
MAX_HEADER = 2_000
MIN_TOKEN, MAX_TOKEN = 16, 1_000


def credentials(header: str) -> tuple[str, bytes] | None:
    """Return user and password of an Authorization header; None if it is not valid Basic
    authentication."""
    scheme, _, text = header.strip().partition(" ")
    if scheme.lower() != "basic" or len(text) > MAX_HEADER:
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


class Users:
    """Checks passwords against bcrypt hashes. Only `check` is thread-safe."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._kept: dict[bytes, None] = {}

    def is_cached(self, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        """Return whether these credentials passed an earlier check against the same hash. Fast."""
        return user in users and self._mark(user, password, users[user]) in self._kept

    def check(self, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        """Return whether the credentials are correct. `users` must not be empty.

        The call takes as long as one bcrypt check, even for an unknown user.
        """
        import bcrypt

        there = user in users
        digest = users[user] if there else self._decoy(user, users)
        fits = 0 < len(password) <= MAX_PASSWORD and b"\0" not in password
        try:
            right = bcrypt.checkpw(password if fits else b"x", digest.encode())
        except ValueError:
            right = False
        return right and there and fits

    def cache(self, user: str, password: bytes, users: Mapping[str, str]) -> None:
        """Cache these credentials after a successful check."""
        while len(self._kept) >= MAX_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[self._mark(user, password, users[user])] = None

    def _decoy(self, user: str, users: Mapping[str, str]) -> str:
        """Return the password hash that is checked when the user name is unknown.

        It is the hash of a real user, always the same for the same name. So the response time does
        not reveal which users exist, even if hashes have different costs.
        """
        drawn = hmac.digest(self._key, user.encode(), "sha256")
        return list(users.values())[int.from_bytes(drawn[:8], "big") % len(users)]

    def _mark(self, user: str, password: bytes, digest: str) -> bytes:
        parts = (user.encode(), password, digest.encode())
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, text, "sha256")


class TokenFile:
    """The file with the token for releasing GPUs.

    The file is read at each use, so that the token can be changed. Raises UserError if the file
    contains no valid token at startup.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read()

    def matches(self, header: str) -> bool:
        """Return whether an Authorization header contains the token.

        Raises UserError if the file no longer contains a valid token.
        """
        scheme, _, given = header.strip().partition(" ")
        token = self._read()
        same = hmac.compare_digest(
            hashlib.sha256(given.strip().encode()).digest(), hashlib.sha256(token).digest()
        )
        return scheme.lower() == "bearer" and same

    def _read(self) -> bytes:
        flag = f"--web.release-token-file {self._path}"
        try:
            with self._path.open("rb") as file:
                token = file.read(MAX_TOKEN + 2).strip()
        except OSError as error:
            raise UserError(
                f"{flag}: cannot read the file ({error.strerror}); check the path."
            ) from None
        if (
            not MIN_TOKEN <= len(token) <= MAX_TOKEN
            or not token.isascii()
            or len(token.split()) != 1
        ):
            raise UserError(
                f"{flag}: expected one token of {MIN_TOKEN} to {MAX_TOKEN} ASCII characters."
            )
        return token
