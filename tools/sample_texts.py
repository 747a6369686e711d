"""Print a seeded sample of fleetmedic's texts, for a reader who rates each text.

The reader gives each text one rating: understood at once, odd but clear, read twice, wrong word, unclear.

Sample: the help of every command, every reason, 40 errors, 40 alert texts, 20 runbooks, the README, six
pages of docs and 100 docstrings.

Examples:
  .venv/bin/python tools/sample_texts.py --seed 1
  .venv/bin/python tools/sample_texts.py --seed 1 --kinds error,alert
"""

from __future__ import annotations

import argparse
import ast
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
import yaml

from fleetmedic.cli import cli as root
from remediator.core.reasons import SENTENCES

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("exporter", "fleetmedic", "remediator", "rules")
Text = tuple[str, str]  # location and text


def _helps(command: click.Command, path: str = "fleetmedic") -> Iterator[Text]:
    context = click.Context(command, info_name=path)
    yield f"{path} --help", command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _helps(below, f"{path} {name}")


def _sources() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def _said(node: ast.expr) -> str:
    """A literal text, with the expressions of an f-string in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            "{" + ast.unparse(part.value) + "}"
            if isinstance(part, ast.FormattedValue)
            else _said(part)
            for part in node.values
        )
    return ""


def _errors() -> Iterator[Text]:
    for name, tree in _sources():
        for node in ast.walk(tree):
            raised = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(raised, ast.Call) and raised.args:
                text = _said(raised.args[0])
                if len(text.split()) > 2:  # one or two words are a code, not a text
                    yield f"{name}:{node.lineno}", text


def _docstrings() -> Iterator[Text]:
    for name, tree in _sources():
        for node in ast.walk(tree):
            documented = isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            )
            if documented and (text := ast.get_docstring(node)):
                yield f"{name}: {getattr(node, 'name', 'module')}", text


def _alerts() -> Iterator[Text]:
    for path in sorted((ROOT / "rules/static").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    said = rule.get("annotations", {})
                    lines = [said[key] for key in ("summary", "description") if key in said]
                    yield rule["alert"], "\n".join(lines)


def _pages(folder: str) -> Iterator[Text]:
    for path in sorted((ROOT / folder).glob("*.md")):
        if path.name != "language.md":  # it reports the ratings of the samples
            yield str(path.relative_to(ROOT)), path.read_text()


KINDS: dict[str, tuple[Callable[[], Iterable[Text]], int | None]] = {
    "help": (lambda: _helps(root), None),
    "reason": (lambda: ((str(one), text) for one, text in SENTENCES.items()), None),
    "error": (_errors, 40),
    "alert": (_alerts, 40),
    "runbook": (lambda: _pages("docs/runbooks"), 20),
    "readme": (lambda: _pages("."), None),
    "page": (lambda: _pages("docs"), 6),
    "docstring": (_docstrings, 100),
}


def _draw(texts: list[Text], count: int, seed: str) -> list[Text]:
    return random.Random(seed).sample(texts, min(count, len(texts)))  # noqa: S311


def main() -> None:
    """Print the sample, each text with a number."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kinds", default=",".join(KINDS), help="comma-separated kinds to sample (default: all)"
    )
    options = parser.parse_args()
    number = 0
    for kind in options.kinds.split(","):
        if kind not in KINDS:
            parser.error(f"--kinds {kind}: expected one of {','.join(KINDS)}.")
        source, count = KINDS[kind]
        found = [text for text in source() if kind != "readme" or text[0] == "README.md"]
        if count is not None:
            # each kind has its own seed, so that a new error does not change the sampled docstrings
            found = _draw(found, count, f"{options.seed} {kind}")
        for where, text in found:
            number += 1
            print(f"---- {number} {kind} ({where})\n{text.rstrip()}\n")


if __name__ == "__main__":
    main()
