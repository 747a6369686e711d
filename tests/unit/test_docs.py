"""Documentation that drifts is a red test: commands, settings, metrics, links, promises to come."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fleetmedic.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SKIPPED = {".venv", ".git", "node_modules", "build", "dist"}
GENERATED = {"cli.md", "metrics.md", "alerts.md", "alerts-raised.md"}
# The files that people write, by the package that reads them.
SETTINGS = {"remediator": "remediator.yml", "rules": "rules.yml"}


def _pages() -> list[Path]:
    found = ROOT.rglob("*.md")
    return sorted(p for p in found if not SKIPPED & set(p.relative_to(ROOT).parts))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _anchors(page: Path) -> set[str]:
    """The ids that a heading gets: lower case, blanks as hyphens, other marks dropped."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def _prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def _links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", _prose(page))
    yield from re.findall(r'(?:src|href)="([^"]+)"', _prose(page))


def _generated(script: str, target: str) -> None:
    done = subprocess.run(
        [sys.executable, *script.split()], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout == (ROOT / target).read_text(), f"{target} is stale: {script} writes it"


def test_the_reference_of_the_command_line_is_what_the_commands_say() -> None:
    _generated("docs/src/cli.py --stdout", "docs/cli.md")


def test_the_reference_of_the_metrics_is_what_the_catalogue_says() -> None:
    _generated("-m exporter.reference", "docs/metrics.md")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_reference(name: str) -> None:
    assert re.search(rf"^## `fleetmedic {name}\b", (DOCS / "cli.md").read_text(), re.MULTILINE)


def _structs(package: str) -> set[type[msgspec.Struct]]:
    """The Structs that hold settings: those of the modules called `settings` in a package."""
    found: set[type[msgspec.Struct]] = set()
    for info in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
        if info.name.rpartition(".")[2] in ("settings", "config"):
            module = importlib.import_module(info.name)
            found |= {
                each
                for each in vars(module).values()
                if isinstance(each, type)
                and issubclass(each, msgspec.Struct)
                and each.__module__ == info.name
            }
    return found


@pytest.mark.parametrize("package", SETTINGS)
def test_every_setting_is_documented(package: str) -> None:
    """On a page that names the file: as `key`, `over.key`, or a key of an example."""
    structs = _structs(package)
    assert structs, f"{package} keeps its settings in no module called settings"
    pages = [page for page in DOCS.glob("*.md") if page.name not in GENERATED]
    text = "\n".join(page.read_text() for page in pages if SETTINGS[package] in page.read_text())
    missing = {
        f"{struct.__name__}.{field}"
        for struct in structs
        for field in struct.__struct_encode_fields__
        if not re.search(rf"[`.]{field}[`.:]|^[ #-]*{field}:", text, re.MULTILINE)
    }
    assert missing == set()


@pytest.mark.parametrize("page", _pages(), ids=_name)
def test_no_link_is_dead(page: Path) -> None:
    for link in _links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{_name(page)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{_name(page)} links to {link}"


@pytest.mark.parametrize("page", _pages(), ids=_name)
def test_no_page_promises_what_is_not_there(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"\b(TBD|coming soon|lorem ipsum|" + "TO" + r"DO)\b", text, re.IGNORECASE)


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("*.md")), ids=lambda p: p.name)
def test_a_decision_is_short_and_has_its_three_parts(page: Path) -> None:
    text = page.read_text()
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page.name)
    assert len(text.splitlines()) <= 60
    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert all(f"\n## {part}\n" in text for part in ("Why", "Decision", "Consequences"))


def test_decisions_are_numbered_without_a_gap_and_listed() -> None:
    pages = sorted((DOCS / "adr").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    architecture = (DOCS / "architecture.md").read_text()
    assert all(f"adr/{page.name}" in architecture for page in pages)


def test_the_readme_names_the_commands_that_a_newcomer_types() -> None:
    text = (ROOT / "README.md").read_text()
    for command in ("make demo", "make test", "docker compose up", "fleetmedic doctor"):
        assert command in text, command
    assert text.count("<!-- timeline -->") == text.count("<!-- /timeline -->") == 1


def test_the_readme_is_shown_by_a_package_index() -> None:
    """An index shows no picture by a relative address: the text must carry the loop as well."""
    assert "```text" in (ROOT / "README.md").read_text()
