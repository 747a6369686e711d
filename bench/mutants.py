"""Do the unit tests notice a wrong remediator? Each mutant is one small change of its source.

A seeded sample of mutants of each file runs against the unit tests of that file: first the test file
of the same name, then the tests of its folder, then those of the engine. A failing test, a crash or a
hang catches the mutant. All of it happens in copies of the tree below a temporary folder.

Classes: comparison (== to !=), boundary (< to <=), boolean (and/or, a dropped operand, not, True),
return value, removed statement; numbers and texts are sampled and counted apart. A mutant that no test
can notice is listed in bench/mutations/equivalent.yml with the reason.

Exits with 1 when the tests catch less than --at-least per cent of the mutants that change neither a
number nor a text, and with 2 when the tests fail without any mutant.

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
    "remediator/payload.py", "remediator/orders.py", "remediator/inquiry.py",
)  # fmt: skip
# What is run after the tests of the same name: one tier after the other, slow ones last.
WIDER = {
    "remediator/core/": (
        ("core/test_*.py", "test_library.py", "test_metrics.py"),
        ("actions/test_*.py", "test_executor*.py", "test_journal.py", "test_engine*.py"),
    ),
    "remediator/executor.py": (("test_executor*.py", "actions/test_*.py"), ("test_engine*.py",)),
    "remediator/journal.py": (("test_journal_*.py",), ("test_engine*.py",)),
    "remediator/webhook.py": (
        ("test_pages.py", "test_admission*.py", "test_webhook*.py", "test_orders.py"),
        ("test_inquiry.py", "test_payload.py"),
        ("test_console.py", "test_engine*.py"),
    ),
}
WIDER |= {
    f"remediator/{name}.py": (("test_webhook*.py",), ("test_console.py",))
    for name in ("payload", "orders", "inquiry")
}
EQUIVALENT = Path(__file__).parent / "mutations" / "equivalent.yml"
PYTEST = (
    "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-n", "0",
    "-p", "mutants_profile",
)  # fmt: skip
# A property test stops at the first failure: the smallest example is of no interest here.
PROFILE = """
from hypothesis import HealthCheck, Phase, settings
settings.register_profile(
    "mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None,
    deadline=None, suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
"""
MAX_MEMORY = 8 << 30
SLOWER = 3.0  # a mutant may take so many times the time of the tests without it,
SPARE = 10.0  # and so many seconds more


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a test noticed this mutant; `excused` is why none can."""

    path: str
    mutant: Mutant
    caught: bool
    excused: str = ""


@dataclass(frozen=True, slots=True)
class Tier:
    """Test files that run together, and the seconds that they may take."""

    tests: tuple[str, ...]
    limit: float = 600.0


class Copy:
    """A copy of the tree in which one mutant at a time is tried."""

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
        """Put a source in its place; bytecode of the one before is removed."""
        target = self.root / path
        target.write_text(source, encoding="utf-8")
        Path(cache_from_source(str(target))).unlink(missing_ok=True)

    def passes(self, tier: Tier) -> bool:
        """Whether the tests pass in time. Ends the bench when pytest does not run."""
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
                pass  # nothing of it is left
            process.wait()
        if process.returncode in (3, 4, 5):
            sys.exit(f"pytest does not run: {said.decode(errors='replace')[-500:]}")
        return process.returncode == 0


def tiers(path: str) -> list[Tier]:
    """The tests of a source file, nearest first; a test file is in one tier alone."""
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
        sys.exit(f"{path}: no unit tests found below {folder}; give another file.")
    return found


def timed(tree: Copy, path: str, known: dict[tuple[str, ...], Tier]) -> list[Tier]:
    """The tiers of a file with their limits. Ends the bench where tests fail without a mutant."""
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
    """The mutants of a file that are tried: `each` of the classes that count, `apart` of the others."""
    module = Module((ROOT / path).read_text(encoding="utf-8"))
    chance = random.Random(f"{seed} {path}")
    found: list[Mutant] = []
    for counts, most in ((True, each), (False, apart)):
        sites = [site for site in module.sites if site.counts is counts]
        chosen = chance.sample(sites, min(most, len(sites)))
        found += [module.mutant(site) for site in chosen]
    return sorted(found, key=lambda mutant: mutant.line)


def excuses() -> dict[tuple[str, str, str, str], str]:
    """The reasons of mutants that no test can notice, by file, function and change."""
    listed = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
    return {
        (one["file"], one["function"], one["before"], one["after"]): one["reason"] for one in listed
    }


def tried(path: str, mutants: Sequence[Mutant], limits: list[Tier], trees: queue.Queue[Copy],
          jobs: int) -> list[Outcome]:  # fmt: skip
    """Try the mutants of one file, `jobs` at a time."""
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
    """Caught of all; a dash where there was none."""
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
    """One line a mutant, as the survivors are shown."""
    for mutant in mutants:
        where = f" in {mutant.function}" if mutant.function else ""
        yield f"{path}:{mutant.line}{where}  [{mutant.kind}]  {mutant.before}  ->  {mutant.after}"


def finish(outcomes: Sequence[Outcome], at_least: float) -> int:
    """Print the sum; the exit code."""
    wrong = [one for one in outcomes if one.excused and one.caught]
    for one in wrong:
        (shown,) = listing(one.path, [one.mutant])
        print(f"listed as equivalent, but a test notices it: {shown}")
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
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", nargs="+", default=FILES, metavar="FILE", help="files or patterns, relative to the repository (default: core, executor, journal, webhook)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (default: 1)")
    parser.add_argument("--each", type=int, default=40, help="mutants a file that change neither a number nor a text (default: 40)")  # fmt: skip
    parser.add_argument("--apart", type=int, default=10, help="mutants a file that change a number or a text (default: 10)")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at a time (default: 2)")
    parser.add_argument("--at-least", type=float, default=90.0, help="per cent that must be caught (default: 90)")  # fmt: skip
    parser.add_argument("--show-survivors", action="store_true", help="list survivors of numbers and texts as well")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list the mutants and try none")
    return parser.parse_args()


def paths(patterns: Sequence[str]) -> list[str]:
    """The files of the patterns. Ends the bench where a pattern matches none."""
    found: list[str] = []
    for pattern in patterns:
        matches = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
        if not matches:
            sys.exit(f"{pattern}: no such file; give a path relative to the repository.")
        found += matches
    return list(dict.fromkeys(found))


def main() -> int:
    """Try the mutants of each file and print the table."""
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
