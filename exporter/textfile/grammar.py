"""A strict parser for one line of the text format 0.0.4.

The parser of prometheus-client accepts input that Prometheus rejects: duplicate series, a truncated
last line, numbers in Python notation. The exporter does not use this package, which would take 1.9
MB of memory.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from exporter.exposition import MAX_VALUE
from exporter.textfile.rejected import TextFileRejected

MAX_NAME = 200
MAX_HELP = 2048
MAX_LABELS = 32
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
_COMMENT = re.compile(r"#[ \t]*(HELP|TYPE)(?:[ \t]+(\S+)(?:[ \t]+(.*))?)?", re.DOTALL)
_HEAD = re.compile(rf"[ \t]*({_NAME})[ \t]*")
_PAIR = re.compile(
    rf'[ \t]*({_LABEL})[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:(,)[ \t]*|(?=}}))', re.DOTALL
)
_VALUE = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity)|nan", re.I | re.ASCII
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_IN_LABELS = {"n": "\n", "\\": "\\", '"': '"'}
_IN_HELP = {"n": "\n", "\\": "\\"}

Labels = tuple[tuple[str, str], ...]


class Comment(NamedTuple):
    """The HELP or TYPE line of a metric family."""

    word: str
    name: str
    text: str


class Line(NamedTuple):
    """A sample line. Labels are sorted. Labels with an empty value are omitted, because they have
    no meaning."""

    name: str
    labels: Labels
    value: float


def read(line: str) -> Comment | Line | None:
    """Parse a line; None for an empty line or a plain comment. Raises TextFileRejected."""
    text = line.lstrip(" \t")
    if not text:
        return None
    if text.startswith("#"):
        return _comment(text)
    head = _HEAD.match(text)
    if head is None:
        raise TextFileRejected("format", "expected a metric name at the start of the line")
    name, at = head[1], head.end()
    _bounded(name)
    labels: Labels = ()
    if text[at : at + 1] == "{":
        labels, at = _labels(text, at + 1)
    elif not text[head.end(1) : at]:
        raise TextFileRejected("format", f"{name} has no value")
    return Line(name, labels, _value(name, text[at:].lstrip(" \t")))


def number(text: str) -> float:
    """Parse a number in Prometheus notation. Raises ValueError."""
    if not _VALUE.fullmatch(text):
        raise ValueError("not a number")
    value = float(text)
    if math.isinf(value) and "inf" not in text.lower():
        raise ValueError("out of range")
    return value


def _bounded(name: str) -> None:
    if len(name) > MAX_NAME:
        raise TextFileRejected("limit", f"name longer than {MAX_NAME} characters")


def _comment(text: str) -> Comment | None:
    found = _COMMENT.fullmatch(text)
    if found is None or found[3] is None:
        return None
    word, name, rest = found[1], found[2], found[3]
    if not re.fullmatch(_NAME, name):
        raise TextFileRejected("format", f"{word} with an invalid metric name")
    _bounded(name)
    if word == "HELP":
        if len(rest) > MAX_HELP:
            raise TextFileRejected("limit", f"HELP longer than {MAX_HELP} characters")
        return Comment(word, name, _plain(rest, _IN_HELP))
    kind = rest.rstrip(" \t").lower()
    if kind not in TYPES:
        raise TextFileRejected("format", f"{name}: expected a type out of {', '.join(TYPES)}")
    return Comment(word, name, kind)


def _labels(text: str, at: int) -> tuple[Labels, int]:
    """Parse the labels at position `at`. Returns them and the position after them."""
    found: dict[str, str] = {}
    more = True
    at += len(text[at:]) - len(text[at:].lstrip(" \t"))
    while text[at : at + 1] != "}":
        pair = _PAIR.match(text, at) if more else None
        if pair is None:
            raise TextFileRejected("format", 'expected labels in the form {name="value"}')
        name, more, at = pair[1], pair[3] is not None, pair.end()
        if name == "__name__" or name in found:
            raise TextFileRejected("format", f"duplicate or reserved label {name[:MAX_NAME]}")
        _bounded(name)
        found[name] = _plain(pair[2], _IN_LABELS)
        if len(found) > MAX_LABELS or len(found[name]) > MAX_VALUE:
            limits = f"{MAX_LABELS} labels, or {MAX_VALUE} characters in one"
            raise TextFileRejected("limit", f"more than {limits}")
    return tuple(sorted((name, value) for name, value in found.items() if value)), at + 1


def _plain(text: str, escapes: dict[str, str]) -> str:
    def plain(escape: re.Match[str]) -> str:
        if escape[1] not in escapes:
            raise TextFileRejected("format", "invalid escape sequence")
        return escapes[escape[1]]

    if _ESCAPE.sub("", text).endswith("\\"):
        raise TextFileRejected("format", "incomplete escape sequence")
    return _ESCAPE.sub(plain, text)


def _value(name: str, text: str) -> float:
    words = re.split(r"[ \t]", text, maxsplit=1)
    try:
        value = number(words[0])
    except ValueError:
        raise TextFileRejected("format", f"the value of {name} is not a number") from None
    if len(words) == 1:
        return value
    if re.fullmatch(r"[+-]?[0-9]+", words[1].strip(" \t"), re.ASCII):
        raise TextFileRejected(
            "timestamp", f"{name} has a timestamp, which would hide the age of the value"
        )
    raise TextFileRejected("format", f"unexpected text after the value of {name}")
