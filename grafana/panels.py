"""The kinds of panel that the boards are made of, each with all that every panel must have.

Pure. `at` and ids are given when a board is put together (frame.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    statushistory,
    text,
    timeseries,
)

from grafana.named_values import Named, unknown_value
from grafana.thresholds import NEUTRAL, UNKNOWN, Steps, steps

_HEADROOM = 1.2  # of an axis over the highest threshold

SOURCE = common.DataSourceRef(type_val="prometheus", uid="$datasource")
WIDTH = 24  # of Grafana's grid
_WIDE = 12  # units of the grid

# Of rows of cells, whose names stand beside them.
_NO_LEGEND = common.VizLegendOptions(
    display_mode=common.LegendDisplayMode.LIST,
    placement=common.LegendPlacement.BOTTOM,
    show_legend=False,
    calcs=[],
)
_ONE_VALUE = common.VizTooltipOptions(
    mode=common.TooltipDisplayMode.SINGLE, sort=common.SortOrder.NONE
)


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. `legend`: Grafana's template over the labels."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel and the room it takes, in units of the grid."""

    model: dashboard.Panel
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Link:
    """Where the cells of a label's column lead to."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class LineStyle:
    """How the line of one legend is drawn."""

    colour: str
    name: str | None = None  # instead of the legend
    width: int | None = None  # in pixels

    def properties(self) -> list[dashboard.DynamicConfigValue]:
        """Return it in Grafana's form."""
        fixed = {"mode": "fixed", "fixedColor": self.colour}
        given = {"color": fixed, "displayName": self.name, "custom.lineWidth": self.width}
        return [
            dashboard.DynamicConfigValue(id_val=name, value=value)
            for name, value in given.items()
            if value is not None
        ]


def show_outside_menus(model: dashboard.DashboardLink | dashboard.AnnotationQuery) -> None:
    """Undo the SDK's default, which hides links and switches in a menu of Grafana."""
    model.placement = None  # type: ignore[assignment]


def number(
    title: str,
    about: str,
    expr: str,
    unit: str,
    thresholds: Steps = NEUTRAL,
    *,
    width: int = 3,
    height: int = 4,
    decimals: int | None = None,
    named: Named | None = None,
    unknown: str = "unknown",
    unknown_colour: str = UNKNOWN,
    caption: str | None = None,
) -> Panel:
    """Return a panel with one large number of the present, or `unknown` if there is no value.

    `caption`: small text over the number, for what a title has no room for. An instant query,
    without a sparkline: the last value of a range may be an hour old.
    """
    # A verdict fills the panel with its colour, so that it is seen from afar.
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.BACKGROUND
        if named is not None or thresholds != NEUTRAL
        else common.BigValueColorMode.VALUE,
        justify_mode=common.BigValueJustifyMode.AUTO,
        text_mode=common.BigValueTextMode.AUTO
        if caption is None
        else common.BigValueTextMode.VALUE_AND_NAME,
        reduce_options=common.ReduceDataOptions(values=False, calcs=["last"], fields=""),
        orientation=common.VizOrientation.AUTO,
    )
    config = field_config(unit, thresholds, decimals)
    config.no_value = unknown
    config.display_name = caption
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
    # Without it Grafana fills a panel that has no value with the colour of the lowest threshold.
    config.mappings = [
        *(named.mappings() if named is not None else ()),
        unknown_value(unknown, unknown_colour),
    ]
    target = query_target(Query(expr), "A", instant=True)
    return Panel(panel_model("stat", title, about, options, config, [target]), width, height)


def graph(
    title: str,
    about: str,
    queries: Sequence[Query],
    unit: str,
    thresholds: Steps = NEUTRAL,
    *,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    least: float | None = 0,
    most: float | None = None,
    step: str | None = None,
    lines: Mapping[str, LineStyle] | None = None,
    many: bool = False,
    link: Link | None = None,
) -> Panel:
    """Return a panel of lines over time, with the thresholds as dashed lines.

    `lines`: colours and names of the lines with these legends, or with those that match a pattern
    between slashes. `many`: there may be more lines than a list under the graph has room for.
    `link`: where a click on a line leads to.
    """
    # Two numbers beside each name would leave a narrow graph less than half of its panel.
    numbers = ["max"] if width < _WIDE else ["lastNotNull", "max"]
    legend = common.VizLegendOptions(
        display_mode=common.LegendDisplayMode.TABLE if many else common.LegendDisplayMode.LIST,
        placement=common.LegendPlacement.RIGHT if many else common.LegendPlacement.BOTTOM,
        show_legend=True,
        calcs=numbers if many else [],
        sort_by="Max" if many else None,
        sort_desc=True if many else None,
    )
    options = timeseries.Options(
        legend=legend,
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
        ),
    )
    config = field_config(unit, thresholds)
    config.min_val, config.max_val = least, most
    # By their names, two of eight models often have one colour.
    by_order = dashboard.FieldColorModeId.PALETTE_CLASSIC
    by_name = dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME
    config.color = dashboard.FieldColor(mode=by_order if many else by_name)
    # Neutral thresholds have no limit to draw.
    shown = common.GraphThresholdsStyleMode.DASHED
    if thresholds == NEUTRAL:
        shown = common.GraphThresholdsStyleMode.OFF
    limits = [value for value, _ in thresholds if value is not None]
    # Many thick lines would hide each other.
    config.custom = timeseries.FieldConfig(
        draw_style=common.GraphDrawStyle.LINE,
        line_width=1 if many or stacked else 2,
        # Without it a target lies off the axis while all is well.
        axis_soft_max=_HEADROOM * max(limits) if limits and most is None else None,
        fill_opacity=40 if stacked else 0,
        show_points=common.VisibilityMode.NEVER,
        # A gap is unknown; a line across it would be a guess.
        span_nulls=False,
        stacking=common.StackingConfig(
            mode=common.StackingMode.NORMAL if stacked else common.StackingMode.NONE, group="A"
        ),
        thresholds_style=common.GraphThresholdsStyleConfig(mode=shown),
    )
    targets = [query_target(query, ref_id(at)) for at, query in enumerate(queries)]
    model = panel_model("timeseries", title, about, options, config, targets)
    model.interval = step
    assert model.field_config is not None
    model.field_config.overrides = [
        field_override(legend, line.properties()) for legend, line in (lines or {}).items()
    ]
    if link is not None:
        model.field_config.overrides.append(_line_link(link))
    return Panel(model, width, height)


def _line_link(link: Link) -> dashboard.DashboardFieldConfigSourceOverrides:
    """Return the link of all lines of a graph's only query."""
    # In the defaults, the SDK has the links of a dashboard, with keys that a line's does not have.
    cell = {"title": link.title, "url": link.url}
    return dashboard.DashboardFieldConfigSourceOverrides(
        matcher=dashboard.MatcherConfig(id_val="byFrameRefID", options="A"),
        properties=[dashboard.DynamicConfigValue(id_val="links", value=[cell])],
    )


def heat(title: str, about: str, expr: str, unit: str, *, width: int = 8) -> Panel:
    """Return a heatmap of a histogram over time; dots are exemplars that lead to traces."""
    # Prometheus has counted the buckets; Grafana must not build its own from the lines.
    options = heatmap.Options(
        calculate=False,
        color=heatmap.HeatmapColorOptions(
            mode=heatmap.HeatmapColorMode.SCHEME,
            scheme="Oranges",
            fill="dark-orange",
            scale=heatmap.HeatmapColorScale.EXPONENTIAL,
            # A root spreads small counts, so that few slow requests stay visible.
            exponent=0.5,
            steps=64,
        ),
        cell_gap=1,
        # Empty buckets get no colour.
        filter_values=heatmap.FilterValueRange(le=1e-9),
        y_axis=heatmap.YAxisConfig(unit=unit, axis_placement=common.AxisPlacement.LEFT),
        cell_values=heatmap.CellValues(unit="reqps"),
        legend=heatmap.HeatmapLegend(show=True),
        tooltip=heatmap.HeatmapTooltip(
            mode=common.TooltipDisplayMode.SINGLE, y_histogram=True, show_color_scale=True
        ),
        exemplars=heatmap.ExemplarConfig(color="rgba(255,0,255,0.7)"),
        rows_frame=heatmap.RowsHeatmapOptions(layout=common.HeatmapCellLayout.AUTO),
    )
    config = field_config(unit, NEUTRAL)
    config.custom = heatmap.FieldConfig(
        scale_distribution=common.ScaleDistributionConfig(type_val=common.ScaleDistribution.LINEAR)
    )
    target = query_target(Query(expr, "{{le}}"), "A")
    target.format_val = prometheus.PromQueryFormat.HEATMAP
    target.exemplar = True
    model = panel_model("heatmap", title, about, options, config, [target])
    # More columns than this are a pixel wide each.
    model.interval, model.max_data_points = "30s", 60
    return Panel(model, width, 9)


def history(
    title: str,
    about: str,
    query: Query,
    unit: str,
    thresholds: Steps,
    step: str,
    *,
    width: int = WIDTH,
    height: int = 6,
    named: Named | None = None,
) -> Panel:
    """Return a row of cells, one for each stretch of time of at least `step`."""
    options = statushistory.Options(
        # Colours alone are not told apart by all people.
        show_value=common.VisibilityMode.AUTO,
        legend=_NO_LEGEND,
        tooltip=_ONE_VALUE,
    )
    config = field_config(unit, thresholds)
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
    config.custom = statushistory.FieldConfig()
    config.mappings = named.mappings() if named is not None else []
    model = panel_model("status-history", title, about, options, config, [query_target(query, "A")])
    # More cells than points on the screen would be drawn over each other.
    model.interval = step
    model.max_data_points = 300
    return Panel(model, width, height)


def timeline(
    title: str,
    about: str,
    query: Query,
    unit: str,
    thresholds: Steps,
    *,
    width: int = 12,
    height: int = 9,
) -> Panel:
    """Return a strip over time for each name, coloured by the thresholds."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.NEVER,
        merge_values=True,
        legend=_NO_LEGEND,
        tooltip=_ONE_VALUE,
    )
    config = field_config(unit, thresholds)
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
    # A gap is unknown; a strip across it would be a guess.
    config.custom = statetimeline.FieldConfig(span_nulls=False)
    model = panel_model("state-timeline", title, about, options, config, [query_target(query, "A")])
    model.max_data_points = 300
    return Panel(model, width, height)


def note(title: str, about: str, words: str, *, width: int = WIDTH, height: int = 3) -> Panel:
    """Return a panel of text in Markdown."""
    model = dashboard.Panel(
        type_val="text",
        title=title,
        description=about,
        options=text.Options(mode=text.TextMode.MARKDOWN, content=words),
    )
    return Panel(model, width, height)


def ref_id(at: int) -> str:
    """Return the letter of a query: A, B, C, ..."""
    return chr(ord("A") + at)


def query_target(query: Query, letter: str, *, instant: bool = False) -> prometheus.Dataquery:
    """Return a query in Grafana's form."""
    return prometheus.Dataquery(
        datasource=SOURCE,
        editor_mode=prometheus.QueryEditorMode.CODE,
        expr=query.expr,
        legend_format=query.legend,
        range_val=not instant,
        instant=instant,
        exemplar=False,
        ref_id=letter,
    )


def field_config(
    unit: str, thresholds: Steps, decimals: int | None = None
) -> dashboard.FieldConfig:
    """Return unit and colours of a panel\'s values."""
    return dashboard.FieldConfig(
        unit=unit,
        decimals=decimals,
        thresholds=dashboard.ThresholdsConfig(
            mode=dashboard.ThresholdsMode.ABSOLUTE, steps=steps(thresholds)
        ),
    )


def panel_model(
    kind: str,
    title: str,
    about: str,
    options: object,
    config: dashboard.FieldConfig,
    targets: Sequence[prometheus.Dataquery],
) -> dashboard.Panel:
    """Return a panel in Grafana\'s form, without its place."""
    return dashboard.Panel(
        type_val=kind,
        title=title,
        description=about,
        datasource=SOURCE,
        targets=list(targets),
        options=options,
        field_config=dashboard.FieldConfigSource(defaults=config, overrides=[]),
    )


def field_override(
    name: str, properties: list[dashboard.DynamicConfigValue]
) -> dashboard.DashboardFieldConfigSourceOverrides:
    """Return properties of the field of this name; of several if it is a pattern in slashes."""
    kind = "byRegexp" if name.startswith("/") else "byName"
    return dashboard.DashboardFieldConfigSourceOverrides(
        matcher=dashboard.MatcherConfig(id_val=kind, options=name), properties=properties
    )
