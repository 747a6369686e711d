"""The house rules that a program can check. Where one of these is red, the layout is wrong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("fleetmedic", "exporter", "rules", "remediator")
FOLDERS = (
    *PACKAGES,
    "alertmanager",
    "bench",
    "dashboards",
    "deploy",
    "docs",
    "tests",
    "tools",
    ".ci",
)
TEXT = {".py", ".md", ".yml", ".yaml", ".toml", ".json", ".sh", ".tmpl", ".html", ".txt", ".c", ""}
MAX_LINES = 400
MAX_KERNEL_LINES = 740
# A module of such a name has no room of its own: what is in it belongs somewhere.
HOMELESS = re.compile(r"_?(utils?|helpers?|common|managers?|misc|tools|lib)")
# The one place where a library may be imported; everything else goes through that file.
ONE_PLACE = {
    "pynvml": r"exporter/sources/nvml\.py",
    "httpx2": r"remediator/http\.py",
    "requests": r"rules/[a-z_]+\.py",
    "lightkube": r"remediator/clusters/kubernetes(/.*|\.py)",
    "sklearn": r"rules/.*",
    "psutil": r"(exporter|fleetmedic/stack|fleetmedic/demo|fleetmedic/localcluster)/.*",
}
# Pure rooms: facts and the time come in as arguments.
PURE = ("remediator/core", "rules/detectors")
IMPURE_MODULES = {
    "asyncio", "datetime", "glob", "httpx2", "io", "logging", "msgspec", "os", "pathlib", "random",
    "requests", "secrets", "shutil", "socket", "sqlite3", "starlette", "structlog", "subprocess",
    "tempfile", "threading", "time", "urllib", "uuid", "yaml",
}  # fmt: skip
# Names of classes, without leading underscores, that two modules may define: NAME -> why both are the same concept.
SAME_CONCEPT: dict[str, str] = {}
# Words that would tie the project to the place or the hour it was written in.
FOREIGN = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.*{}$/-])/(?:work|home/\w+|Users/\w+|mnt)/"
    ),
    "the number of an issue": re.compile(r"\bissues? #?\d+\b", re.IGNORECASE),
    "an address of a package archive": re.compile(
        r"deb\.debian\.org|ftp\.debian|snapshot\.debian|\bpypi\.org|pythonhosted|proxy\.golang"
    ),
    "a note to oneself": re.compile(r"(?:#|//|<!--|\{#)\s*(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
}


@cache
def _files() -> tuple[Path, ...]:
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return tuple(sorted(path for path in found if "__pycache__" not in path.parts))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _python(*folders: str) -> list[Path]:
    return [
        path
        for path in _files()
        if path.suffix == ".py" and (not folders or _name(path).startswith(folders))
    ]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_file_is_longer_than_400_lines() -> None:
    long = {_name(path): _lines(path) for path in _python(*PACKAGES, "dashboards", "docs")}
    assert {name: count for name, count in long.items() if count > MAX_LINES} == {}


def test_the_kernel_stays_small() -> None:
    assert sum(_lines(path) for path in _python("fleetmedic/kernel")) <= MAX_KERNEL_LINES


def test_the_kernel_imports_nothing_else_of_ours() -> None:
    foreign = {
        f"{_name(path)}: {module}"
        for path in _python("fleetmedic/kernel")
        for module in _imports(path)
        if module.split(".")[0] in PACKAGES
        and not module.startswith(("fleetmedic.kernel", "fleetmedic.wording"))
    }
    assert foreign == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [_name(p) for p in _python(*PACKAGES) if HOMELESS.fullmatch(p.stem)] == []
    folders = {part for p in _python(*PACKAGES) for part in p.relative_to(ROOT).parts[:-1]}
    assert {name for name in folders if HOMELESS.fullmatch(name)} == set()


def test_a_class_name_means_one_thing() -> None:
    """One name, one concept, in all packages: docs/adr/0009-names.md."""
    places: dict[str, list[str]] = {}
    for path in _python(*PACKAGES):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(f"{_name(path)}:{node.lineno}")
    duplicates = {name: found for name, found in places.items() if len(found) > 1}
    assert {n: found for n, found in duplicates.items() if n not in SAME_CONCEPT} == {}
    assert sorted(SAME_CONCEPT.keys() - duplicates.keys()) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_ships_its_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("room", PURE)
def test_a_pure_room_touches_nothing(room: str) -> None:
    """No coroutine, no clock, environment, file, random number or network inside."""
    seen = set()
    for path in _python(room):
        seen |= {
            f"{_name(path)}: import {module}"
            for module in _imports(path)
            if module.split(".")[0] in IMPURE_MODULES
        }
        seen |= {
            f"{_name(path)}:{node.lineno}: {type(node).__name__}"
            for node in ast.walk(_tree(path))
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor)
            or (isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("open", "print"))
        }
    assert seen == set()


def test_the_domain_is_frozen() -> None:
    """Every dataclass of the remediator's core is frozen and slotted."""
    loose = []
    for path in _python("remediator/core"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                for mark in node.decorator_list:
                    text = ast.unparse(mark)
                    if text.startswith("dataclass") and not (
                        "frozen=True" in text and "slots=True" in text
                    ):
                        loose.append(f"{_name(path)}:{node.lineno}: {node.name}")
    assert loose == []


@pytest.mark.parametrize("library", ONE_PLACE)
def test_library_is_imported_in_its_place_only(library: str) -> None:
    users = [
        _name(path)
        for path in _python(*PACKAGES)
        if any(module.split(".")[0] == library for module in _imports(path))
    ]
    assert [name for name in users if not re.fullmatch(ONE_PLACE[library], name)] == []
    if library in ("pynvml", "httpx2", "requests"):
        assert len(users) <= 1, f"{library} is imported in more than one file: {users}"


def test_the_layers_hold() -> None:
    """The contracts of import-linter in pyproject.toml."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_ties_the_project_to_one_place(what: str) -> None:
    found = []
    for path in _files():
        if path.suffix not in TEXT or path == Path(__file__) or path.name == "LICENSE":
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if FOREIGN[what].search(line):
                found.append(f"{_name(path)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_every_dependency_says_why() -> None:
    """In pyproject.toml each library stands on a line of its own with its reason."""
    bare = []
    inside = False
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if line.startswith("["):
            inside = line == "[project.optional-dependencies]"
        inside = inside or line.startswith("dependencies = [")
        if inside and re.match(r'\s+"[a-z-]+[a-zA-Z0-9-]*[><=]', line) and "#" not in line:
            bare.append(line.strip())
    assert bare == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False)
    imports = {one: graph.find_modules_directly_imported_by(one) for one in graph.modules}
    while leaves := {one for one, found in imports.items() if not found & imports.keys()}:
        imports = {one: found for one, found in imports.items() if one not in leaves}
    # what is left lies on a circle, or imports something that does
    assert sorted(imports) == []


# Modules that run beside the engine, at the edge of the machine or of a person's terminal.
REAL_TIME = r"remediator/(app|cli|journal_commands|clocks|installation)\.py|remediator/(console|dashboards|channels|discovery|clusters)/.*"


def test_the_engine_reads_no_clock_of_its_own() -> None:
    """Its times are arguments, or the time of the event loop, so that a test can run days in seconds."""
    readers = [
        _name(path)
        for path in _python("remediator")
        if "time" in _imports(path) and not re.fullmatch(REAL_TIME, _name(path))
    ]
    assert readers == []
