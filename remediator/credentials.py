"""Read the files with the webhook token and with the password for read access."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleetmedic.kernel.errors import UserError
from remediator.settings import RemediatorSettings

WRITE_THE_SAME = (
    "write a long random token into it (mode 0600) and configure the same token in Alertmanager"
)
WRITE_ANOTHER = (
    "write a long random password into it (mode 0600), or remove view_password_file; "
    "users enter this password in their browser"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The webhook token, the password for read access, and warnings about their files."""

    token: str
    view_password: str | None
    warnings: tuple[str, ...]


def read_credentials(settings: RemediatorSettings) -> Credentials:
    """Read both files. Raises UserError with the key of remediator.yml that names the file."""
    with key_named(settings, "webhook_token_file"):
        token, token_warning = read_token(settings.token_file)
    if settings.view_password_file is None:
        return Credentials(token, None, tuple(filter(None, (token_warning,))))
    with key_named(settings, "view_password_file"):
        password, password_warning = read_token(
            settings.view_password_file, "password", WRITE_ANOTHER
        )
        if password == token:
            raise UserError(
                f"{settings.view_password_file}: the password is the webhook token, so users with read access "
                "could send orders. Write another password into the file."
            )
    return Credentials(token, password, tuple(filter(None, (token_warning, password_warning))))


@contextlib.contextmanager
def key_named(settings: RemediatorSettings, key: str) -> Iterator[None]:
    """Add the key of remediator.yml that names a file to errors about this file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{settings.where}: at $.{key}: {error}") from None


def read_token(
    path: Path, noun: str = "token", cure: str = WRITE_THE_SAME
) -> tuple[str, str | None]:
    """Read a token; returns it with a warning if other users may read the file. Raises UserError.

    `noun` is what the file contains. `cure` says what to do if the file does not exist.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; {cure}.") from None
    except (OSError, UnicodeDecodeError) as error:
        what = getattr(error, "strerror", None) or "it is not plain ASCII"
        raise UserError(f"{path}: the {noun} cannot be read: {what}.") from None
    if len(text) < 16 or not text.isprintable() or " " in text:
        raise UserError(f"{path}: expected a {noun} of at least 16 characters without spaces.")
    loose = mode & (stat.S_IRWXG | stat.S_IRWXO)
    warning = (
        f"{path} is accessible to other users (mode {mode:o}); change its mode to 0600."
        if loose
        else None
    )
    return text, warning
