"""The exception for errors that are shown to users, and the cut of long texts."""

from __future__ import annotations


class UserError(Exception):
    """An error caused by external input. The message says where, what is wrong, and how to fix it.

    The command line prints the message and exits with code 2; an HTTP handler responds with 400.
    Users never see a traceback.
    """


def shortened(text: str, limit: int) -> str:
    """Truncate the string to `limit` characters. A truncated string ends with "..."."""
    return text if len(text) <= limit else text[: limit - 3] + "..."
