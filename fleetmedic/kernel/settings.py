"""Read YAML and JSON into msgspec Structs. Errors contain the path in the file.

Structs for settings are declared `frozen=True, forbid_unknown_fields=True`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from fleetmedic.kernel.errors import UserError
from fleetmedic.wording.invalid_keys import error_parts, named
from fleetmedic.wording.malformed import encoding_problem, json_problem, yaml_problem

T = TypeVar("T")
_STEPS = re.compile(r"\.(\w+)|\[")
_ITEMS = ("item_type", "value_type")
MAX_BYTES = 1_000_000
# Exceptions of PyYAML's constructors, besides its own, for a value that does not fit its tag.
_MISFITS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


# The YAML events before the first row of a file for `load_rows`.
_BEFORE_ROWS = (
    yaml.StreamStartEvent,
    yaml.DocumentStartEvent,
    yaml.MappingStartEvent,
    yaml.ScalarEvent,
    yaml.SequenceStartEvent,
)


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that rejects anchors, aliases, merge keys and duplicate keys.

    With aliases, a small file could expand without limit. Other such keys hide or lose a value.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            said = "anchors and aliases are not supported"
            raise yaml.MarkedYAMLError(None, None, said, event.start_mark)
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                said = "merge keys (<<) are not supported"
                raise yaml.MarkedYAMLError(None, None, said, key.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"duplicate key {key.value!r}", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> object:
    """Parse a YAML string and return its value. Raises UserError with `where` and the line."""
    if len(text) > MAX_BYTES:
        raise UserError(f"{where}: larger than {MAX_BYTES} bytes. Reduce its size.")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, *_MISFITS) as error:
        raise UserError(f"{where}{_line(error)}: {yaml_problem(error)}") from None


def convert(value: object, shape: type[T], where: str) -> T:
    """Validate a value against a Struct. Raises UserError with the path of the invalid key."""
    value = value if value is not None else {}
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {_with_number(misfit(error, shape, value), value)}") from None


def parse_json(body: bytes, shape: type[T], where: str) -> T:
    """Decode and validate JSON. Raises UserError with `where` and the path inside the JSON."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {misfit(error, shape, _untyped(body))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{where}: at $: invalid JSON ({json_problem(body, error)}).") from None


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _with_number(sentence: str, value: object) -> str:
    """Return the error; if YAML read a number as text, such as 1e9, with the way to write the number."""
    place = re.match(r"at \$((?:\.\w+|\[\d+\])+): expected `(?:float|int)`.*got `str`", sentence)
    if place is None:
        return sentence
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", place[1]):
        inner = value.get(name) if isinstance(value, dict) else None
        value = value[int(index)] if index and isinstance(value, list) else inner
    try:
        number = float(str(value))
    except ValueError:
        return sentence
    written = f"{number:.0f}" if number.is_integer() else f"{number!r}"
    return f"{sentence} Write {str(value)[:40]} as {written} and without quotes."


def misfit(error: msgspec.ValidationError, shape: type | None = None, value: object = None) -> str:
    """Return msgspec's error as a sentence that begins with the path: `at $.a[0]: expected ...`.

    With the expected `shape`, an invalid enum value or tag is followed by the valid ones. With the
    `value` too, the path contains the keys of mappings.
    """
    what, path = error_parts(error)
    key = "a key of " if path.startswith("`key`") else ""
    place = path.removeprefix("`key` in ").strip("`") or "$"
    choice = what.startswith(("Invalid enum value", "Invalid value"))
    valid = _valid_values(shape, place) if shape and choice else ""
    place = named(place, error, value, shape) if shape else place
    return f"at {key}{place}: {what[:1].lower()}{what[1:400]}{valid}."


def _untyped(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the decoder stopped before the malformed part


def _valid_values(shape: type, place: str) -> str:
    """Return the values that an enum or Literal at a path, such as $.jobs[0].level, accepts."""
    members: tuple[Any, ...] = (msgspec.inspect.type_info(shape),)
    for name in _STEPS.findall(place):
        inner: list[Any] = []
        for one in members:
            inner += [
                field.type for field in getattr(one, "fields", ()) if field.encode_name == name
            ]
            inner += [getattr(one, kind) for kind in _ITEMS if hasattr(one, kind) and not name]
        tags = [str(one.tag) for one in members if getattr(one, "tag_field", None) == name]
        if tags:
            return f"; expected one of: {', '.join(tags)}"
        members = tuple(each for one in inner for each in getattr(one, "types", (one,)))
    values = [str(v) for one in members for v in getattr(one, "values", getattr(one, "cls", ()))]
    return f"; expected one of: {', '.join(values)}" if values else ""


def load(path: Path, shape: type[T]) -> T:
    """Read a YAML file into a Struct. Raises UserError with the file name and the path of the invalid key."""
    return convert(parse_yaml(_text(path), str(path)), shape, str(path))


def load_rows(path: Path, key: str, shape: type[T]) -> tuple[T, ...]:
    """Read a YAML file with one long list under `key`, row by row.

    Reading the whole file at once would need ten times the memory. Raises UserError as `load` does.
    """
    text = _text(path)
    try:
        loader = _Loader(text)
        try:
            return tuple(_rows(loader, path, key, shape))
        finally:
            loader.dispose()
    except (yaml.YAMLError, *_MISFITS) as error:
        raise UserError(f"{path}{_line(error)}: {yaml_problem(error)}") from None


def _rows(loader: _Loader, path: Path, key: str, shape: type[T]) -> Iterator[T]:
    for expected in _BEFORE_ROWS:
        event = loader.get_event()  # type: ignore[no-untyped-call]
        if not isinstance(event, expected) or getattr(event, "value", key) != key:
            raise UserError(f"{path}: expected exactly one key, {key!r}, with a list.")
    number = 0
    while not loader.check_event(yaml.SequenceEndEvent):
        node = loader.compose_node(None, number)
        value = loader.construct_document(node)
        yield convert(value, shape, f"{path}: at $.{key}[{number}]")
        number += 1


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Check the path.") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}. Check the file and its "
            "permissions."
        ) from None
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(body) > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES} bytes. Reduce its size.") from None
        raise UserError(f"{path}: {encoding_problem(body[:4])}") from None
