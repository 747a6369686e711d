"""The fleet dashboard, generated: `python dashboards/src/fleet.py` writes dashboards/fleet.json.

The panels are a table below; a panel's place and id follow from its row there. Grafana's own layout
is not used, because it sets panels side by side beyond the 24 columns of the grid.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard

TARGET = Path(__file__).resolve().parents[1] / "fleet.json"
DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Every panel that reads series of a machine is narrowed by the variables at the top.
HERE = 'cluster=~"$cluster",node=~"$node"'
OUT_OF_SERVICE = "QUARANTINED|CHECKPOINTING|DRAINING|JOBS_MOVED|REPAIRING|VERIFYING"

Query = tuple[str, str]  # PromQL, legend
Builder = timeseries.Panel | stat.Panel | statetimeline.Panel


@dataclass(frozen=True, slots=True)
class Panel:
    """One row of the table. `kind` is stat, lines, stacked or states; `width` is of 24 columns;
    `bad_from` colours the value from there on."""

    kind: str
    width: int
    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    bad_from: float | None = None
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, laid side by side and then on the next line."""

    title: str
    height: int
    panels: tuple[Panel, ...]


ROWS = (
    Row("Now", 4, (
        Panel("stat", 4, "GPUs up", "GPUs that are present and answer.", "short",
              ((f"sum(gpu_up{{{HERE}}})", "up"),)),
        Panel("stat", 4, "GPUs missing", "GPUs that the nodes should have and that are not up.",
              "short", ((f"sum(gpu_expected{{{HERE}}}) - sum(gpu_up{{{HERE}}})", "missing"),),
              bad_from=1),
        Panel("stat", 4, "Out of service", "Incidents whose target is quarantined and being treated.",
              "short", ((f'sum(remediator_incidents{{state=~"{OUT_OF_SERVICE}"}})', "treated"),),
              bad_from=1),
        Panel("stat", 4, "Waiting for people", "Incidents held, awaiting approval or escalated.",
              "short", (('sum(remediator_incidents{state=~"HELD|AWAIT_APPROVAL|ESCALATED"})', "wait"),),
              bad_from=1),
        Panel("stat", 4, "Paused", "1 while somebody has told the remediator to do nothing.", "short",
              (("max(remediator_paused)", "paused"),), bad_from=1),
        Panel("stat", 4, "Simulated", "1 where the GPUs shown here are simulated.", "short",
              ((f"max(gpu_exporter_simulated{{{HERE}}})", "simulated"),)),
    )),
    Row("GPUs", 8, (
        Panel("stacked", 12, "GPUs by state", "Up, hung and lost GPUs; together they are what the "
              "nodes should have.", "short", (
                  (f"sum(gpu_up{{{HERE}}})", "up"),
                  (f"sum(1 - gpu_responding{{{HERE}}})", "hung"),
                  (f"sum(gpu_lost{{{HERE}}})", "lost"))),
        Panel("states", 12, "Lost or silent", "Each GPU that was lost, or did not answer, at some time "
              "of the range; 0 is trouble.", "short",
              ((f"gpu_up{{{HERE}}} and on (cluster, uuid) (min_over_time(gpu_up[$__range]) == 0)",
                "{{node}}/{{gpu}}"),)),
        Panel("lines", 12, "Utilization by node", "Mean share of time in which kernels ran.",
              "percentunit", ((f"avg by (node) (gpu_utilization_ratio{{{HERE}}})", "{{node}}"),),
              top=1),
        Panel("lines", 12, "SM clock against its peers", "Each busy GPU's clock as a share of the "
              "median of the busy GPUs of its node: a slow GPU lies below 1 alone.", "percentunit",
              ((f'(gpu_clock_hertz{{{HERE},domain="sm"}} and on (cluster, uuid) '
                f"gpu_utilization_ratio{{{HERE}}} > 0.5) / on (cluster, node) group_left () "
                f'quantile by (cluster, node) (0.5, gpu_clock_hertz{{{HERE},domain="sm"}} and on '
                f"(cluster, uuid) gpu_utilization_ratio{{{HERE}}} > 0.5)", "{{node}}/{{gpu}}"),)),
        Panel("lines", 8, "Temperature", "The hottest GPU of each node.", "celsius",
              ((f'max by (node) (gpu_temperature_celsius{{{HERE},sensor="gpu"}})', "{{node}}"),
               (f'min(gpu_temperature_threshold_celsius{{{HERE},threshold="slowdown"}})',
                "slowdown"))),
        Panel("lines", 8, "Power", "All GPUs of a node together.", "watt",
              ((f'sum by (node) (gpu_power_watts{{{HERE},scope="gpu"}})', "{{node}}"),)),
        Panel("lines", 8, "XIDs", "Errors in the kernel log, by code.", "short",
              ((f"sum by (node, xid) (increase(gpu_xid_errors_total{{{HERE}}}[$__rate_interval])) > 0",
                "{{node}} XID {{xid}}"),)),
    )),
    Row("Incidents", 8, (
        Panel("stacked", 8, "Incidents by state", "Open incidents, by the state they are in.", "short",
              (('sum by (state) (remediator_incidents{state!~"CLOSED|SUPPRESSED"})', "{{state}}"),)),
        Panel("lines", 8, "Actions", "What was done, and how it ended.", "short",
              (("sum by (action, result) (increase(remediator_actions_total[$__rate_interval])) > 0",
                "{{action}} {{result}}"),)),
        Panel("lines", 8, "Held back", "Actions that a guard held, by its reason.", "short",
              (("sum by (reason) (increase(remediator_guard_holds_total[$__rate_interval])) > 0",
                "{{reason}}"),)),
        Panel("lines", 12, "Stages of an incident", "Mean time spent in each stage.", "s",
              (("sum by (stage) (rate(remediator_stage_seconds_sum[$__rate_interval])) / sum by "
                "(stage) (rate(remediator_stage_seconds_count[$__rate_interval]))", "{{stage}}"),)),
        Panel("states", 12, "Alerts firing", "Every alert that fires, save the Watchdog.", "short",
              (('max by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"})',
                "{{alertname}}"),)),
    )),
    Row("Jobs and services", 8, (
        Panel("lines", 8, "Training step", "Duration of a step of each job: a slow GPU lengthens its "
              "whole job's.", "s", ((f"training_step_duration_seconds{{{HERE}}}", "{{job_id}}"),)),
        Panel("lines", 8, "Queue", "Requests that wait for a worker.", "short",
              (("sum by (service) (inference_requests_waiting)", "{{service}}"),)),
        Panel("lines", 8, "Replicas", "Workers that serve.", "short",
              (("max by (service) (inference_replicas)", "{{service}}"),)),
    )),
    Row("The watchers themselves", 8, (
        Panel("lines", 8, "Scrape freshness", "Age of the oldest successful read, by collector: it "
              "climbs while a collector fails.", "s",
              ((f"time() - min by (collector) (gpu_exporter_collector_last_success_timestamp_seconds"
                f"{{{HERE}}})", "{{collector}}"),)),
        Panel("states", 8, "Targets", "Whether Prometheus reaches each process; 0 is not.", "short",
              (("min by (job, node) (up)", "{{job}} {{node}}"),)),
        Panel("lines", 8, "Reconciler", "Time since the remediator last compared what is with what "
              "should be.", "s", (("time() - max(remediator_reconcile_last_timestamp_seconds)", "age"),),
              bad_from=120),
    )),
)  # fmt: skip


def _blank(kind: str) -> Builder:
    if kind == "stat":
        latest = common_builder.ReduceDataOptions().calcs(["lastNotNull"])
        return stat.Panel().graph_mode(common.BigValueGraphMode.AREA).reduce_options(latest)
    if kind == "states":
        return statetimeline.Panel().show_value(common.VisibilityMode.NEVER)
    lines = timeseries.Panel().show_points(common.VisibilityMode.NEVER).fill_opacity(8)
    if kind == "stacked":
        stacking = common_builder.StackingConfig().mode(common.StackingMode.NORMAL)
        lines = lines.stacking(stacking).fill_opacity(40)
    return lines


def _thresholds(panel: Panel) -> builder.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color="green")]
    if panel.kind == "states":
        steps = [
            dashboard.Threshold(value=None, color="red"),
            dashboard.Threshold(value=1, color="red" if "firing" in panel.title else "green"),
        ]
    elif panel.bad_from is not None:
        steps.append(dashboard.Threshold(value=panel.bad_from, color="red"))
    return builder.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _panel(panel: Panel, number: int, place: dashboard.GridPos) -> Builder:
    made = _blank(panel.kind).id(number).title(panel.title).description(panel.text)
    made = made.unit(panel.unit).datasource(DATASOURCE).grid_pos(place).min(0)
    made = made.thresholds(_thresholds(panel))
    if panel.top is not None:
        made = made.max(panel.top)
    for letter, (expression, legend) in zip("ABCD", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)
        made = made.with_target(query.datasource(DATASOURCE))
    return made


def _variable(name: str, label: str, query: str) -> builder.QueryVariable:
    variable = builder.QueryVariable(name).label(label).datasource(DATASOURCE).query(query)
    return (
        variable.multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _actions() -> builder.AnnotationQuery:
    """Marks on every panel where the remediator did something."""
    done = "sum by (action, result) (changes(remediator_actions_total[$__interval])) > 0"
    made = builder.AnnotationQuery().name("Actions").datasource(DATASOURCE).enable(True)
    return made.expr(done).title_format("{{action}}").text_format("{{result}}").icon_color("purple")


def fleet() -> dashboard.Dashboard:
    """The dashboard as Grafana's model: rows one below the other, panels from left to right."""
    made = (
        builder.Dashboard("fleetmedic: the fleet")
        .uid("fleetmedic-fleet")
        .description("GPUs, incidents and actions, jobs and services, and the watchers themselves.")
        .tags(["fleetmedic", "gpu"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .annotation(_actions())
        .with_variable(
            builder.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_variable("cluster", "Cluster", "label_values(gpu_expected, cluster)"))
        .with_variable(
            _variable("node", "Node", 'label_values(gpu_expected{cluster=~"$cluster"}, node)')
        )
    )
    number = top = 0
    for row in ROWS:
        number += 1
        heading = builder.Row(row.title).id(number)
        made = made.with_row(heading.grid_pos(dashboard.GridPos(h=1, w=24, x=0, y=top)))
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > 24:
                top, left = top + row.height, 0
            number += 1
            place = dashboard.GridPos(h=row.height, w=panel.width, x=left, y=top)
            made = made.with_panel(_panel(panel, number, place))
            left += panel.width
        top += row.height
    return made.build()


def render() -> str:
    """The text of fleet.json."""
    return json.dumps(fleet(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--stdout"]:
        sys.stdout.write(render())
    else:
        TARGET.write_text(render())
