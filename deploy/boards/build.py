"""From boards as data to the JSON that Grafana imports, by its own typed SDK (grafana-foundation-sdk,
v11.6)."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as lines
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.boards.model import GRID, Board, Look, Panel, Query, Unit, Variable

_TAG = "drse"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_Builder = stat.Panel | lines.Panel | bargauge.Panel | table.Panel | heatmap.Panel


def encode(board: Board) -> str:
    """The board as JSON, the same on every run."""
    return JSONEncoder(sort_keys=True, indent=1).encode(_dashboard(board).build()) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.text)
        .tags([_TAG])
        .time(board.window, "now")
        .refresh("30s")
        .timezone("browser")
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(_to_the_others())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in board.variables:
        made = made.with_variable(_variable(variable))
    identity, y = 1, 0
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title).id(identity).grid_pos(GridPos(h=1, w=GRID, x=0, y=y)))
        identity, y = identity + 1, y + 1
        x, tallest = 0, 0
        for panel in row.panels:
            if x + panel.width > GRID:
                x, y, tallest = 0, y + tallest, 0
            place = GridPos(h=panel.height, w=panel.width, x=x, y=y)
            made = made.with_panel(_panel(panel).id(identity).grid_pos(place))
            identity, x, tallest = identity + 1, x + panel.width, max(tallest, panel.height)
        y += tallest
    return made


def _to_the_others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("DRSE").type(DashboardLinkType.DASHBOARDS).tags([_TAG])
    return link.as_dropdown(True).keep_time(True).include_vars(True)


def _variable(variable: Variable) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.title)
        .datasource(_SOURCE)
        .query(f"label_values({variable.metric}{variable.within}, {variable.label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _panel(panel: Panel) -> _Builder:
    made = _LOOKS[panel.look](panel)
    unit = Unit.COUNT if panel.look is Look.HEAT else panel.unit
    made = made.title(panel.title).description(panel.text).unit(unit).datasource(_SOURCE)
    for index, query in enumerate(panel.queries):
        made = made.with_target(_target(panel, query, chr(ord("A") + index)))
    if panel.top is not None:
        made = made.max(panel.top)
    if panel.decimals is not None:
        made = made.decimals(panel.decimals)
    return made


def _target(panel: Panel, query: Query, letter: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).datasource(_SOURCE).expr(query.expr)
    if query.legend:
        target = target.legend_format(query.legend)
    match panel.look:
        case Look.TABLE:
            return target.instant().format(PromQueryFormat.TABLE)
        case Look.HEAT:
            return target.range().format(PromQueryFormat.HEATMAP)
        case Look.BARS:
            return target.instant()
        case _:
            return target.range()


# -- one function a look -----------------------------------------------------------------------------------


def _number(panel: Panel) -> stat.Panel:
    steps = [Threshold(value=None, color="text")]
    if panel.alarm is not None:
        steps.append(Threshold(value=panel.alarm, color="red"))
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .no_value("-")
    )


def _lines(panel: Panel) -> lines.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    made = lines.Panel().legend(legend.show_legend(True)).tooltip(tooltip).line_width(1)
    if panel.look is Look.SIGNED:
        return made.fill_opacity(5)
    made = made.min(0)
    if panel.look is Look.STACK:
        return made.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    return made.fill_opacity(5)


def _bars(panel: Panel) -> bargauge.Panel:
    return (
        bargauge.Panel()
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
    )


def _table(panel: Panel) -> table.Panel:
    hidden = {"Time": True, "__name__": True, "job": True, "instance": True}
    organize = DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    return table.Panel().with_transformation(organize).filterable(True)


def _heat(panel: Panel) -> heatmap.Panel:
    """The unit is that of the buckets; what is counted in them has none."""
    axis = heatmap.YAxisConfig().unit(panel.unit)
    return heatmap.Panel().calculate(False).cell_gap(1).y_axis(axis).show_legend()


_LOOKS: dict[Look, Callable[[Panel], _Builder]] = {
    Look.NUMBER: _number,
    Look.LINES: _lines,
    Look.SIGNED: _lines,
    Look.STACK: _lines,
    Look.BARS: _bars,
    Look.TABLE: _table,
    Look.HEAT: _heat,
}
