"""Adapts the shipped rule files to one Prometheus. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from fleetmedic.kernel import labels as words
from fleetmedic.kernel.errors import UserError
from rules import promql
from rules.links import Links
from rules.rule_model import Rule
from rules.rulefile import RuleFile
from rules.timing import SHORTEST_INTERVAL, Timing

# Scrape jobs in the shipped rules.
JOBS = ("node", "remediator", "rules", "prometheus", "alertmanager", "service")


@dataclass(frozen=True, slots=True)
class RenderParameters:
    """The parameters by which rule files are adapted to one Prometheus.

    Every duration is divided by `factor`. `categories` selects alerts (empty: all). `jobs` maps the
    scrape jobs of the shipped rules to the names in this Prometheus. `scrape_interval` is in
    seconds. Raises UserError for invalid values.
    """

    factor: float = 1.0
    links: Links = field(default_factory=Links)
    scrape_interval: float = 5.0
    categories: frozenset[str] = frozenset()
    jobs: Mapping[str, str] = field(default_factory=dict)

    @property
    def timing(self) -> Timing:
        """The factor and the minimum values by which durations are shortened."""
        return Timing(self.factor, self.scrape_interval)

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 10_000:
            raise UserError(f"--factor: expected a number from 1 to 10000, got {self.factor:g}.")
        if strange := sorted(self.categories - set(words.CATEGORIES)):
            known = ", ".join(words.CATEGORIES)
            raise UserError(
                f"--category: unknown category {strange[0][:80]!r}; expected one of {known}."
            )
        if strange := sorted(set(self.jobs) - set(JOBS)):
            raise UserError(
                f"--job: unknown scrape job {strange[0][:80]!r}; expected one of {', '.join(JOBS)}."
            )
        for name in self.jobs.values():
            if not name or not name.isprintable() or set('"\\|') & set(name):
                raise UserError(
                    f"--job: invalid scrape job name {name[:80]!r}; expected SHIPPED=YOURS."
                )


def adapt(parameters: RenderParameters, files: Iterable[RuleFile]) -> tuple[RuleFile, ...]:
    """Return the adapted rule files. Files without rules are omitted.

    All durations are divided: `for`, `keep_firing_for`, ranges, offsets, group intervals, and
    numbers that are compared with time(). The minimum is four scrape intervals for ranges and such
    numbers, one scrape interval for `for` (otherwise one failed scrape would be an outage), and 1 s
    for group intervals.
    """
    changed = [_adapted_file(file, parameters) for file in files]
    if parameters.categories:
        changed = _selected(changed, parameters.categories)
    return tuple(file for file in changed if file.groups)


def _adapted_file(file: RuleFile, parameters: RenderParameters) -> RuleFile:
    groups = (
        replace(
            group,
            interval=parameters.timing.shortened(group.interval, SHORTEST_INTERVAL),
            rules=tuple(_adapted_rule(rule, parameters) for rule in group.rules),
        )
        for group in file.groups
    )
    return replace(file, groups=tuple(groups))


def _adapted_rule(rule: Rule, parameters: RenderParameters) -> Rule:
    annotations = parameters.links.with_base_urls(rule.annotations)
    expr = _renamed(rule.expr, parameters.jobs)
    if parameters.factor == 1:
        return replace(rule, expr=expr, annotations=annotations)
    return replace(
        rule,
        expr=promql.scale(expr, parameters.timing),
        wait=parameters.timing.shortened(rule.wait, parameters.scrape_interval),
        keep=parameters.timing.shortened(rule.keep, 0.0),
        annotations=annotations,
    )


def _renamed(expr: str, jobs: Mapping[str, str]) -> str:
    changes = [
        (matcher.start, matcher.end, f'job{matcher.op}"{_names(matcher.value, jobs)}"')
        for matcher in (promql.matchers(expr) if jobs else ())
        if matcher.name == "job"
    ]
    return promql.edit(expr, changes) if changes else expr


def _names(value: str, jobs: Mapping[str, str]) -> str:
    return "|".join(jobs.get(name, name) for name in value.split("|"))


def _selected(files: list[RuleFile], categories: frozenset[str]) -> list[RuleFile]:
    """Return the alerts of these categories, and the recording rules that they use directly or
    indirectly."""

    def wanted(rule: Rule) -> bool:
        return rule.is_alert and rule.labels.get(words.CATEGORY) in categories

    every = [rule for file in files for rule in file.rules()]
    records = {rule.name for rule in records_of([r for r in every if wanted(r)], every)}
    return [_only(file, lambda rule: wanted(rule) or rule.name in records) for file in files]


def _only(file: RuleFile, kept: Callable[[Rule], bool]) -> RuleFile:
    groups = (
        replace(group, rules=tuple(rule for rule in group.rules if kept(rule)))
        for group in file.groups
    )
    return replace(file, groups=tuple(group for group in groups if group.rules))


def records_of(rules: Iterable[Rule], every: Iterable[Rule]) -> list[Rule]:
    """Return the recording rules in `every` that `rules` use directly or indirectly, in the order
    of `every`."""
    known: dict[str, list[Rule]] = {}
    for rule in every:
        if not rule.is_alert:
            known.setdefault(rule.name, []).append(rule)
    found: set[str] = set()
    ahead = list(rules)
    while ahead:
        for selector in promql.selectors(ahead.pop().expr):
            if selector.metric in known and selector.metric not in found:
                found.add(selector.metric)
                ahead += known[selector.metric]
    return [rule for name, same in known.items() if name in found for rule in same]
