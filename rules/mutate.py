"""Mutation testing of the alert rules: for each mutation of a rule, a promtool test must fail.

Mutations: each threshold 10 % higher and lower, each matcher dropped and altered, each alternative
of a regular expression dropped, `for` and `keep_firing_for` dropped. promtool runs the tests of the
alert with the mutated rule alone. A mutation that no test detects is a survivor and needs a
documented reason.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from fleetmedic.kernel import settings
from fleetmedic.kernel.errors import UserError
from rules import promql
from rules.adaptation import records_of
from rules.render import shipped
from rules.rule_model import Rule, RuleGroup
from rules.rulefile import RuleFile

TESTS = Path(__file__).resolve().parent.parent / "tests" / "promtool"
SURVIVORS = "survivors.yaml"
SHARE = 0.1
SECONDS_PER_RUN = 60


@dataclass(frozen=True, slots=True)
class Mutation:
    """A mutated rule. `what` describes the mutation and is unique for the alert."""

    what: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class MutationResult:
    """Whether a test failed for a mutation. `reason` says why a survivor is allowed."""

    alert: str
    what: str
    killed: bool
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether a test detected the mutation, or the survivors file has a reason for it.

        A reason for a detected mutation is wrong.
        """
        return self.killed != bool(self.reason)


class Survivor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mutation that no test can detect, and the reason."""

    alert: str
    what: str
    reason: str


class _Survivors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    survivors: tuple[Survivor, ...] = ()


def mutations(rule: Rule) -> list[Mutation]:
    """Return all mutations of an alert rule, in a stable order. Pure."""
    wrong = [
        Mutation(what, replace(rule, expr=expr))
        for what, expr in (*_moved_numbers(rule.expr), *_changed_matchers(rule.expr))
    ]
    if rule.wait:
        wrong.append(Mutation("for dropped", replace(rule, wait="")))
    if rule.keep:
        wrong.append(Mutation("keep_firing_for dropped", replace(rule, keep="")))
    return wrong


def _moved_numbers(expr: str) -> Iterator[tuple[str, str]]:
    for count, number in enumerate(promql.numbers(expr), start=1):
        step = number.value * SHARE or SHARE
        for value in (number.value + step, number.value - step):
            new = f"{value:.6g}" if value >= 0 else f"({value:.6g})"
            what = f"number {count}: {number.value:g} becomes {value:.6g}"
            yield what, promql.edit(expr, [(number.start, number.end, new)])


def _changed_matchers(expr: str) -> Iterator[tuple[str, str]]:
    for count, matcher in enumerate(promql.matchers(expr), start=1):
        here = f"matcher {count}: {matcher.name}{matcher.op}"
        yield f"{here} dropped", _without(expr, matcher)
        new = f'{matcher.name}{matcher.op}"{matcher.value}x"'
        yield f"{here} altered", promql.edit(expr, [(matcher.start, matcher.end, new)])
        alternatives = matcher.value.split("|") if matcher.op in ("=~", "!~") else []
        for gone in alternatives if len(alternatives) > 1 else []:
            rest = "|".join(other for other in alternatives if other != gone)
            new = f'{matcher.name}{matcher.op}"{rest}"'
            yield f"{here} without {gone}", promql.edit(expr, [(matcher.start, matcher.end, new)])


def _without(expr: str, matcher: promql.Matcher) -> str:
    after = re.compile(r"\s*,\s*").match(expr, matcher.end)
    before = re.search(r"\s*,\s*$", expr[: matcher.start])
    if after:
        return promql.edit(expr, [(matcher.start, after.end(), "")])
    return promql.edit(expr, [(before.start() if before else matcher.start, matcher.end, "")])


def run(
    promtool: Path, *, alerts: Sequence[str] = (), tests: Path = TESTS, jobs: int = 2
) -> list[MutationResult]:
    """Test all mutations of the shipped alerts, or of `alerts`. Up to `jobs` tests run at the same
    time.

    Raises UserError if an alert is unknown or has no tests, if its tests fail without a mutation,
    or if promtool fails for a reason other than a failed test.
    """
    groups = [group for file in shipped() for group in file.groups]
    files = {rule.name: rule for group in groups for rule in group.rules if rule.is_alert}
    if strange := sorted(set(alerts) - set(files)):
        raise UserError(f"unknown alert {strange[0]!r}: expected the name of a shipped alert.")
    chosen = [name for name in files if not alerts or name in alerts]
    reasons = _survivor_reasons(tests / SURVIVORS)
    with tempfile.TemporaryDirectory(prefix="fleetmedic-mutate-") as folder:
        work = [
            (mutation, _tests_of(name, tests))
            for name in chosen
            for mutation in (Mutation("", files[name]), *mutations(files[name]))
        ]

        def one(item: tuple[int, tuple[Mutation, dict[str, Any]]]) -> MutationResult:
            number, (mutation, cases) = item
            single = _with_recording_rules(mutation.rule, groups)
            killed = _tests_fail(
                promtool, Path(folder) / str(number), single, mutation.rule.name, cases
            )
            name = mutation.rule.name
            return MutationResult(
                name, mutation.what, killed, reasons.get((name, mutation.what), "")
            )

        with ThreadPoolExecutor(jobs) as pool:
            outcomes = list(pool.map(one, enumerate(work)))
    if broken := [outcome.alert for outcome in outcomes if not outcome.what and outcome.killed]:
        raise UserError(f"the tests of {broken[0]} fail without a mutation: fix them first.")
    return [outcome for outcome in outcomes if outcome.what]


def unknown_survivors(outcomes: Sequence[MutationResult], tests: Path = TESTS) -> list[str]:
    """Return entries of the survivors file that name no existing mutation of these alerts."""
    tried = {(outcome.alert, outcome.what) for outcome in outcomes}
    seen = {outcome.alert for outcome in outcomes}
    reasons = _survivor_reasons(tests / SURVIVORS)
    return [
        f"{alert}: {what}"
        for alert, what in reasons
        if alert in seen and (alert, what) not in tried
    ]


def _survivor_reasons(path: Path) -> dict[tuple[str, str], str]:
    if not path.is_file():
        return {}
    return {(s.alert, s.what): s.reason for s in settings.load(path, _Survivors).survivors}


def _tests_of(name: str, tests: Path) -> dict[str, Any]:
    path = tests / f"{name}.yml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; add the promtool tests of {name} there.")
    cases = settings.parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(cases, dict):
        raise UserError(f"{path}: not a promtool test file; see the other files in this directory.")
    return cases | {"rule_files": ["rule.yml"]}


def _with_recording_rules(rule: Rule, groups: Sequence[RuleGroup]) -> tuple[RuleGroup, ...]:
    """Return the rule with the recording rules that it uses, in their groups.

    The rule's own group contains no interval, so the tests set the evaluation interval, and a group
    with an interval of 1 s does not make the tests slower.
    """
    every = [each for group in groups for each in group.rules]
    read = {record.name for record in records_of([rule], every)}
    found = []
    for group in groups:
        own = any(each.name == rule.name for each in group.rules)
        kept = tuple(each for each in group.rules if each.name in read)
        if own:
            found.append(replace(group, interval="", rules=(*kept, rule)))
        elif kept:
            found.append(replace(group, rules=kept))
    return tuple(found)


def mutation_detected(text: str) -> bool:
    """Return whether promtool failed because of the mutation.

    The signs are unexpected or missing alerts, and query errors, such as many-to-many matching
    without a matcher.
    """
    return "got:[" in text or re.search(r"rule: \w+, time: \S+, err: ", text) is not None


def _tests_fail(
    promtool: Path,
    folder: Path,
    groups: tuple[RuleGroup, ...],
    name: str,
    cases: dict[str, Any],
) -> bool:
    """Return whether an alert's promtool tests fail with these rule groups."""
    folder.mkdir()
    single = RuleFile(folder / "rule.yml", groups)
    (folder / "rule.yml").write_text(single.text(), encoding="utf-8")
    (folder / "tests.yml").write_text(json.dumps(cases), encoding="utf-8")
    try:
        result = subprocess.run(
            [str(promtool), "test", "rules", "tests.yml"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS_PER_RUN,
            check=False,
            env={
                **os.environ,
                "GOGC": "off",
            },  # promtool is short-lived: garbage collection only costs time
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"cannot run {promtool}: {error}.") from None
    text = result.stdout + result.stderr
    if result.returncode and not mutation_detected(text):
        raise UserError(f"promtool failed to test {name}: {' '.join(text.split())[:300]}.")
    return result.returncode != 0
