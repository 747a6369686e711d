"""Compile the regular expressions of Alertmanager's matchers (Go syntax, RE2) for Python.

The remediator must match labels exactly as Alertmanager does, so each expression is translated token by token.
An expression is rejected if Go or Python rejects it, or if they interpret it differently.
"""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"""
      \\(?P<escape>x[0-9A-Fa-f]{2}|.)
    | (?P<open>\((?:\?(?:P<[A-Za-z_][A-Za-z0-9_]*>|[is]*(?:-[is]+)?:))?(?!\?))
    | (?P<close>\))
    | (?P<count>\{(?:0|[1-9][0-9]{0,8})(?:,(?:0|[1-9][0-9]{0,8})?)?\})
    | (?P<repeat>[*+?])
    | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])
    | (?P<plain>[^\\(\[])
    """,
    re.VERBOSE | re.DOTALL,
)
_FLAGS = re.compile(r"\(\?([is]+)\)")
_ITEM = re.compile(r"\\(?P<escape>x[0-9A-Fa-f]{2}|.)|(?P<plain>[^\\])", re.DOTALL)
# In Go these match ASCII only, in Python all of Unicode.
_SETS = {
    "d": "0-9",
    "w": "0-9A-Za-z_",
    "s": r"\t\n\f\r ",
    "D": r"\x00-/:-\U0010ffff",
    "W": r"\x00-/:-@\[-\^`{-\U0010ffff",
    "S": r"\x00-\x08\x0b\x0e-\x1f!-\U0010ffff",
}
_ANCHORS = {"A": r"\A", "z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}
_CONTROLS = "afnrtv"
MAX_REPEAT = 1000


@lru_cache(maxsize=4096)
def expression(text: str) -> re.Pattern[str]:
    """Compile a matcher's regular expression for `fullmatch`. Raises ValueError with the reason."""
    flags = _FLAGS.match(text)
    body = text[flags.end() :] if flags else text
    pattern = f"(?{flags[1] if flags else ''}:{_translated(body)})"
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "nested too deeply"
        raise ValueError(reason) from None


def _translated(text: str) -> str:
    found: list[str] = []
    counts = _Counts()
    at, repeated = 0, False
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"{_start(text, at)} is not supported")
        kind, what = str(token.lastgroup), token[0]
        if what == "+" and repeated:
            raise ValueError("a + after a repetition is not supported")
        counts.add(kind, what)
        found.append(_piece(kind, what, token["escape"]))
        at, repeated = token.end(), kind in ("repeat", "count")
    return "".join(found)


def _start(text: str, at: int) -> str:
    return "an unclosed [" if text[at] == "[" else f"{text[at : at + 4]!r}"


def _piece(kind: str, what: str, escape: str | None) -> str:
    if kind == "escape" and escape is not None:
        if escape in _SETS:
            return f"[{_SETS[escape]}]"
        return _ANCHORS.get(escape) or _character(escape)
    if kind == "set":
        return _set(what)
    if kind == "plain":
        # `$` matches only at the end in Go; in Python also before a trailing newline
        return r"\Z" if what == "$" else what if what in "^.|" else re.escape(what)
    return what


def _character(escape: str) -> str:
    """Convert an escaped character of Go's regular expression syntax to Python's syntax."""
    if escape in _CONTROLS or len(escape) == 3:
        return f"\\{escape}"
    if escape.isascii() and not escape.isalnum():
        return re.escape(escape)
    raise ValueError(f"\\{escape} has different meanings in Alertmanager and in the remediator")


def _set(text: str) -> str:
    """Convert a character set in brackets from Go's syntax to Python's, with special characters escaped."""
    negated = text.startswith("[^")
    body = text[2 if negated else 1 : -1]
    if re.search(r"\[:\^?\w+:", body):
        raise ValueError("a named set such as [:alpha:] is not supported; list its characters")
    items = list(_ITEM.finditer(body))
    found: list[str] = []
    while items:
        item = items.pop(0)
        if item["escape"] in _SETS:
            found.append(_SETS[item["escape"]])
            continue
        found.append(_member(item))
        if len(items) >= 2 and items[0][0] == "-":
            found.append(f"-{_member(items[1])}")
            del items[:2]
    return f"[{'^' if negated else ''}{''.join(found)}]"


def _member(item: re.Match[str]) -> str:
    return re.escape(item[0]) if item["escape"] is None else _character(item["escape"])


class _Counts:
    """Limits the repetitions in a regular expression. Go multiplies the counts of nested
    repetitions, and rejects a product above 1000."""

    def __init__(self) -> None:
        self._largest = [1]
        self._last = 1

    def add(self, kind: str, what: str) -> None:
        if kind == "open":
            self._largest.append(1)
        elif kind == "close":
            self._last = self._largest.pop() if len(self._largest) > 1 else 1
        elif kind == "count":
            self._last *= max(1, *(int(each) for each in what[1:-1].split(",") if each))
            if self._last > MAX_REPEAT:
                raise ValueError(f"Alertmanager rejects more than {MAX_REPEAT} repetitions")
        elif kind != "repeat":
            self._last = 1
        self._largest[-1] = max(self._largest[-1], self._last)
