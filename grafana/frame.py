"""The common parts of all boards: variables, links, annotations, data trust, and the grid.

Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import common, dashboard

from alerts.promql import sum_of
from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue.spec import Spec
from grafana import panels, queries
from grafana.panels import SOURCE, Named, Panel, number
from grafana.thresholds import BAD, GOOD, WARNING, bad_above, bad_below
from slo.health_limits import BEHIND_AFTER_S, MANY_WAITING, STALE_AFTER_S
from slo.policy.conditions import KNOWN_MIN_RATIO
from streams.config.exporter import Exporter

TAG = "tokenpulse"
DATA_SOURCE_UID = "tokenpulse-prometheus"  # as provisioning/datasources has it
ALL = "$__all"
_ALERTS = 'ALERTS{alertstate="firing", alertname=~"Tokenpulse.+", severity=~"page|ticket"}'

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
            all_value=".*" if self.optional else ".+",
        )


def alerts(*by: str) -> str:
    """Return PromQL for the pages and tickets that fire, one for each set of these labels."""
    return f"max by ({', '.join(by)}) ({_ALERTS})"


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


# Measure, title, and the traffic of which the share is.
_KNOWN = (
    ("tokens", "Tokens known", "the answered requests that report input tokens"),
    ("cached_input", "Cached tokens known", "the input tokens whose cached part is known"),
    ("ttft", "TTFT known", "the streamed requests that report a TTFT"),
)


def trust(window: queries.Match) -> BoardSection:
    """Return the panels that show whether the board's numbers can be trusted."""
    lag = queries.newest(pipeline_metrics.PARTITION_LAG, ("partition",))
    pulse = queries.newest(pipeline_metrics.PARTITION_PULSE, ("partition",))
    complete = queries.newest(request_metrics.WINDOW_COMPLETE, ("window",), window=window)
    coverage = queries.newest(request_metrics.WINDOW_COVERAGE, ("window",), window=window)
    stale = bad_above(STALE_AFTER_S)
    return BoardSection(
        "Can these numbers be trusted?",
        (
            number(
                "State",
                "Whether an exporter could read the state from Redis at its last refresh. If not, "
                "every number here is missing.",
                queries.newest(pipeline_metrics.STATE_READABLE),
                "none",
                bad_below(1),
                width=4,
                height=3,
                named=Named((("1", "readable", GOOD), ("0", "NOT READABLE", BAD))),
                unknown="no exporter",
            ),
            number(
                "Exporter age",
                "Time since an exporter last read the state with success: the age of everything "
                "here. A second is usual.",
                queries.age_s(queries.newest(pipeline_metrics.EXPORTER_REFRESHED)),
                "s",
                stale,
                width=4,
                height=3,
                decimals=1,
            ),
            number(
                "Freshness",
                "Age of the newest event when it was first exported, of the slowest partition. "
                "Does not grow in silence.",
                queries.newest(pipeline_metrics.PARTITION_FRESHNESS),
                "s",
                bad_above(BEHIND_AFTER_S),
                width=4,
                height=3,
                decimals=1,
            ),
            number(
                "Lag",
                "Records in Kafka that no number includes yet.",
                sum_of(lag),
                "short",
                bad_above(MANY_WAITING),
                height=3,
            ),
            number(
                "Worker age",
                "Time since the last heartbeat, for the partition whose heartbeat is oldest.",
                queries.age_s(f"min({pulse})"),
                "s",
                stale,
                height=3,
                decimals=1,
            ),
            number(
                "Window complete",
                "Whether no record of the window is known to be missing.",
                f"min({complete})",
                "none",
                bad_below(1),
                height=3,
                named=Named((("1", "complete", GOOD), ("0", "INCOMPLETE", WARNING))),
            ),
            number(
                "Coverage",
                "Share of the window that lies after the first event ever counted. Below 100% the "
                "window is not whole yet.",
                f"min({coverage})",
                "percentunit",
                ((None, WARNING), (1, GOOD)),
                height=3,
            ),
            *(_known_share(*measure, window) for measure in _KNOWN),
        ),
    )


def _known_share(measure: str, title: str, total: str, window: queries.Match) -> Panel:
    """Return the panel with the share of the whole fleet's traffic for which a measure is known."""
    return number(
        title,
        f"Share of {total} in the window, of the whole fleet. Numbers about it describe this share "
        "only; with less than half, do not rely on them.",
        queries.window(request_metrics.KNOWN_RATIO, "fleet", window, measure=measure),
        "percentunit",
        ((None, WARNING), (float(KNOWN_MIN_RATIO), GOOD)),
        width=8,
        height=3,
        decimals=1,
    )


def board(
    name: str,
    about: str,
    sections: Sequence[BoardSection],
    variables: Sequence[Variable | dashboard.VariableModel] = (),
    *,
    since: str,
    refresh: str,
) -> dashboard.Dashboard:
    """Return a board of `TITLES`; `since`: begin of the time shown, `refresh`: its interval."""
    chosen = [one.model() if isinstance(one, Variable) else one for one in variables]
    return dashboard.Dashboard(
        uid=uid_of(name),
        title=TITLES[name],
        description=about,
        tags=[TAG],
        timezone=_time_zone(Exporter().time_zone),
        editable=False,
        graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
        time=dashboard.DashboardDashboardTime(from_val=since, to="now"),
        timepicker=dashboard.TimePickerConfig(refresh_intervals=["5s", "10s", "30s", "1m", "5m"]),
        refresh=refresh,
        panels=_laid_out(sections),
        templating=dashboard.DashboardDashboardTemplating(
            list_val=[_data_source(), _job(), *chosen]
        ),
        annotations=dashboard.AnnotationContainer(list_val=[_annotation()]),
        links=[_link(other) for other in TITLES if other != name],
    )


def _time_zone(name: str) -> str:
    return "utc" if name == "UTC" else name


def _laid_out(sections: Sequence[BoardSection]) -> list[dashboard.Panel | dashboard.RowPanel]:
    found: list[dashboard.Panel | dashboard.RowPanel] = []
    y = 0
    for section in sections:
        place = dashboard.GridPos(h=1, w=panels.WIDTH, x=0, y=y)
        found.append(dashboard.RowPanel(title=section.title, grid_pos=place, id_val=len(found) + 1))
        x, y, tallest = 0, y + 1, 0
        for panel in section.panels:
            if x + panel.width > panels.WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panel.model.grid_pos = dashboard.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            panel.model.id_val = len(found) + 1
            found.append(panel.model)
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return found


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
        refresh=dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=dashboard.VariableSort.ALPHABETICAL_ASC,
        multi=several,
        include_all=True,
        all_value=all_value,
        current=dashboard.VariableOption(
            text=["All"] if several else "All",
            value=everything,
        ),
    )


def _annotation() -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery(
        name="Alerts",
        datasource=common.DataSourceRef(type_val="prometheus", uid="$datasource"),
        enable=True,
        icon_color=BAD,
        expr=alerts(*_ANNOTATED),  # not by customer: there may be hundreds
        step="10s",
        title_format="{{alertname}}",
        text_format=" ".join(f"{{{{{label}}}}}" for label in _ANNOTATED[1:]),
        tag_keys="severity",
    )


def _link(board: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(
        title=TITLES[board],
        type_val=dashboard.DashboardLinkType.LINK,
        icon="dashboard",
        tooltip=f"Open {TITLES[board]} over the same time",
        url=f"/d/{uid_of(board)}",
        keep_time=True,
        include_vars=True,
    )
