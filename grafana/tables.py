"""Tables: rows of a label set with a column a query, and cells of two labels.

Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import common, dashboard, prometheus, table

from grafana.named_values import Named
from grafana.panels import (
    Link,
    Panel,
    Query,
    field_config,
    field_override,
    panel_model,
    query_target,
    ref_id,
)
from grafana.thresholds import NEUTRAL, Steps, steps


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: an instant query by the table's labels."""

    name: str
    expr: str
    unit: str
    thresholds: Steps = NEUTRAL
    decimals: int | None = None


_NARROW_PX = 75  # of a column; Grafana's own 150 pixels push the last columns out of sight
_NAMES_PX = 160  # of the names of a matrix's rows

# Colours of the cells of a label's column, by their text.
Labels = Mapping[str, Mapping[str, str]]


def listing(
    title: str,
    about: str,
    labels: Sequence[str],
    columns: Sequence[Column],
    *,
    among: str | None = None,
    links: dict[str, Link] | None = None,
    coloured: Labels | None = None,
    unknown: str | None = None,
    values_at: int | None = None,
    widths: Mapping[str, int] | None = None,
    sort_by: str | None = None,
    ascending: bool = False,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return a table of the present: a row for each set of `labels`, a column for each query.

    `among`: an expression by the same labels; only rows that it has are shown. `unknown`: the text
    of a table without rows. `values_at`: how many labels stand before the values; None: all.
    `widths`: of columns by name, in pixels; with them the other columns may be narrow.
    """
    letters = [ref_id(at) for at in range(len(columns))]
    # Grafana calls the value of an only query "Value", those of several "Value #A", "Value #B".
    values = ["Value" if len(columns) == 1 else f"Value #{letter}" for letter in letters]
    order = [*labels[:values_at], *values, *(() if values_at is None else labels[values_at:])]
    renamed = dict(zip(values, (column.name for column in columns), strict=True))
    overrides = [_column_override(column) for column in columns]
    if unknown is not None:
        # Grafana would write it into each cell of a label that a row does not have.
        overrides.append(_type_override("string", {"noValue": ""}))
    for label, link in (links or {}).items():
        properties = [dashboard.DynamicConfigValue(id_val="links", value=_cell_links(link))]
        overrides.append(field_override(label, properties))
    for name, pixels in (widths or {}).items():
        properties = [dashboard.DynamicConfigValue(id_val="custom.width", value=pixels)]
        overrides.append(field_override(name, properties))
    for label, colours in (coloured or {}).items():
        named = Named(tuple((text, text, colour) for text, colour in colours.items()))
        properties = [
            dashboard.DynamicConfigValue(id_val="mappings", value=named.mappings()),
            dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        ]
        overrides.append(field_override(label, properties))
    options = table.Options(
        sort_by=[common.TableSortByFieldState(sort_by, not ascending)] if sort_by else [],
        cell_height=common.TableCellHeight.SM,
    )
    config = field_config("short", NEUTRAL)
    config.no_value = unknown
    config.custom = table.FieldConfig(
        filterable=True, min_width=_NARROW_PX if widths is not None else None
    )
    targets = []
    for letter, column in zip(letters, columns, strict=True):
        # `and` keeps the values of the left side and only the label sets of the right side.
        expr = column.expr if among is None else f"({column.expr}) and {among}"
        target = query_target(Query(expr, ""), letter, instant=True)
        target.format_val = prometheus.PromQueryFormat.TABLE
        targets.append(target)
    model = panel_model("table", title, about, options, config, targets)
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


def matrix(
    title: str,
    about: str,
    expr: str,
    row: str,
    column: str,
    unit: str,
    thresholds: Steps,
    *,
    link: Link,
    row_link: Link,
    width: int = 12,
    height: int = 12,
) -> Panel:
    """Return a table of the present with a coloured cell for each pair of two labels.

    `link`: where a cell leads to; `ROW_CELL` and `COLUMN_CELL` stand for its labels. `row_link`:
    where the name of a row leads to.
    """
    config = field_config(unit, thresholds, 2)
    config.color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)
    config.custom = table.FieldConfig(align=common.FieldTextAlignment.CENTER, min_width=_NARROW_PX)
    filled = common.TableColoredBackgroundCellOptions(
        mode=common.TableCellBackgroundDisplayMode.BASIC
    )
    target = query_target(Query(expr, ""), "A", instant=True)
    target.format_val = prometheus.PromQueryFormat.TABLE
    options = table.Options(cell_height=common.TableCellHeight.SM)
    model = panel_model("table", title, about, options, config, [target])
    assert model.field_config is not None
    # By type: as defaults they would also hold for the names of the rows, which have no threshold.
    model.field_config.overrides = [
        _type_override("number", {"custom.cellOptions": filled, "links": _cell_links(link)}),
        _type_override("string", {"custom.width": _NAMES_PX, "links": _cell_links(row_link)}),
    ]
    model.transformations = [
        dashboard.DataTransformerConfig(
            id_val="groupingToMatrix",
            options={
                "rowField": row,
                "columnField": column,
                "valueField": "Value",
                # A 0 would look like a measured value.
                "emptyValue": "null",
            },
        )
    ]
    return Panel(model, width, height)


ROW_CELL, COLUMN_CELL = "${__data.fields[0]:percentencode}", "${__field.name:percentencode}"


def _cell_links(link: Link) -> list[dict[str, str]]:
    return [{"title": link.title, "url": link.url}]


def _type_override(
    kind: str, properties: Mapping[str, object]
) -> dashboard.DashboardFieldConfigSourceOverrides:
    """Return properties of all fields of a type: `string` for labels, `number` for values."""
    return dashboard.DashboardFieldConfigSourceOverrides(
        matcher=dashboard.MatcherConfig(id_val="byType", options=kind),
        properties=[
            dashboard.DynamicConfigValue(id_val=key, value=value)
            for key, value in properties.items()
        ],
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
    return field_override(column.name, properties)
