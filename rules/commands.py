"""The commands for rule files: lint, render, slo, mutate, reference."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import click

from fleetmedic.kernel.errors import UserError
from fleetmedic.kernel.home import home
from fleetmedic.terminal.numbers import IntegerRange
from fleetmedic.wording.counts import counted
from rules.links import DASHBOARD_BASE, RUNBOOK_BASE


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON output: a list of findings.")
def lint(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check Prometheus rule files against the metric catalogue and the runbooks.

    PATHS are rule files, or directories with rule files. [default: the shipped rules] The exit code is
    1 if there is an error. Warnings do not change the exit code.

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
        click.echo(
            f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}", err=True
        )
    if any(finding.severity == "error" for finding in findings):
        raise SystemExit(1)


@click.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Output directory. The command writes the rules to its subdirectory static/.",
)
@click.option(
    "--factor",
    default=1.0,
    show_default=True,
    help="Speed-up factor for tests: every duration in the rules is divided by it. Use 1 in production.",
)
@click.option(
    "--runbook-base",
    metavar="URL",
    default=RUNBOOK_BASE,
    show_default=True,
    help="Base URL of the runbook pages.",
)
@click.option(
    "--dashboard-base",
    metavar="URL",
    default=DASHBOARD_BASE,
    show_default=True,
    help="Base URL of the dashboards: Grafana, or the remediator. Links have the path /d/UID.",
)
@click.option(
    "--scrape-interval",
    default=5.0,
    show_default=True,
    help="Scrape interval in seconds. With --factor, every range in the rules stays at least four scrape intervals long.",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    help="Category of alerts to write, such as gpu or node. Can be repeated. [default: all categories]",
)
@click.option(
    "--job",
    "jobs",
    multiple=True,
    metavar="SHIPPED=YOURS",
    help="Scrape job to rename: its name in the shipped rules, and its name in your Prometheus. Can be repeated.",
)
@click.option(
    "--format",
    "form",
    default="files",
    show_default=True,
    type=click.Choice(["files", "prometheusrule"]),
    help="Output format: rule files, or PrometheusRule objects for the Prometheus Operator.",
)
@click.option("--namespace", default="", help="Namespace of the PrometheusRule objects.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="Label of the PrometheusRule objects. Can be repeated.",
)
def render(
    out: Path,
    factor: float,
    runbook_base: str,
    dashboard_base: str,
    scrape_interval: float,
    form: str,
    namespace: str,
    **many: tuple[str, ...],
) -> None:
    """Write the shipped alert and recording rules for your Prometheus.

    The shipped rules expect these scrape jobs: node (the exporters), remediator, rules, prometheus,
    alertmanager and service. --job renames a scrape job in the rules. With --category the command also
    writes the recording rules that the selected alerts use.

    \b
    Examples:
      fleetmedic rules render --out /etc/prometheus/rules
      fleetmedic rules render --out rules --category gpu --category node --job node=gpu-exporter
      fleetmedic rules render --out objects --format prometheusrule --namespace monitoring --label release=kube-prometheus-stack
      fleetmedic rules render --factor 30 --out /tmp/demo-rules
    """
    from fleetmedic.kernel.urls import check_public_url
    from rules import render as renderer

    check_public_url(runbook_base, "--runbook-base")
    check_public_url(dashboard_base, "--dashboard-base")
    where = renderer.RenderParameters(
        factor,
        renderer.Links(runbook_base, dashboard_base),
        scrape_interval,
        frozenset(many["categories"]),
        _pairs("--job", many["jobs"], "SHIPPED=YOURS"),
    )
    if form == "files":
        written = renderer.render(out, where)
    else:
        labels = _pairs("--label", many["labels"], "KEY=VALUE")
        written = renderer.objects(out, where, namespace=namespace, labels=labels)
    for path in written:
        click.echo(str(path))
    click.echo(f"all durations are divided by {factor:g}", err=True)


def _pairs(option: str, texts: tuple[str, ...], form: str) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    if bad := next((text for text in texts if "=" not in text), None):
        raise UserError(f"{option}: expected {form}, got {bad[:80]!r}.")
    return pairs


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Output directory for the files slo-NAME.yml. [default: stdout]",
)
def slo(paths: tuple[Path, ...], out: Path | None) -> None:
    """Write recording rules and burn-rate alerts for service level objectives (SLOs).

    PATHS are YAML files with SLOs. [default: the shipped files in rules/slo]

    \b
    Examples:
      fleetmedic rules slo
      fleetmedic rules slo my-slos.yml --out /etc/prometheus/rules
    """
    from fleetmedic.kernel.files import write_output
    from rules import burn_rate

    for path in paths or burn_rate.sources():
        text = burn_rate.text(path)
        if out is None:
            click.echo(text, nl=False)
            continue
        target = out / f"slo-{path.stem}.yml"
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_output(target, text)
        except OSError as error:
            raise UserError(
                f"cannot write {target}: {error.strerror}. Specify another directory with --out."
            ) from None
        click.echo(str(target))


@click.command()
@click.option(
    "--alert",
    "alerts",
    multiple=True,
    help="Alert to mutate. Can be repeated. [default: all alerts]",
)
@click.option(
    "--promtool",
    type=click.Path(path_type=Path),
    help="Path of promtool. [default: promtool on PATH, otherwise the downloaded copy]",
)
@click.option(
    "--jobs",
    default=2,
    show_default=True,
    type=IntegerRange(1, 64),
    help="Number of parallel promtool runs.",
)
@click.option(
    "--tests",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Directory of promtool tests with one file per alert. [default: the tests in the source tree]",
)
def mutate(alerts: tuple[str, ...], promtool: Path | None, jobs: int, tests: Path | None) -> None:
    """Change (mutate) each alert rule, and check that one of its tests fails.

    A mutation for which no test fails is called a survivor. The file survivors.yaml in the directory of
    the tests lists the accepted survivors. The exit code is 1 if there is any other survivor.

    \b
    Examples:
      fleetmedic rules mutate
      fleetmedic rules mutate --alert GpuLost --alert NodeDown
    """
    from rules import mutate as mutator

    folder = tests or mutator.TESTS
    outcomes = mutator.run(promtool or _promtool(), alerts=alerts, tests=folder, jobs=jobs)
    for outcome in outcomes:
        if not outcome.passed:
            word = "is listed as a survivor, but a test fails" if outcome.killed else "survived"
            click.echo(f"{outcome.alert}: {outcome.what}: {word}")
    unknown = mutator.unknown_survivors(outcomes, folder)
    for line in unknown:
        click.echo(f"{line}: is listed as a survivor, but no such mutation exists")
    allowed = sum(not outcome.killed and outcome.passed for outcome in outcomes)
    click.echo(
        f"{counted(len(outcomes), 'mutation')}, {counted(allowed, 'allowed survivor')}", err=True
    )
    if unknown or not all(outcome.passed for outcome in outcomes):
        raise SystemExit(1)


def _promtool() -> Path:
    unpacked = home() / "parts" / "root" / "usr" / "bin" / "promtool"
    if found := shutil.which("promtool"):
        return Path(found)
    if unpacked.is_file():
        return unpacked
    raise UserError("promtool not found: run `fleetmedic doctor --fetch`, or set --promtool.")


@click.command()
def reference() -> None:
    """Print docs/alerts.md, the table of all alerts.

    \b
    Example:
      fleetmedic rules reference > docs/alerts.md
    """
    from rules.reference import markdown

    click.echo(markdown(), nl=False)
