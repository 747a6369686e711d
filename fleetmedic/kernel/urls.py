"""Check the URLs in settings and options. An error never contains the URL, because a URL can contain secrets."""

from __future__ import annotations

from urllib.parse import urlsplit

from fleetmedic.kernel.errors import UserError


def check_url(text: str, place: str) -> None:
    """Check for http or https, a host, and a port from 1 to 65535. Raises UserError that starts with `place`."""
    start, _, _ = text.partition(":")
    if start.lower() not in ("http", "https") or not text.isprintable() or " " in text:
        raise UserError(f"{place}: expected a URL such as http://HOST:PORT.")
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna")
    except ValueError:
        host = b""
    if not host:
        raise UserError(f"{place}: expected a URL with a valid host, such as http://HOST:PORT.")
    try:
        valid = parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{place}: expected a URL with a port from 1 to 65535, or without a port.")


def check_base_url(text: str, place: str) -> None:
    """Also check that paths can be appended. Raises UserError."""
    check_url(text, place)
    if "?" in text or "#" in text:
        raise UserError(
            f"{place}: expected a URL without query and fragment; remove the part from ? or # on."
        )


def check_public_url(text: str, place: str) -> None:
    """Also check that the URL of pages, which users see, contains no credentials. Raises UserError."""
    check_base_url(text, place)
    if "@" in urlsplit(text).netloc:
        raise UserError(
            f"{place}: expected a URL without user name and password; remove the part up to @."
        )
