"""Mutation testing of the remediator: measures whether the unit tests detect small source changes.

A seeded sample of mutants of each file is tested with the unit tests of that file: first the test file
of the same name, then the tests of its directory, then those of the engine. A failing test, a crash or a
timeout catches the mutant. The tests run in copies of the source tree in a temporary directory.

Classes: comparison (== to !=), boundary (< to <=), boolean (and/or, a removed operand, not, True),
return value, removed statement; numbers and texts are sampled and counted separately. A mutant that no test
can detect (equivalent mutant) is listed in bench/mutations/equivalent.yml with the reason.

Exit code 1 if the tests catch less than --at-least per cent of the mutants that change neither a
number nor a text; 2 if the tests fail without a mutant.

Examples:
  python bench/mutants.py
  python bench/mutants.py --files remediator/journal.py --show-survivors
  python bench/mutants.py --files remediator/core/guards.py --each 1000 --apart 0
  python bench/mutants.py --files remediator/executor.py --list
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import cache_from_source
from pathlib import Path

import yaml
from mutations import APART, COUNTED, Module, Mutant

ROOT = Path(__file__).resolve().parents[1]
UNIT = "tests/unit"
FILES = (
    "remediator/core/*.py", "remediator/executor.py", "remediator/journal.py", "remediator/webhook.py",
    "remediator/payload.py", "remediator/order_endpoints.py", "remediator/query_endpoints.py",
)  # fmt: skip
# Tests that run after those of the same name: one tier after the other, slow tests last.
WIDER = {
    "remediator/core/": (
        ("core/test_*.py", "test_playbook_library.py", "test_metrics.py"),
        ("actions/test_*.py", "test_executor*.py", "test_journal.py", "test_engine*.py"),
    ),
    "remediator/executor.py": (("test_executor*.py", "actions/test_*.py"), ("test_engine*.py",)),
    "remediator/journal.py": (("test_journal_*.py",), ("test_engine*.py",)),
    "remediator/webhook.py": (
        ("test_pages.py", "test_admission*.py", "test_webhook*.py", "test_order_endpoints.py"),
        ("test_query_endpoints.py", "test_payload.py"),
        ("test_console.py", "test_engine*.py"),
    ),
}
WIDER |= {
    f"remediator/{name}.py": (("test_webhook*.py",), ("test_console.py",))
    for name in ("payload", "order_endpoints", "query_endpoints")
}
EQUIVALENT = Path(__file__).parent / "mutations" / "equivalent.yml"
PYTEST = (
    "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-n", "0",
    "-p", "mutants_profile",
)  # fmt: skip
# A property test stops at the first failure; shrinking the example is not needed here.
PROFILE = """
from hypothesis import HealthCheck, Phase, settings
settings.register_profile(
    "mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None,
    deadline=None, suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
"""
MAX_MEMORY = 8 << 30
SLOWER = 3.0  # time limit: this multiple of the time without a mutant,
SPARE = 10.0  # plus this number of seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a test caught this mutant; `excused` is the reason if no test can."""

    path: str
    mutant: Mutant
    caught: bool
    excused: str = ""


@dataclass(frozen=True, slots=True)
class Tier:
    """Test files that run together, and their time limit in seconds."""

    tests: tuple[str, ...]
    limit: float = 600.0


class Copy:
    """A copy of the source tree in which one mutant at a time is tested."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        self._temporary = folder / "tmp"
        self._temporary.mkdir(parents=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            source, target = ROOT / name, self.root / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        (self.root / "mutants_profile.py").write_text(PROFILE)

    def write(self, path: str, source: str) -> None:
        """Write a source file and remove the bytecode of its previous version."""
        target = self.root / path
        target.write_text(source, encoding="utf-8")
        Path(cache_from_source(str(target))).unlink(missing_ok=True)

    def passes(self, tier: Tier) -> bool:
        """Whether the tests pass in time. Exits if pytest does not run."""
        environment = {
            **os.environ, "PYTHONPATH": str(self.root), "TMPDIR": str(self._temporary),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, *PYTEST, *tier.tests], cwd=self.root, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        try:
            said, _ = process.communicate(timeout=tier.limit)
        except subprocess.TimeoutExpired:
            return False
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # no process of the group is left
            process.wait()
        if process.returncode in (3, 4, 5):
            sys.exit(f"pytest does not run: {said.decode(errors='replace')[-500:]}")
        return process.returncode == 0


def tiers(path: str) -> list[Tier]:
    """The tests of a source file, closest first; each test file is in one tier only."""
    folder = Path(UNIT, path.removeprefix("fleetmedic/")).parent
    globs: list[tuple[str, ...]] = [(f"{folder}/test_{Path(path).stem}.py",)]
    wider = [found for start, found in WIDER.items() if path.startswith(start)]
    if wider:
        globs += [tuple(f"{UNIT}/remediator/{one}" for one in tier) for tier in wider[0]]
    else:
        globs.append((f"{folder}/test_*.py",))
    found, taken = [], set[str]()
    for tier in globs:
        names = [p.relative_to(ROOT).as_posix() for one in tier for p in sorted(ROOT.glob(one))]
        tests = tuple(name for name in dict.fromkeys(names) if name not in taken)
        taken |= set(tests)
        if tests:
            found.append(Tier(tests))
    if not found:
        sys.exit(f"{path}: no unit tests found below {folder}. Choose another file.")
    return found


def timed(tree: Copy, path: str, known: dict[tuple[str, ...], Tier]) -> list[Tier]:
    """The tiers of a file with their time limits. Exits if tests fail without a mutant."""
    for tier in tiers(path):
        if tier.tests in known:
            continue
        for _ in range(2):  # a test that depends on the load gets a second chance
            began = time.monotonic()
            passed = tree.passes(tier)
            spent = time.monotonic() - began
            if passed:
                break
        else:
            print(f"{path}: these tests fail without a mutant: {' '.join(tier.tests)}")
            sys.exit(2)
        known[tier.tests] = replace(tier, limit=spent * SLOWER + SPARE)
    return [known[tier.tests] for tier in tiers(path)]


def sample(path: str, seed: int, each: int, apart: int) -> list[Mutant]:
    """The sampled mutants of a file: `each` of the counted classes, `apart` of numbers and texts."""
    module = Module((ROOT / path).read_text(encoding="utf-8"))
    chance = random.Random(f"{seed} {path}")
    found: list[Mutant] = []
    for counts, most in ((True, each), (False, apart)):
        sites = [site for site in module.sites if site.counts is counts]
        chosen = chance.sample(sites, min(most, len(sites)))
        found += [module.mutant(site) for site in chosen]
    return sorted(found, key=lambda mutant: mutant.line)


def excuses() -> dict[tuple[str, str, str, str], str]:
    """The reasons of equivalent mutants, by file, function and change."""
    listed = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
    return {
        (one["file"], one["function"], one["before"], one["after"]): one["reason"] for one in listed
    }


def tried(path: str, mutants: Sequence[Mutant], limits: list[Tier], trees: queue.Queue[Copy],
          jobs: int) -> list[Outcome]:  # fmt: skip
    """Test the mutants of one file, `jobs` at a time."""
    source = (ROOT / path).read_text(encoding="utf-8")
    reasons = excuses()

    def one(mutant: Mutant) -> Outcome:
        reason = reasons.get((path, mutant.function, mutant.before, mutant.after), "")
        tree = trees.get()
        try:
            tree.write(path, mutant.source)
            caught = not all(tree.passes(tier) for tier in limits)
        finally:
            tree.write(path, source)
            trees.put(tree)
        return Outcome(path, mutant, caught, reason)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, mutants))


def ratio(outcomes: Sequence[Outcome]) -> str:
    """Caught/all, or a dash if there were no mutants."""
    return f"{sum(one.caught for one in outcomes)}/{len(outcomes)}" if outcomes else "-"


def share(outcomes: Sequence[Outcome]) -> float:
    """Per cent caught."""
    return 100.0 * sum(one.caught for one in outcomes) / len(outcomes) if outcomes else 100.0


def row(path: str, outcomes: Sequence[Outcome], seconds: float) -> str:
    """The line of a file in the table."""
    valid = [one for one in outcomes if not one.excused]
    counted = [one for one in valid if one.mutant.counts]
    by_kind = [
        ratio([one for one in valid if one.mutant.kind == kind]) for kind in (*COUNTED, *APART)
    ]
    cells = "".join(f"{cell:>11}" for cell in by_kind)
    return f"{path:<34}{ratio(counted):>8}{share(counted):>6.0f} %{cells}{seconds:>8.0f}"


def listing(path: str, mutants: Sequence[Mutant]) -> Iterator[str]:
    """One line per mutant."""
    for mutant in mutants:
        where = f" in {mutant.function}" if mutant.function else ""
        yield f"{path}:{mutant.line}{where}  [{mutant.kind}]  {mutant.before}  ->  {mutant.after}"


def finish(outcomes: Sequence[Outcome], at_least: float) -> int:
    """Print the summary; returns the exit code."""
    wrong = [one for one in outcomes if one.excused and one.caught]
    for one in wrong:
        (shown,) = listing(one.path, [one.mutant])
        print(f"listed as equivalent, but a test catches it: {shown}")
    valid = [one for one in outcomes if not one.excused]
    counted = [one for one in valid if one.mutant.counts]
    others = [one for one in valid if not one.mutant.counts]
    print(
        f"{ratio(counted)} mutants that change neither a number nor a text are caught "
        f"({share(counted):.1f} %, expected {at_least:g} %); numbers and texts: {ratio(others)}; "
        f"equivalent: {len(outcomes) - len(valid)}"
    )
    return 1 if wrong or share(counted) < at_least else 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", nargs="+", default=FILES, metavar="FILE", help="files or patterns, relative to the repository (default: core, executor, journal, webhook)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (default: 1)")
    parser.add_argument("--each", type=int, default=40, help="mutants per file that change neither a number nor a text (default: 40)")  # fmt: skip
    parser.add_argument("--apart", type=int, default=10, help="mutants per file that change a number or a text (default: 10)")  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=2, help="number of mutants tested concurrently (default: 2)"
    )
    parser.add_argument("--at-least", type=float, default=90.0, help="required percentage of caught mutants (default: 90)")  # fmt: skip
    parser.add_argument("--show-survivors", action="store_true", help="also list surviving mutants of numbers and texts")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list the mutants without testing them")
    return parser.parse_args()


def paths(patterns: Sequence[str]) -> list[str]:
    """The files of the patterns. Exits if a pattern matches no file."""
    found: list[str] = []
    for pattern in patterns:
        matches = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
        if not matches:
            sys.exit(f"{pattern}: no such file. Use a path relative to the repository.")
        found += matches
    return list(dict.fromkeys(found))


def main() -> int:
    """Test the mutants of each file and print the table."""
    given = arguments()
    work = {path: sample(path, given.seed, given.each, given.apart) for path in paths(given.files)}
    work = {path: mutants for path, mutants in work.items() if mutants}
    if given.list:
        for path, mutants in work.items():
            print(*listing(path, mutants), sep="\n")
        return 0
    known: dict[tuple[str, ...], Tier] = {}
    outcomes: list[Outcome] = []
    heads = "".join(f"{kind:>11}" for kind in (*COUNTED, *APART))
    print(f"{'file':<34}{'caught':>8}{'share':>8}{heads}{'seconds':>8}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fleetmedic-mutants-") as folder:
        trees: queue.Queue[Copy] = queue.Queue()
        for number in range(given.jobs):
            trees.put(Copy(Path(folder) / str(number)))
        for path, mutants in work.items():
            began = time.monotonic()
            limits = timed(trees.queue[0], path, known)
            found = tried(path, mutants, limits, trees, given.jobs)
            outcomes += found
            print(row(path, found, time.monotonic() - began), flush=True)
            survived = [
                one.mutant for one in found
                if not one.caught and not one.excused and (one.mutant.counts or given.show_survivors)
            ]  # fmt: skip
            for shown in listing(path, survived):
                print(f"    {shown}", flush=True)
    return finish(outcomes, given.at_least)


if __name__ == "__main__":
    sys.exit(main())
