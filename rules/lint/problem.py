"""What a check yields, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from rules.flow import Flow
from rules.rulefile import Group, Rule

Severity = Literal["error", "warning"]
Problem = tuple[Severity, str]


@dataclass(frozen=True, slots=True)
class Place:
    """One rule, the group it stands in, and what the recording rules of all files give."""

    rule: Rule
    group: Group
    records: Mapping[str, Flow]


Check = Callable[[Place], Iterator[Problem]]
