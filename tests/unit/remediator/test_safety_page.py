"""docs/safety.md: every row names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "safety.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)


@cache
def _tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(one.name for one in tree.body if isinstance(one, kinds))


def test_every_row_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith("| situation ")]
    assert len(rows) >= 40
    assert [row for row in rows if not re.search(r"`tests/[\w/]+\.py::test_\w+` \|$", row)] == []
    assert [(path, name) for path, name in NAMED if name not in _tests(path)] == []


def test_every_real_stack_test_is_in_the_table() -> None:
    harms = sorted((ROOT / "tests" / "integration").glob("test_harm_*.py"))
    written = {
        (str(path.relative_to(ROOT)), name)
        for path in harms
        for name in _tests(str(path.relative_to(ROOT)))
        if name.startswith("test_")
    }
    assert written - set(NAMED) == set()


def test_the_sections_are_numbered_in_order() -> None:
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", PAGE, re.MULTILINE)]
    assert len(numbers) >= 17
    assert numbers == [*range(1, len(numbers) + 1)]
