"""The one error that a person is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Input from outside cannot be used. The message is one sentence: the place, then the cure.

    The command line prints it and exits with 2; an HTTP edge answers 400 with it. It never carries
    a traceback to a user.
    """
