"""Substitute variable values in a dashboard's PromQL expression. Pure functions.

A value cannot change the structure of the expression. Variables are allowed only inside quoted strings, and
each value is escaped for a regular expression or a plain string. Text outside of strings does not change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fleetmedic.kernel.errors import UserError

MAX_VALUES = 100
MAX_VALUE = 256
_STRING = re.compile(
    r"""(?P<op>=~|!~|=|!=)?(?P<gap>\s*)(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)""",
    re.S,
)
_NAME = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+),\s*(?P<label>[a-zA-Z_]\w*)\)", re.S)


@dataclass(frozen=True, slots=True)
class VariableValues:
    """The selected values of a variable. None means all, matched by the pattern `every`."""

    values: tuple[str, ...] | None
    every: str = ".*"


def fill(expr: str, chosen: Mapping[str, VariableValues], spans: Mapping[str, int]) -> str:
    """Substitute variables, and intervals such as `$__rate_interval` (`spans`, in seconds).

    Raises UserError for an unknown variable, or a variable where no value is allowed.
    """
    out, at = [], 0
    for found in _STRING.finditer(expr):
        out.append(_outside(expr[at : found.start("text")], spans))
        out.append(_inside(found["text"], found["op"], chosen))
        at = found.end()
    out.append(_outside(expr[at:], spans))
    return "".join(out)


def check(name: str, values: list[str]) -> None:
    """Raise UserError for too many values, or a value that is too long or contains NUL."""
    if len(values) > MAX_VALUES:
        raise UserError(f"var-{name[:40]}: select at most {MAX_VALUES} values, or all.")
    if any(len(value) > MAX_VALUE or "\x00" in value for value in values):
        raise UserError(
            f"var-{name[:40]}: a value is longer than {MAX_VALUE} characters or contains NUL."
        )


def label_values(definition: str) -> tuple[str, str]:
    """Return selector and label of `label_values(selector, label)`. Raises UserError for other queries."""
    found = _LABEL_VALUES.fullmatch(definition.strip())
    if found is None:
        raise UserError("Unsupported variable query: expected label_values(selector, label).")
    return found["selector"].strip(), found["label"]


def _outside(text: str, spans: Mapping[str, int]) -> str:
    def span(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in spans:
            raise UserError(
                f"Variable ${name} is outside of a quoted string; use variables only inside quoted strings."
            )
        return f"{spans[name]}s"

    return _NAME.sub(span, text)


def _inside(text: str, operator: str | None, chosen: Mapping[str, VariableValues]) -> str:
    if not _NAME.search(text):
        return text

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in chosen:
            if (found[2] or "").isdigit():
                return found[0]  # $1 is a group of label_replace
            raise UserError(f"The dashboard has no variable ${name}.")
        if text.startswith("`"):
            raise UserError(
                f"Variable ${name} is in a raw string (backquotes), where values cannot be escaped."
            )
        one = chosen[name]
        if operator in ("=~", "!~"):
            return _quoted(one.every if one.values is None else _pattern(one.values), text[0])
        if one.values is None or len(one.values) != 1:
            raise UserError(
                f"Variable ${name} needs exactly one value: the expression compares it with = or !=."
            )
        return _quoted(one.values[0], text[0])

    return text[0] + _NAME.sub(value, text[1:-1]) + text[-1]


def _pattern(values: tuple[str, ...]) -> str:
    escaped = [_SPECIAL.sub(r"\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _quoted(value: str, quote: str) -> str:
    """Escape a variable's value for a PromQL string in these quotes.

    PromQL does not allow escaping the other type of quote.
    """
    for letter, written in (("\\", "\\\\"), (quote, f"\\{quote}"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(letter, written)
    return value
