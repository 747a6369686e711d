"""The input and the output of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rules.rulefile import Group, Rule
from rules.series_labels import Flow

Severity = Literal["error", "warning"]
Problem = tuple[Severity, str]


@dataclass(frozen=True, slots=True)
class Place:
    """One rule, its group, and the labels of all recording rules."""

    rule: Rule
    group: Group
    records: Mapping[str, Flow]


Check = Callable[[Place], Iterator[Problem]]
