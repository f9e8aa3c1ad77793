"""The common parts of all boards: variables, links, annotations, data trust, and the grid.

Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import common, dashboard

from alerts.promql import aggregate
from alerts.rules.model import panel_id
from alerts.rules.monitoring import WATCHDOG
from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue.spec import Spec
from grafana import panels, queries
from grafana.panels import SOURCE, Panel
from grafana.thresholds import BAD
from streams.config.exporter import Exporter

TAG = "tokenpulse"
DATA_SOURCE_UID = "tokenpulse-prometheus"  # as provisioning/datasources has it
ALL = "$__all"
_NOTIFIED = 'alertname=~"Tokenpulse.+", severity=~"page|ticket"'
_ALERTS = f'ALERTS{{alertstate="firing", {_NOTIFIED}}}'

_ANNOTATED = ("alertname", "severity", "policy", "objective", "model", "region", "partition")

# uid without `tokenpulse-` -> title; alert rules link to these uids.
TITLES = {
    "live": "SRE Live",
    "daily": "Daily Reliability Board",
    "sla": "Customer SLA",
    "cache": "Cache",
    "tokens": "Tokens and Capacity",
    "pipeline": "Pipeline Health",
}


@dataclass(frozen=True, slots=True)
class BoardSection:
    """Panels under a heading; they flow from left to right and wrap."""

    title: str
    panels: tuple[Panel, ...]
    is_collapsed: bool = False  # its queries run once it is opened


@dataclass(frozen=True, slots=True)
class Variable:
    """One that is chosen from the values of a label."""

    label: str  # of the metric, and the variable's name
    title: str
    about: str
    of: Spec
    labels: Mapping[str, queries.Match]  # other variables it depends on among them
    several: bool = True  # more than one may be chosen
    # Where the label may be missing `All` must match that, too.
    optional: bool = False

    def model(self) -> dashboard.VariableModel:
        """Return it in Grafana's form."""
        found = queries.select(self.of, "", self.labels)
        if self.label not in self.of.labels:
            raise ValueError(f"{self.of.name}: has no label {self.label}")
        return _query_variable(
            self.label,
            self.title,
            self.about,
            f"label_values({found}, {self.label})",
            several=self.several,
            # `.+` needs the label; `.*` also matches series without it.
            all_value=".*" if self.optional else ".+",
        )


def alerts(*by: str) -> str:
    """Return PromQL for the pages and tickets that fire, one for each set of these labels."""
    return aggregate("max", _ALERTS, by)


def number_of_alerts() -> str:
    """Return PromQL for the number of pages and tickets that fire.

    Without a value if no rules are evaluated: one of them always fires.
    """
    return f'count({_ALERTS}) or 0 * count(ALERTS{{alertname="{WATCHDOG}"}})'


def alert_age_s(*by: str) -> str:
    """Return PromQL for the seconds since an alert's condition became true, by these labels."""
    since = aggregate("max", f"ALERTS_FOR_STATE{{{_NOTIFIED}}}", by)
    return f"time() - {since} and {alerts(*by)}"


def uid_of(board: str) -> str:
    """Return the uid of a board of `TITLES`."""
    if board not in TITLES:
        raise ValueError(f"{board}: no such board; there are {', '.join(TITLES)}")
    return f"tokenpulse-{board}"


def link_to(board: str, **variables: str) -> panels.Link:
    """Return a link from a cell of a table to a board, with some of its variables set."""
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return panels.Link(f"Open {TITLES[board]}", f"/d/{uid_of(board)}?${{__url_time_range}}{chosen}")


CELL = "${__value.text:percentencode}"


def line_label(label: str) -> str:
    """Return Grafana's template of a label of the line that was clicked."""
    return f"${{__field.labels.{label}:percentencode}}"


def window_variable(windows: Sequence[str], default: str) -> dashboard.VariableModel:
    """Return the variable that selects a board's window."""
    if default not in windows:
        raise ValueError(f"{default}: not among {', '.join(windows)}")
    option = dashboard.VariableOption
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.CUSTOM,
        name="window",
        label="Window",
        description="The window that numbers without a time axis are of, in event time.",
        query=",".join(windows),
        current=option(selected=True, text=default, value=default),
        options=[option(selected=one == default, text=one, value=one) for one in windows],
        allow_custom_value=False,
    )


def published_windows() -> tuple[str, ...]:
    """Return the windows of fleet, models and regions that exporters publish by default."""
    return (*Exporter().windows, "day", "month")


def board(
    name: str,
    about: str,
    sections: Sequence[BoardSection],
    variables: Sequence[Variable | dashboard.VariableModel] = (),
    *,
    since: str,
    refresh: str,
    has_annotations: bool = True,
) -> dashboard.Dashboard:
    """Return a board of `TITLES`; `since`: begin of the time shown, `refresh`: its interval.

    `has_annotations`: alerts are drawn into the graphs, unless switched off.
    """
    chosen = [one.model() if isinstance(one, Variable) else one for one in variables]
    return dashboard.Dashboard(
        uid=uid_of(name),
        title=TITLES[name],
        description=about,
        tags=[TAG],
        timezone=_time_zone(Exporter().time_zone),
        # Boards are generated: a change made in Grafana would be overwritten.
        editable=False,
        graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
        time=dashboard.DashboardDashboardTime(from_val=since, to="now"),
        timepicker=dashboard.TimePickerConfig(refresh_intervals=["5s", "10s", "30s", "1m", "5m"]),
        refresh=refresh,
        panels=_laid_out(sections),
        templating=dashboard.DashboardDashboardTemplating(
            list_val=[_data_source(), _job(), *chosen]
        ),
        annotations=dashboard.AnnotationContainer(list_val=[_annotation(has_annotations)]),
        links=[_link(other) for other in TITLES if other != name],
    )


def _time_zone(name: str) -> str:
    return "utc" if name == "UTC" else name


def _laid_out(sections: Sequence[BoardSection]) -> list[dashboard.Panel | dashboard.RowPanel]:
    rows: list[dashboard.Panel | dashboard.RowPanel] = []
    y = 0
    for section in sections:
        top = y
        heading = dashboard.RowPanel(
            title=section.title,
            grid_pos=dashboard.GridPos(h=1, w=panels.WIDTH, x=0, y=top),
            # A row may have the title of one of its panels.
            id_val=panel_id(f"row {section.title}"),
            collapsed=section.is_collapsed,
            panels=[],
        )
        rows.append(heading)
        x, y, tallest = 0, y + 1, 0
        for panel in section.panels:
            if x + panel.width > panels.WIDTH:
                # The next line of panels begins below the tallest of this one.
                x, y, tallest = 0, y + tallest, 0
            panel.model.grid_pos = dashboard.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            panel.model.id_val = panel_id(panel.model.title or "")
            x, tallest = x + panel.width, max(tallest, panel.height)
        models = [panel.model for panel in section.panels]
        if section.is_collapsed:
            heading.panels = models
            # Panels of a collapsed row take no room until it is opened.
            y = top + 1
        else:
            rows += models
            y += tallest
    return rows


def _data_source() -> dashboard.VariableModel:
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.DATASOURCE,
        name="datasource",
        label="Data source",
        description="The Prometheus that scrapes the exporters.",
        query="prometheus",
        current=dashboard.VariableOption(text="Prometheus", value=DATA_SOURCE_UID),
    )


def _job() -> dashboard.VariableModel:
    found = f"label_values({pipeline_metrics.BUILD_INFO.name}, job)"
    about = "Scrape jobs of the exporters: one for each Tokenpulse."
    return _query_variable("job", "Job", about, found, several=True, all_value=".+")


def _query_variable(
    name: str, title: str, about: str, query: str, *, several: bool, all_value: str
) -> dashboard.VariableModel:
    everything: list[str] | str = [ALL] if several else ALL
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.QUERY,
        name=name,
        label=title,
        description=about,
        datasource=SOURCE,
        query=query,
        definition=query,
        # Not at each change of the time shown: that is each refresh, and delays every panel.
        refresh=dashboard.VariableRefresh.ON_DASHBOARD_LOAD,
        sort=dashboard.VariableSort.ALPHABETICAL_ASC,
        multi=several,
        include_all=True,
        all_value=all_value,
        current=dashboard.VariableOption(
            text=["All"] if several else "All",
            value=everything,
        ),
    )


def _annotation(is_shown: bool) -> dashboard.AnnotationQuery:
    annotation = dashboard.AnnotationQuery(
        name="Alerts",
        datasource=common.DataSourceRef(type_val="prometheus", uid="$datasource"),
        enable=is_shown,
        icon_color=BAD,
        expr=alerts(*_ANNOTATED),  # not by customer: there may be hundreds
        step="10s",
        title_format="{{alertname}}",
        text_format=" ".join(f"{{{{{label}}}}}" for label in _ANNOTATED[1:]),
        tag_keys="severity",
    )
    panels.show_outside_menus(annotation)
    return annotation


def _link(board: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(
        title=TITLES[board],
        type_val=dashboard.DashboardLinkType.LINK,
        icon="dashboard",
        tooltip=f"Open {TITLES[board]} over the same time",
        url=f"/d/{uid_of(board)}",
        keep_time=True,
        include_vars=True,
    )
    panels.show_outside_menus(link)
    return link
