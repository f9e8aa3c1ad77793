"""The kinds of panel that the boards are made of, each with all that every panel must have.

Pure. `at` and ids are given when a board is put together (frame.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.models import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statushistory,
    table,
    text,
    timeseries,
)

from grafana.thresholds import NEUTRAL, Steps, steps

SOURCE = common.DataSourceRef(type_val="prometheus", uid="$datasource")
WIDTH = 24  # of Grafana's grid


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
class Column:
    """A column of a table: an instant query by the table's labels."""

    name: str
    expr: str
    unit: str
    thresholds: Steps = NEUTRAL
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """Where the cells of a label's column lead to."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Named:
    """Names for values: text and colour of single values, or of a range of values."""

    values: tuple[tuple[str, str, str], ...] = ()  # value, text, colour
    ranges: tuple[tuple[float | None, float | None, str, str], ...] = field(default=())

    def mappings(self) -> list[dashboard.ValueMapping]:
        """Return them in Grafana's form."""
        found: list[dashboard.ValueMapping] = []
        if self.values:
            found.append(
                dashboard.ValueMap(
                    options={
                        value: dashboard.ValueMappingResult(text=said, color=color, index=at)
                        for at, (value, said, color) in enumerate(self.values)
                    }
                )
            )
        for at, (low, high, said, color) in enumerate(self.ranges, len(self.values)):
            result = dashboard.ValueMappingResult(text=said, color=color, index=at)
            found.append(
                dashboard.RangeMap(
                    options=dashboard.DashboardRangeMapOptions(low, high, result),
                )
            )
        return found


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
) -> Panel:
    """Return a panel with one large number of the present, or a text if there is no value.

    An instant query, without a sparkline: the last value of a range may be an hour old.
    """
    # A named value fills the panel with its colour, so that it is seen from afar.
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.BACKGROUND
        if named is not None
        else common.BigValueColorMode.VALUE,
        justify_mode=common.BigValueJustifyMode.AUTO,
        text_mode=common.BigValueTextMode.AUTO,
        reduce_options=common.ReduceDataOptions(values=False, calcs=["last"], fields=""),
        orientation=common.VizOrientation.AUTO,
    )
    config = _field(unit, thresholds, decimals)
    config.no_value = unknown
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
    config.mappings = named.mappings() if named is not None else []
    target = _target(Query(expr), "A", instant=True)
    return Panel(_panel("stat", title, about, options, config, [target]), width, height)


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
) -> Panel:
    """Return a panel of lines over time, with the thresholds as dashed lines."""
    legend = common.VizLegendOptions(
        display_mode=common.LegendDisplayMode.LIST,
        placement=common.LegendPlacement.BOTTOM,
        show_legend=True,
        calcs=[],
    )
    options = timeseries.Options(
        legend=legend,
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
        ),
    )
    config = _field(unit, thresholds)
    config.min_val, config.max_val = least, most
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME)
    # Neutral thresholds have no limit to draw.
    shown = common.GraphThresholdsStyleMode.DASHED
    if thresholds == NEUTRAL:
        shown = common.GraphThresholdsStyleMode.OFF
    config.custom = timeseries.FieldConfig(
        draw_style=common.GraphDrawStyle.LINE,
        line_width=1,
        fill_opacity=40 if stacked else 0,
        show_points=common.VisibilityMode.NEVER,
        # A gap is unknown; a line across it would be a guess.
        span_nulls=False,
        stacking=common.StackingConfig(
            mode=common.StackingMode.NORMAL if stacked else common.StackingMode.NONE, group="A"
        ),
        thresholds_style=common.GraphThresholdsStyleConfig(mode=shown),
    )
    targets = [_target(query, ref_id(at)) for at, query in enumerate(queries)]
    model = _panel("timeseries", title, about, options, config, targets)
    model.interval = step
    return Panel(model, width, height)


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
            exponent=0.5,
            steps=64,
        ),
        cell_gap=1,
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
    config = _field(unit, NEUTRAL)
    config.custom = heatmap.FieldConfig(
        scale_distribution=common.ScaleDistributionConfig(type_val=common.ScaleDistribution.LINEAR)
    )
    target = _target(Query(expr, "{{le}}"), "A")
    target.format_val = prometheus.PromQueryFormat.HEATMAP
    target.exemplar = True
    return Panel(_panel("heatmap", title, about, options, config, [target]), width, 9)


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
) -> Panel:
    """Return a row of cells, one for each stretch of time of at least `step`."""
    options = statushistory.Options(
        show_value=common.VisibilityMode.NEVER,
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST,
            placement=common.LegendPlacement.BOTTOM,
            show_legend=False,
            calcs=[],
        ),
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.SINGLE, sort=common.SortOrder.NONE
        ),
    )
    config = _field(unit, thresholds)
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
    config.custom = statushistory.FieldConfig()
    model = _panel("status-history", title, about, options, config, [_target(query, "A")])
    # More cells than points on the screen would be drawn over each other.
    model.interval = step
    model.max_data_points = 300
    return Panel(model, width, height)


def listing(
    title: str,
    about: str,
    labels: Sequence[str],
    columns: Sequence[Column],
    *,
    among: str | None = None,
    links: dict[str, Link] | None = None,
    sort_by: str | None = None,
    ascending: bool = False,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return a table of the present: a row for each set of `labels`, a column for each query.

    `among`: an expression by the same labels; only rows that it has are shown.
    """
    letters = [ref_id(at) for at in range(len(columns))]
    # Grafana calls the value of an only query "Value", those of several "Value #A", "Value #B".
    values = ["Value" if len(columns) == 1 else f"Value #{letter}" for letter in letters]
    order = [*labels, *values]
    renamed = dict(zip(values, (column.name for column in columns), strict=True))
    overrides = [_column_override(column) for column in columns]
    for label, link in (links or {}).items():
        cell = {"title": link.title, "url": link.url}
        overrides.append(
            _override(label, [dashboard.DynamicConfigValue(id_val="links", value=[cell])])
        )
    options = table.Options(
        sort_by=[common.TableSortByFieldState(sort_by, not ascending)] if sort_by else [],
        cell_height=common.TableCellHeight.SM,
    )
    config = _field("short", NEUTRAL)
    config.custom = table.FieldConfig(filterable=True)
    targets = []
    for letter, column in zip(letters, columns, strict=True):
        # `and` keeps the values of the left side and only the label sets of the right side.
        expr = column.expr if among is None else f"({column.expr}) and {among}"
        target = _target(Query(expr, ""), letter, instant=True)
        target.format_val = prometheus.PromQueryFormat.TABLE
        targets.append(target)
    model = _panel("table", title, about, options, config, targets)
    assert model.field_config is not None
    model.field_config.overrides = overrides
    # One row for each set of labels: without "merge" each query would have rows of its own.
    model.transformations = [
        dashboard.DataTransformerConfig(id_val="merge", options={}),
        dashboard.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: at for at, name in enumerate(order)},
                "renameByName": renamed,
            },
        ),
    ]
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


def _target(query: Query, letter: str, *, instant: bool = False) -> prometheus.Dataquery:
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


def _field(unit: str, thresholds: Steps, decimals: int | None = None) -> dashboard.FieldConfig:
    return dashboard.FieldConfig(
        unit=unit,
        decimals=decimals,
        thresholds=dashboard.ThresholdsConfig(
            mode=dashboard.ThresholdsMode.ABSOLUTE, steps=steps(thresholds)
        ),
    )


def _panel(
    kind: str,
    title: str,
    about: str,
    options: object,
    config: dashboard.FieldConfig,
    targets: Sequence[prometheus.Dataquery],
) -> dashboard.Panel:
    return dashboard.Panel(
        type_val=kind,
        title=title,
        description=about,
        datasource=SOURCE,
        targets=list(targets),
        options=options,
        field_config=dashboard.FieldConfigSource(defaults=config, overrides=[]),
    )


def _override(
    name: str, properties: list[dashboard.DynamicConfigValue]
) -> dashboard.DashboardFieldConfigSourceOverrides:
    return dashboard.DashboardFieldConfigSourceOverrides(
        matcher=dashboard.MatcherConfig(id_val="byName", options=name), properties=properties
    )


def _column_override(column: Column) -> dashboard.DashboardFieldConfigSourceOverrides:
    properties = [dashboard.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.decimals is not None:
        properties.append(dashboard.DynamicConfigValue(id_val="decimals", value=column.decimals))
    if column.thresholds != NEUTRAL:
        config = dashboard.ThresholdsConfig(
            mode=dashboard.ThresholdsMode.ABSOLUTE, steps=steps(column.thresholds)
        )
        properties += [
            dashboard.DynamicConfigValue(id_val="thresholds", value=config),
            dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        ]
    return _override(column.name, properties)
