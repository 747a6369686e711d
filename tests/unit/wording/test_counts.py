"""A number and its noun agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fleetmedic
from fleetmedic.wording.counts import counted

# A number that is computed, before a plural: the text is wrong for the number 1.
COMPUTED = re.compile(
    r"\{(?:len\([^}]*\)|waiting:g|found\.wanted|count|left|ended|errors|total|replicas|plan\.gpus)\} "
    r"(?:[a-z]+ ){0,2}(?:alerts|events|GPUs|hosts|incidents|jobs|nodes|playbooks|processes|replicas|"
    r"requests|targets|warnings)\b"
)
# Only for more than one, or after a part of a whole ("2 of 8 GPUs").
PLURAL_ONLY = (
    "more than {MAX_TARGETS}",
    "different jobs failed on this GPU",
    'alerts" if',
    "of {len(",
    'alert" if len',
)


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "node", "0 nodes"), (1, "node", "1 node"), (2, "node", "2 nodes"),
        (1.0, "waiting request", "1 waiting request"), (0.5, "GPU", "0.5 GPUs"),
        (1, "process", "1 process"), (3, "process", "3 processes"), (1_000_000, "alert", "1000000 alerts"),
    ],
)  # fmt: skip
def test_one_is_singular(number: float, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_no_sentence_has_a_computed_number_before_a_fixed_plural() -> None:
    root = Path(fleetmedic.__file__).parents[1]
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for package in ("remediator", "fleetmedic")
        for path in sorted((root / package).rglob("*.py"))
        for line in path.read_text().splitlines()
        if COMPUTED.search(line) and not any(one in line for one in PLURAL_ONLY)
    ]
    assert found == []
