"""Puts the values of variables into a committed expression. Pure.

A value never changes the structure of the expression: it may stand only inside of a quoted string, is
escaped for the place (regular expression or plain), and everything outside of strings stays as committed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fleetmedic.kernel.errors import UserError

MAX_VALUES = 100
MAX_VALUE = 256
_STRING = re.compile(r"""(?P<op>=~|!~|=|!=)?(?P<gap>\s*)(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)""", re.S)  # fmt: skip
_NAME = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+),\s*(?P<label>[a-zA-Z_]\w*)\)", re.S)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The values of a variable. None is all of them, by the dashboard's own pattern `every`."""

    values: tuple[str, ...] | None
    every: str = ".*"


def fill(expr: str, chosen: Mapping[str, Chosen], spans: Mapping[str, int]) -> str:
    """The expression with values and `spans` (`__rate_interval` and the like, in seconds) in place.

    Raises UserError for a variable that is unknown, or that stands where no value may.
    """
    out, at = [], 0
    for found in _STRING.finditer(expr):
        out.append(_outside(expr[at : found.start("text")], spans))
        out.append(_inside(found["text"], found["op"], chosen))
        at = found.end()
    out.append(_outside(expr[at:], spans))
    return "".join(out)


def check(name: str, values: list[str]) -> None:
    """Raises UserError for more or longer values than anybody chooses, or an unprintable one."""
    if len(values) > MAX_VALUES:
        raise UserError(f"var-{name[:40]}: choose at most {MAX_VALUES} values, or all.")
    if any(len(value) > MAX_VALUE or "\x00" in value for value in values):
        raise UserError(f"var-{name[:40]}: a value has at most {MAX_VALUE} characters.")


def label_values(definition: str) -> tuple[str, str]:
    """Selector and label of `label_values(selector, label)`. Raises UserError for anything else."""
    found = _LABEL_VALUES.fullmatch(definition.strip())
    if found is None:
        raise UserError("This variable is not made by label_values(selector, label).")
    return found["selector"].strip(), found["label"]


def _outside(text: str, spans: Mapping[str, int]) -> str:
    def span(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in spans:
            raise UserError(f"${name} stands outside of a quoted string, where no value may.")
        return f"{spans[name]}s"

    return _NAME.sub(span, text)


def _inside(text: str, operator: str | None, chosen: Mapping[str, Chosen]) -> str:
    if not _NAME.search(text):
        return text

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in chosen:
            if (found[2] or "").isdigit():
                return found[0]  # $1 is a group of label_replace
            raise UserError(f"The dashboard has no variable ${name}.")
        if text.startswith("`"):
            raise UserError(f"${name} stands in a raw string, in which nothing can be escaped.")
        one = chosen[name]
        if operator in ("=~", "!~"):
            return _quoted(one.every if one.values is None else _pattern(one.values), text[0])
        if one.values is None or len(one.values) != 1:
            raise UserError(f"${name} needs one value here: it is compared for equality.")
        return _quoted(one.values[0], text[0])

    return text[0] + _NAME.sub(value, text[1:-1]) + text[-1]


def _pattern(values: tuple[str, ...]) -> str:
    escaped = [_SPECIAL.sub(r"\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _quoted(value: str, quote: str) -> str:
    """Escaped for a string in these quotes; the other kind of quote may not be escaped in PromQL."""
    for letter, written in (("\\", "\\\\"), (quote, f"\\{quote}"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(letter, written)
    return value
