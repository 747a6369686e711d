"""The commands over rule files: lint, render, mutate, reference."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import home


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print findings as a JSON list.")
def lint(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check rule files (or folders of them); without PATHS, the shipped rules.

    Exit code 1 when there is an error among the findings; warnings alone do not fail.

    \b
    Examples:
      fleetmedic rules lint
      fleetmedic rules lint --json /etc/prometheus/rules
    """
    from rules import lint as linter

    findings = linter.lint_paths(paths)
    if as_json:
        click.echo(json.dumps([{**asdict(f), "file": str(f.file)} for f in findings], indent=1))
    else:
        for finding in findings:
            click.echo(str(finding))
        errors = sum(finding.severity == "error" for finding in findings)
        click.echo(f"{errors} errors, {len(findings) - errors} warnings", err=True)
    if any(finding.severity == "error" for finding in findings):
        raise SystemExit(1)


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write static/ and recording/ into.")  # fmt: skip
@click.option("--factor", default=1.0, show_default=True, help="Divides every duration (1: production).")  # fmt: skip
@click.option("--runbook-base", default="http://localhost:9095/runbooks", show_default=True, help="Where runbook pages are served.")  # fmt: skip
@click.option("--scrape-interval", default=5.0, show_default=True, help="Seconds between scrapes; no range becomes shorter than four of them.")  # fmt: skip
def render(out: Path, factor: float, runbook_base: str, scrape_interval: float) -> None:
    """Write the shipped rules for one place.

    \b
    Examples:
      fleetmedic rules render --out /etc/prometheus/rules
      fleetmedic rules render --factor 30 --out /tmp/demo-rules
    """
    from rules import render as renderer

    written = renderer.render(
        out, factor=factor, runbook_base=runbook_base, scrape_interval=scrape_interval
    )
    for path in written:
        click.echo(str(path))
    click.echo(f"durations are divided by {factor:g}", err=True)


@click.command()
@click.option("--alert", "alerts", multiple=True, help="Only this alert; may be given again.")
@click.option("--promtool", type=click.Path(path_type=Path), help="promtool; else PATH, else the unpacked parts.")  # fmt: skip
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 64), help="Runs at the same time.")  # fmt: skip
@click.option("--tests", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder of promtool tests, one file an alert.")  # fmt: skip
def mutate(alerts: tuple[str, ...], promtool: Path | None, jobs: int, tests: Path | None) -> None:
    """Make each alert slightly wrong, and see that one of its tests goes red.

    Exit code 1 when a mutation survives without a written reason.

    \b
    Examples:
      fleetmedic rules mutate
      fleetmedic rules mutate --alert GpuLost --alert NodeDown
    """
    from rules import mutate as mutator

    folder = tests or mutator.TESTS
    outcomes = mutator.run(promtool or _promtool(), alerts=alerts, tests=folder, jobs=jobs)
    for outcome in outcomes:
        if not outcome.fine:
            word = "was excused, but is noticed" if outcome.killed else "survived"
            click.echo(f"{outcome.alert}: {outcome.what}: {word}")
    unknown = mutator.unknown_excuses(outcomes, folder)
    for line in unknown:
        click.echo(f"{line}: excused, but there is no such mutation")
    allowed = sum(not outcome.killed and outcome.fine for outcome in outcomes)
    click.echo(f"{len(outcomes)} mutations, {allowed} allowed survivors", err=True)
    if unknown or not all(outcome.fine for outcome in outcomes):
        raise SystemExit(1)


def _promtool() -> Path:
    unpacked = home() / "parts" / "root" / "usr" / "bin" / "promtool"
    if found := shutil.which("promtool"):
        return Path(found)
    if unpacked.is_file():
        return unpacked
    raise UserError("promtool is not here: run `fleetmedic doctor --fetch`, or give --promtool.")


@click.command()
def reference() -> None:
    """Print the table of all alerts, which is docs/alerts.md.

    \b
    Example:
      fleetmedic rules reference > docs/alerts.md
    """
    from rules.reference import markdown

    click.echo(markdown(), nl=False)
