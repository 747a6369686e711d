"""Reads Prometheus rule files with the line number of each rule, and writes them in a canonical
form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.settings import parse_yaml
from rules.rule_model import Rule, RuleGroup

GROUP_KEYS = frozenset({"name", "interval", "limit", "rules"})
RULE_KEYS = frozenset(
    {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The groups of one rule file."""

    path: Path
    groups: tuple[RuleGroup, ...]

    def rules(self) -> Iterator[Rule]:
        """Yield all rules of the file in order."""
        for group in self.groups:
            yield from group.rules

    def text(self, header: str = "") -> str:
        """Return the rule file as YAML, with the header lines as comments. The output is deterministic."""
        body = yaml.dump(
            {"groups": [group.plain() for group in self.groups]},
            Dumper=_Dumper,
            sort_keys=False,
            width=100,
            allow_unicode=True,
        )
        return "".join(f"# {line}\n" for line in header.splitlines()) + body


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes multi-line queries as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def read(path: Path) -> RuleFile:
    """Read a rule file. Raises UserError with the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the file: {error}.") from None
    return parse(text, path)


def parse(text: str, path: Path) -> RuleFile:
    """Parse a rule file from a string; `path` is used in error messages only."""
    parse_yaml(text, str(path))  # rejects aliases, duplicate keys and invalid YAML
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    top = _mapping(root, path, frozenset({"groups"})) if root else {}
    groups = tuple(_group(node, path) for node in _items(top.get("groups"), path))
    return RuleFile(path, groups)


def _group(node: yaml.Node, path: Path) -> RuleGroup:
    raw = _mapping(node, path, GROUP_KEYS)
    rules = tuple(_rule(item, path) for item in _items(raw.get("rules"), path))
    return RuleGroup(
        _scalar(raw.get("name"), path), _scalar(raw.get("interval"), path), rules, _line(node)
    )


def _rule(node: yaml.Node, path: Path) -> Rule:
    raw = _mapping(node, path, RULE_KEYS)
    if ("alert" in raw) == ("record" in raw):
        raise UserError(f"{path}:{_line(node)}: expected either `alert` or `record` in a rule.")
    return Rule(
        name=_scalar(raw.get("alert") or raw.get("record"), path),
        expr=_scalar(raw.get("expr"), path).strip(),
        is_alert="alert" in raw,
        wait=_scalar(raw.get("for"), path),
        keep=_scalar(raw.get("keep_firing_for"), path),
        labels=_texts(raw.get("labels"), path),
        annotations=_texts(raw.get("annotations"), path),
        line=_line(node),
    )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _mapping(node: yaml.Node, path: Path, known: frozenset[str] | None) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}:{_line(node)}: expected a mapping.")
    found = {str(key.value): value for key, value in node.value}
    if known is not None and (strange := sorted(set(found) - known)):
        raise UserError(
            f"{path}:{_line(node)}: unknown key {strange[0]!r}; known keys: {', '.join(sorted(known))}."
        )
    return found


def _items(node: yaml.Node | None, path: Path) -> list[yaml.Node]:
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise UserError(f"{path}:{_line(node)}: expected a list.")
    return list(node.value)


def _scalar(node: yaml.Node | None, path: Path) -> str:
    if node is None:
        return ""
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(f"{path}:{_line(node)}: expected a string.")
    return str(node.value)


def _texts(node: yaml.Node | None, path: Path) -> dict[str, str]:
    if node is None:
        return {}
    return {key: _scalar(value, path) for key, value in _mapping(node, path, None).items()}
