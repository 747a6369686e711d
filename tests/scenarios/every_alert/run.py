"""The run: first a healthy fleet without alerts, then all stories until each alert was raised."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from every_alert.fleet import Fleet
from every_alert.judge import Judge, Labels
from every_alert.story import Story

QUIET = {"Watchdog"}
HEALTHY_SECONDS = 45.0  # 45 minutes at factor 60
LOOK_EVERY = 1.0
AGAIN_AFTER = 30.0
Tell = Callable[[str], None]


@dataclass
class Outcome:
    """`took`: seconds from the start of its story until an alert fired. `well`: alerts that were firing or
    pending while the fleet was healthy, by Prometheus. `skipped`: alerts of skipped stories, with the
    reason."""

    began: float = 0.0
    took: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    well: dict[str, list[str]] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0


def run(fleet: Fleet, stories: tuple[Story, ...], limit: float, tell: Tell) -> Outcome:
    """Run the stories on a healthy fleet, for at most `limit` seconds."""
    outcome = Outcome(began=time.time())
    _while_well(fleet, outcome, tell)
    told = [story for story in stories if not story.needs_root or os.geteuid() == 0]
    for story in stories:
        if story not in told:
            outcome.skipped |= dict.fromkeys(
                story.raises, "needs root, because the story acts as several users"
            )
    begun: dict[int, float] = {}
    again: dict[int, float] = {}
    until = time.monotonic() + limit
    raised: set[str] = set()
    while time.monotonic() < until:
        for number, story in enumerate(told):
            waits = number not in begun and story.after <= raised
            if waits or _missed(story, again.get(number), raised):
                begun.setdefault(number, time.time())
                again[number] = time.time()
                story.begin(fleet)
        raised |= _look(fleet, told, begun, outcome, tell)
        if all(set(story.raises) <= raised for story in told):
            break
        time.sleep(LOOK_EVERY)
    _settle(fleet, told, begun, outcome)
    outcome.seconds = time.time() - outcome.began
    return outcome


def _missed(story: Story, last: float | None, raised: set[str]) -> bool:
    """Whether to inject a short fault again, because its alert was missed."""
    unseen = story.fleeting and not set(story.raises) <= raised
    return unseen and last is not None and time.time() - last > AGAIN_AFTER


def _while_well(fleet: Fleet, outcome: Outcome, tell: Tell) -> None:
    """Watch the healthy fleet, and record its alerts."""
    tell(f"the fleet is healthy; watching it for {HEALTHY_SECONDS:g} s")
    until = time.monotonic() + HEALTHY_SECONDS
    while time.monotonic() < until:
        for judge in fleet.judges.values():
            for state in ("firing", "pending"):
                names = {
                    _words(each) for each in judge.alerts(state) if each["alertname"] not in QUIET
                }
                known = outcome.well.setdefault(f"{state} at {judge.factor}", [])
                known += sorted(names - set(known))
        time.sleep(LOOK_EVERY)


def _look(
    fleet: Fleet, stories: list[Story], begun: dict[int, float], outcome: Outcome, tell: Tell
) -> set[str]:
    """The alerts of the stories that fire now."""
    firing = {factor: judge.alerts("firing") for factor, judge in fleet.judges.items()}
    found = set()
    for number, story in enumerate(stories):
        for name, labels in story.raises.items():
            if number in begun and any(_is(each, name, labels) for each in firing[story.factor]):
                found.add(name)
                if name not in outcome.took:
                    outcome.took[name] = max(0.0, time.time() - begun[number])
                    tell(f"{outcome.took[name]:7.1f} s  {name}")
    return found


def _is(alert: Labels, name: str, labels: object) -> bool:
    wanted = {"alertname": name, **dict(labels)}  # type: ignore[call-overload]
    return all(alert.get(key) == value for key, value in wanted.items())


def _settle(fleet: Fleet, stories: list[Story], begun: dict[int, float], outcome: Outcome) -> None:
    """Read the exact times from Prometheus, and find other alerts that fired."""
    first = {f: judge.first_fired(outcome.began) for f, judge in fleet.judges.items()}
    for number, story in enumerate(stories):
        for name, labels in story.raises.items():
            if number not in begun:
                missing = ", ".join(sorted(story.after - set(outcome.took)))
                outcome.missing[name] = f"its story waits for {missing}"
                continue
            at = [when for each, when in first[story.factor] if _is(each, name, labels)]
            late = [when for when in at if when >= begun[number] - 1]
            if late:
                outcome.took[name] = max(0.0, min(late) - begun[number])
            elif name not in outcome.took and not at:
                outcome.missing[name] = f"did not fire at factor {story.factor}"
    expected = [(name, labels) for s in stories for name, labels in s.raises.items()]
    for factor, found in first.items():
        others = {
            _words(each) for each, _ in found
            if each["alertname"] not in QUIET
            and not any(_is(each, n, labels) for n, labels in expected)
        }  # fmt: skip
        outcome.others[str(factor)] = sorted(others)


def _words(alert: Labels) -> str:
    """An alert in one line: its name and its target."""
    left_out = {
        "alertname",
        "__name__",
        "alertstate",
        "severity",
        "category",
        "source",
        "instrument",
        "uuid",
        "cluster",
    }
    about = " ".join(value for key, value in sorted(alert.items()) if key not in left_out)
    return f"{alert['alertname']} {about}".strip()


def explain(fleet: Fleet, stories: tuple[Story, ...], outcome: Outcome) -> Iterator[str]:
    """The current result of the rule of each alert that did not fire."""
    for factor, judge in fleet.judges.items():
        names = {n for s in stories for n in s.raises if s.factor == factor} & set(outcome.missing)
        if names:
            yield from _standing(judge, names)


def _standing(judge: Judge, names: set[str]) -> Iterator[str]:
    for group in judge.ask("/api/v1/rules", type="alert")["groups"]:
        for rule in group["rules"]:
            if rule["name"] in names:
                values = judge.series(rule["query"])[:3]
                yield f"{rule['name']}: {rule['state']}, for {rule['duration']:g} s, result {values}"
