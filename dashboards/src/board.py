"""The model of a dashboard (rows and panels), and its conversion to Grafana JSON.

The position and id of a panel follow from its order in the rows. The layout of the Grafana SDK is not
used, because it places panels beyond the 24 columns of the grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import (
    gauge,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TABLES = ("table", "list")
DATASOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24
# Label matchers that limit a query to the selected values of the variables.
CLUSTER = 'cluster=~"$cluster"'
NODE = f'{CLUSTER},node=~"$node"'
GPU = f'{NODE},gpu=~"$gpu"'
JOB = f'{CLUSTER},job_id=~"$job_id"'
SERVICE = f'{CLUSTER},service=~"$service"'
# Variable name: label, and query for its values.
VARIABLES: Mapping[str, tuple[str, str]] = {
    "cluster": ("Cluster", 'label_values(up{job="node"}, cluster)'),
    "node": ("Node", f'label_values(up{{job="node",{CLUSTER}}}, node)'),
    "gpu": ("GPU", f"label_values(gpu_up{{{NODE}}}, gpu)"),
    "job_id": ("Training job", f"label_values(training_step{{{CLUSTER}}}, job_id)"),
    "service": ("Service", f"label_values(inference_replicas{{{CLUSTER}}}, service)"),
    "detector": ("Detector", "label_values(detector_threshold, detector)"),
}
UP = {"0": ("down", "red"), "1": ("up", "green")}
YES = {"0": ("no", "green"), "1": ("yes", "red")}

Query = tuple[str, str]  # PromQL, legend
States = Mapping[str, tuple[str, str]]  # value: text, colour
Builder = timeseries.Panel | stat.Panel | statetimeline.Panel | gauge.Panel | table.Panel


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `kind` is stat, gauge, lines, stacked, states, table or list (a table without the
    column of values); `width` is in grid columns (24 per line); `warn_from` and `bad_from` are
    thresholds, `alert` the alert that has the same threshold; `states` maps values to text and
    colour; `top` is the maximum of the axis, `signed` lets it show negative values; `link` is the name of a
    dashboard."""

    kind: str
    width: int
    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    bad_from: float | None = None
    warn_from: float | None = None
    alert: str = ""
    states: States | None = None
    top: float | None = None
    signed: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and its panels, which are placed from left to right and wrap to the next line."""

    title: str
    height: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. `name` is the file name without `.json`; the uid is `fleetmedic-` plus `name`."""

    name: str
    title: str
    text: str
    variables: tuple[str, ...]
    rows: tuple[Row, ...]
    since: str = "now-1h"

    @property
    def uid(self) -> str:
        """The dashboard uid in links and in Grafana."""
        return f"fleetmedic-{self.name}"


def text(board: Board, others: tuple[Board, ...]) -> str:
    """The JSON of a dashboard, with links to the other dashboards."""
    return json.dumps(_build(board, others), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def _build(board: Board, others: tuple[Board, ...]) -> dashboard.Dashboard:
    made = (
        builder.Dashboard(f"fleetmedic: {board.title}")
        .uid(board.uid)
        .description(board.text)
        .tags(["fleetmedic"])
        .refresh("10s")
        .time(board.since, "now")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .annotation(_actions())
        .with_variable(
            builder.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for name in board.variables:
        made = made.with_variable(_variable(name, *VARIABLES[name]))
    for other in others:
        if other.uid != board.uid:
            made = made.link(_link(other))
    number = top = 0
    for row in board.rows:
        number += 1
        heading = builder.Row(row.title).id(number)
        made = made.with_row(heading.grid_pos(dashboard.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + row.height, 0
            number += 1
            place = dashboard.GridPos(h=row.height, w=panel.width, x=left, y=top)
            made = made.with_panel(_panel(panel, number, place))
            left += panel.width
        top += row.height
    return made.build()


def _link(other: Board) -> builder.DashboardLink:
    return _to(other.uid, other.title).tooltip(other.text)


def _to(uid: str, shown: str) -> builder.DashboardLink:
    """A link to a dashboard that keeps variables and time range."""
    made = builder.DashboardLink(shown).type(dashboard.DashboardLinkType.LINK)
    return made.url(f"/d/{uid}").include_vars(True).keep_time(True)


def _panel(panel: Panel, number: int, place: dashboard.GridPos) -> Builder:
    made = _blank(panel).id(number).title(panel.title).description(panel.text)
    made = made.unit(panel.unit).datasource(DATASOURCE).grid_pos(place)
    made = made.thresholds(_thresholds(panel))
    if panel.kind not in TABLES and not panel.signed:
        made = made.min(0)
    if panel.top is not None:
        made = made.max(panel.top)
    if panel.states is not None:
        made = made.mappings([_mapping(panel.states)])
    if panel.link:
        made = made.links([_to(f"fleetmedic-{panel.link}", "Details")])
    for letter, (expression, legend) in zip("ABCDEF", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)
        if panel.kind in TABLES:
            query = query.instant().format(PromQueryFormat.TABLE)
        made = made.with_target(query.datasource(DATASOURCE))
    if panel.kind in TABLES:
        made = made.with_transformation(_columns(panel))
    return made


def _columns(panel: Panel) -> dashboard.DataTransformerConfig:
    """Hide the column Time of a table, and also the column Value of a list."""
    left_out = {"Time": True} | ({"Value": True} if panel.kind == "list" else {})
    options = {"excludeByName": left_out, "indexByName": {}, "renameByName": {}}
    return dashboard.DataTransformerConfig(id_val="organize", options=options)


def _blank(panel: Panel) -> Builder:
    latest = common_builder.ReduceDataOptions().calcs(["lastNotNull"])
    if panel.kind == "stat":
        graph = common.BigValueGraphMode.NONE if panel.states else common.BigValueGraphMode.AREA
        return stat.Panel().graph_mode(graph).reduce_options(latest)
    if panel.kind == "gauge":
        return gauge.Panel().reduce_options(latest)
    if panel.kind in TABLES:
        return table.Panel()
    if panel.kind == "states":
        return statetimeline.Panel().show_value(common.VisibilityMode.NEVER)
    lines = timeseries.Panel().show_points(common.VisibilityMode.NEVER).fill_opacity(8)
    if panel.kind == "stacked":
        stacking = common_builder.StackingConfig().mode(common.StackingMode.NORMAL)
        return lines.stacking(stacking).fill_opacity(40)
    if panel.bad_from is not None or panel.warn_from is not None:
        style = common_builder.GraphThresholdsStyleConfig()
        lines = lines.thresholds_style(style.mode(common.GraphThresholdsStyleMode.DASHED))
    return lines


def _thresholds(panel: Panel) -> builder.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color="green")]
    if panel.warn_from is not None:
        steps.append(dashboard.Threshold(value=panel.warn_from, color="orange"))
    if panel.bad_from is not None:
        steps.append(dashboard.Threshold(value=panel.bad_from, color="red"))
    return builder.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(states: States) -> dashboard.ValueMap:
    options = {
        value: dashboard.ValueMappingResult(text=shown, color=color, index=place)
        for place, (value, (shown, color)) in enumerate(states.items())
    }
    return dashboard.ValueMap(options=options)


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
    """An annotation on every panel for each action of the remediator."""
    done = "sum by (action, result) (increase(remediator_actions_total[$__rate_interval])) > 0"
    made = builder.AnnotationQuery().name("Remediation actions").datasource(DATASOURCE).enable(True)
    return made.expr(done).title_format("{{action}}").text_format("{{result}}").icon_color("purple")
