"""The panels that say whether a board's numbers can be trusted.

Pure.
"""

from grafana_foundation_sdk.models import dashboard

from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue import requests as request_metrics
from grafana import queries
from grafana.frame import TITLES, BoardSection, uid_of
from grafana.named_values import Named
from grafana.panels import Panel, number, show_outside_menus
from grafana.thresholds import BAD, GOOD, WARNING, bad_above, bad_below
from slo.health_limits import BEHIND_AFTER_S, MANY_WAITING, STALE_AFTER_S
from slo.policy.conditions import KNOWN_MIN_RATIO
from streams.store.heartbeat import BROKER_SILENT_AFTER_S

# Parts of the data's verdict; they add up, and all that are late stay below the unreadable.
_LATE, _UNREADABLE = 2, 16

_READABLE = queries.newest(pipeline_metrics.STATE_READABLE)
_FRESHNESS_S = queries.newest(pipeline_metrics.PARTITION_FRESHNESS)
_PULSE = queries.newest(pipeline_metrics.PARTITION_PULSE, ("partition",))
_WORKER_AGE_S = queries.age_s(f"min({_PULSE})")

# Measure, title, and the traffic of which the share is.
_KNOWN = (
    ("tokens", "Tokens known", "the answered requests that report input tokens"),
    ("cached_input", "Cached tokens known", "the input tokens whose cached part is known"),
    ("ttft", "TTFT known", "the streamed requests that report a TTFT"),
)


def trust(window: queries.Match) -> BoardSection:
    """Return the panels that show whether the board's numbers can be trusted, and about how much
    of the traffic they speak."""
    return BoardSection(
        "Can these numbers be trusted?",
        (data_verdict(window, width=6, height=3), *known_shares(window, width=6)),
    )


def known_shares(window: queries.Match, *, width: int) -> tuple[Panel, ...]:
    """Return a panel for each measure that not every request reports."""
    return tuple(_known_share(*measure, window, width) for measure in _KNOWN)


def _complete(window: queries.Match) -> str:
    return f"min({queries.newest(request_metrics.WINDOW_COMPLETE, ('window',), window=window)})"


def data_verdict(window: queries.Match, *, width: int, height: int) -> Panel:
    """Return the panel with one word for the state of the data."""
    broker = queries.newest(pipeline_metrics.PARTITION_BROKER, ("partition",))
    halted = queries.newest(pipeline_metrics.PARTITION_HALTED)
    # A metric is absent until there is a partition, so that its part is then none.
    parts = (
        f"{_UNREADABLE} * ({_READABLE} == bool 0)",
        f"({_LATE} * ({_WORKER_AGE_S} > bool {STALE_AFTER_S}) or vector(0))",
        f"({_LATE} * ({_FRESHNESS_S} > bool {BEHIND_AFTER_S}) or vector(0))",
        f"({_LATE} * (max({_PULSE} - {broker}) > bool {BROKER_SILENT_AFTER_S}) or vector(0))",
        f"({_LATE} * ({halted} > bool 0) or vector(0))",
        f"(({_complete(window)} < bool 1) or vector(0))",
    )
    panel = number(
        "Data",
        "GOOD: all is counted in time. PARTIAL: records of the window are missing. LATE: a worker "
        "is silent, behind or halted, or Kafka does not answer. UNREADABLE: no exporter can read "
        "the state. Leads to Pipeline Health, which shows each of these apart.",
        " + ".join(parts),
        "none",
        width=width,
        height=height,
        named=Named(
            values=(("0", "GOOD", GOOD), ("1", "PARTIAL", WARNING)),
            ranges=(
                (_LATE, _UNREADABLE - 1, "LATE", BAD),
                (_UNREADABLE, None, "UNREADABLE", BAD),
            ),
        ),
        unknown="NO EXPORTER",
        unknown_colour=BAD,
    )
    link = dashboard.DashboardLink(
        title=f"Open {TITLES['pipeline']}",
        # The other board opens with the time range that is shown here.
        url=f"/d/{uid_of('pipeline')}?${{__url_time_range}}",
    )
    show_outside_menus(link)
    panel.model.links = [link]
    return panel


def trust_details(window: queries.Match) -> BoardSection:
    """Return the panels from which `data_verdict` follows, and the known shares."""
    lag = queries.newest(pipeline_metrics.PARTITION_LAG, ("partition",))
    coverage = queries.newest(request_metrics.WINDOW_COVERAGE, ("window",), window=window)
    stale = bad_above(STALE_AFTER_S)
    return BoardSection(
        "Can these numbers be trusted? One by one",
        (
            number(
                "State",
                "Whether an exporter could read the state from Redis at its last refresh. If not, "
                "every number here is missing.",
                _READABLE,
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
                _FRESHNESS_S,
                "s",
                bad_above(BEHIND_AFTER_S),
                width=4,
                height=3,
                decimals=1,
            ),
            number(
                "Lag",
                "Records in Kafka that no number includes yet, of the partition with the most.",
                f"max({lag})",
                "short",
                bad_above(MANY_WAITING),
                height=3,
            ),
            number(
                "Worker age",
                "Time since the last heartbeat, for the partition whose heartbeat is oldest.",
                _WORKER_AGE_S,
                "s",
                stale,
                height=3,
                decimals=1,
            ),
            number(
                "Completeness",
                "Whether no record of the window is known to be missing.",
                _complete(window),
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
            *known_shares(window, width=8),
        ),
    )


def _known_share(measure: str, title: str, total: str, window: queries.Match, width: int) -> Panel:
    """Return the panel with the share of the whole fleet's traffic for which a measure is known."""
    return number(
        title,
        f"Share of {total} in the window, of the whole fleet. Numbers about it describe this share "
        "only; with less than half, do not rely on them.",
        queries.window(request_metrics.KNOWN_RATIO, "fleet", window, measure=measure),
        "percentunit",
        ((None, WARNING), (float(KNOWN_MIN_RATIO), GOOD)),
        width=width,
        height=3,
        decimals=1,
    )
