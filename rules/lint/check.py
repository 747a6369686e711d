"""The data types for the input and the output of a lint check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rules.rule_model import Rule, RuleGroup
from rules.series_labels import SeriesLabels

Severity = Literal["error", "warning"]
Problem = tuple[Severity, str]


@dataclass(frozen=True, slots=True)
class CheckInput:
    """The input of a check: one rule, its group, and the labels of all recording rules."""

    rule: Rule
    group: RuleGroup
    records: Mapping[str, SeriesLabels]


Check = Callable[[CheckInput], Iterator[Problem]]
