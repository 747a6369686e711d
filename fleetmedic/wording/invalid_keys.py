"""Name the key of an invalid value in a mapping. msgspec writes `[...]` in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

ANY_KEY = "[...]"
MAX_KEYS = 200
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")


def error_parts(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return the message and the path of msgspec's error, such as `$.channels[...].kind`."""
    what, _, path = str(error).partition(" - at ")
    return what, path


def named(path: str, error: msgspec.ValidationError, value: object, shape: Any) -> str:
    """Return the path with the keys in place of `[...]`.

    A key is found by converting the value with only this key. `[...]` stays if no key is found.
    """
    parts = error_parts(error)
    for _ in range(path.count(ANY_KEY)):
        prefix = path.partition(ANY_KEY)[0]
        for key, reduced in _with_one_key(value, list(_steps(prefix))):
            try:
                msgspec.convert(reduced, shape)
            except msgspec.ValidationError as other:
                if error_parts(other) == parts:
                    value, path = reduced, path.replace(ANY_KEY, _step(key), 1)
                    break
        else:
            return path
    return path


def _steps(prefix: str) -> Iterator[str | int]:
    for name, index in _STEP.findall(prefix):
        yield int(index) if index else name


def _step(key: object) -> str:
    text = str(key)
    return f".{text}" if _PLAIN.fullmatch(text) else f"[{json.dumps(text[:80])}]"


def _with_one_key(value: Any, steps: list[str | int]) -> Iterator[tuple[object, object]]:
    """Yield each key of the mapping at a path, and the whole value with only this key in the mapping."""
    if not steps:
        for key in list(value)[:MAX_KEYS] if isinstance(value, dict) else ():
            yield key, {key: value[key]}
        return
    first, *rest = steps
    try:
        inner = value[first]
    except (LookupError, TypeError):
        return
    for key, reduced in _with_one_key(inner, rest):
        if isinstance(first, int):  # the items after the invalid one are not needed
            yield key, [*value[:first], reduced]
        else:
            yield key, {**value, first: reduced}
