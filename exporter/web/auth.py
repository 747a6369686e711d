"""Users with bcrypt hashes, and the token that lets GPUs be released.

A check costs a tenth of a second of processor time, so successes are kept (under a keyed hash, never
the password itself) and failures are not.
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
MAX_PASSWORD = 72  # bcrypt looks no further, and a longer one is refused rather than cut
MAX_HEADER = 2_000
MIN_TOKEN, MAX_TOKEN = 16, 1_000


def credentials(header: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header; None when it is none for Basic."""
    scheme, _, text = header.strip().partition(" ")
    if scheme.lower() != "basic" or len(text) > MAX_HEADER:
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

    def known(self, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        """Whether these were right before, against the same hash. Takes no time."""
        return user in users and self._mark(user, password, users[user]) in self._kept

    def check(self, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        """Whether they are right; takes as long as bcrypt does, whoever asks. `users` has one or more."""
        import bcrypt

        there = user in users
        digest = users[user] if there else self._decoy(user, users)
        fits = 0 < len(password) <= MAX_PASSWORD and b"\0" not in password
        try:
            right = bcrypt.checkpw(password if fits else b"x", digest.encode())
        except ValueError:
            right = False
        return right and there and fits

    def keep(self, user: str, password: bytes, users: Mapping[str, str]) -> None:
        """Remember a success."""
        while len(self._kept) >= MAX_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[self._mark(user, password, users[user])] = None

    def _decoy(self, user: str, users: Mapping[str, str]) -> str:
        """The hash that is checked for somebody unknown: a real one, always the same for the same
        name, so that the time taken does not tell who is a user where costs differ."""
        drawn = hmac.digest(self._key, user.encode(), "sha256")
        return list(users.values())[int.from_bytes(drawn[:8], "big") % len(users)]

    def _mark(self, user: str, password: bytes, digest: str) -> bytes:
        parts = (user.encode(), password, digest.encode())
        text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, text, "sha256")


class TokenFile:
    """The file with the token for releasing GPUs; read for each use, so that it can be changed.

    Raises UserError when there is no good token in it at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read()

    def matches(self, header: str) -> bool:
        """Whether an Authorization header carries the token. Raises UserError when the file is no
        more what it was at the start."""
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
            raise UserError(f"{flag} cannot be read ({error.strerror}); check the path.") from None
        if (
            not MIN_TOKEN <= len(token) <= MAX_TOKEN
            or not token.isascii()
            or len(token.split()) != 1
        ):
            raise UserError(
                f"{flag}: write one token of {MIN_TOKEN} to {MAX_TOKEN} ASCII characters into it."
            )
        return token
