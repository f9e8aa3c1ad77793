"""Daily Reliability Board: the numbers of the day, their targets and norms, for the CRO."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from exporters.catalogue import cost as cost_metrics
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue import requests as request_metrics
from grafana import series
from grafana.frame import CELL, BoardSection, board, link_to
from grafana.panels import Panel, Query, graph, note, number
from grafana.queries import AnyOf, Match, newest, window
from grafana.series import latencies, p95_numbers
from grafana.tables import Column, listing
from grafana.thresholds import BoardLimits, bad_above, bad_below
from grafana.trust import trust

DAY, NORM = "24h", "30d"
SHOWN = ("day", "24h", "3d", "30d", "month")
_SHOWN = 20  # objectives with the least budget
_ABOUT_NOW = "Over the last 24 hours."


def daily(limits: BoardLimits) -> dashboard.Dashboard:
    """Return the board."""
    return board(
        "daily",
        "For the Chief Revenue Officer: what the last day was like, against target and against the "
        "last 30 days, what moved it, and what it costs. Closed days, sealed and to print, are the "
        "daily board of the exporter at `/daily`.",
        (
            BoardSection("The last 24 hours", tuple(_numbers(limits))),
            trust(DAY),
            BoardSection("Against the norm", tuple(_norm(limits))),
            BoardSection("The last 30 days", tuple(_trend(limits))),
            BoardSection("What moved: 24 hours against 30 days", tuple(_movers(limits))),
            BoardSection("Objectives and money", tuple(_objectives())),
        ),
        since="now-30d",
        # Alerts of a month would cover the graphs with lines.
        has_annotations=False,
        refresh="5m",
    )


def _numbers(limits: BoardLimits) -> Iterator[Panel]:
    yield number(
        "Tokens processed",
        f"{_ABOUT_NOW} Input and output.",
        series.tokens("fleet", DAY),
        "short",
        width=4,
    )
    yield from p95_numbers(limits, DAY, f"{_ABOUT_NOW} ")
    yield number(
        "Uptime",
        f"Successes of the requests that count. {_ABOUT_NOW} {series.availability_target(limits)}",
        window(request_metrics.AVAILABILITY_RATIO, "fleet", DAY),
        "percentunit",
        limits.availability,
        width=4,
        decimals=3,
    )
    yield number(
        "Cache hit ratio",
        f"{_ABOUT_NOW} {series.cache_target(limits)}",
        window(request_metrics.CACHE_HIT_RATIO, "fleet", DAY),
        "percentunit",
        limits.cache_hit,
        width=4,
        decimals=1,
    )
    yield number(
        "Budget left",
        "Of the objective that has the least left; below 0 it is missed.",
        f"min({series.of_objectives(objective_metrics.BUDGET_LEFT)})",
        "percentunit",
        bad_below(0),
    )
    yield number(
        "Credits due",
        "US dollars if the month ended now, of the contracts whose fee is known.",
        f"sum({series.of_objectives(objective_metrics.CREDIT_DUE)})",
        "currencyUSD",
        bad_above(1),
        unknown="none known",
    )


def _norm(limits: BoardLimits) -> Iterator[Panel]:
    spans = AnyOf(SHOWN)

    tokens = window(request_metrics.WINDOW_TOKENS, "fleet", spans, ("window", "type"))
    uptime = window(request_metrics.AVAILABILITY_RATIO, "fleet", spans, ("window",))
    hits = window(request_metrics.CACHE_HIT_RATIO, "fleet", spans, ("window",))
    yield listing(
        "The same numbers by window",
        "`day` and `month` are the running calendar ones, all others end now. A window with little "
        "coverage says little yet.",
        ("window",),
        (
            Column("P95 TTFT", _p95("ttft", spans), "s", limits.ttft),
            Column("P95 TPOT", _p95("tpot", spans), "s", limits.tpot),
            Column("Uptime", uptime, "percentunit", limits.availability, 3),
            Column("Cache hit", hits, "percentunit", limits.cache_hit, 1),
            # Tokens come by type; a window's number is their sum.
            Column("Tokens", f"sum by (window) ({tokens})", "short"),
            Column(
                "Coverage",
                newest(request_metrics.WINDOW_COVERAGE, ("window",), window=spans),
                "percentunit",
            ),
        ),
        width=16,
        height=8,
    )
    yield note(
        "How to read this board",
        "What the board is for.",
        "- A colour is a verdict against the target of the policy; without one there is no colour."
        "\n- The row above says whether the numbers can be trusted."
        "\n- Percentiles are of all requests of a window, never means of percentiles."
        "\n- The sealed record of a closed day is the exporter's `/daily`, as HTML, PDF and CSV.",
        width=8,
        height=8,
    )


def _p95(what: str, spans: Match) -> str:
    spec = latency_metrics.WINDOW_QUANTILES[what]
    return window(spec, "fleet", spans, ("window",), quantile="0.95")


def _trend(limits: BoardLimits) -> Iterator[Panel]:
    about = "Each point is the 24 hours before it."
    for one in latencies(limits):
        yield graph(
            f"P95 {one.name}, day by day",
            f"{about} {series.under(one.target_s)}",
            (Query(series.p95(one.seconds, "fleet", DAY), "24 hours"),),
            "s",
            one.thresholds,
            # Windows of 24 hours change slowly, so a point an hour is enough.
            step="1h",
        )
    yield graph(
        "Cache hit ratio, day by day",
        f"{about} {series.cache_target(limits)}",
        (Query(window(request_metrics.CACHE_HIT_RATIO, "fleet", DAY), "24 hours"),),
        "percentunit",
        limits.cache_hit,
        step="1h",
    )
    yield graph(
        "Uptime, day by day",
        f"{about} {series.availability_target(limits)}",
        (Query(window(request_metrics.AVAILABILITY_RATIO, "fleet", DAY), "24 hours"),),
        "percentunit",
        limits.availability,
        width=12,
        least=None,
        most=1,
        step="1h",
    )
    yield graph(
        "Tokens, day by day",
        f"{about} Input and output.",
        (Query(series.tokens("fleet", DAY), "24 hours"),),
        "short",
        width=8,
        step="1h",
    )
    yield number(
        "History in Prometheus",
        "Prometheus deletes samples older than its limits of time and size, so graphs begin here. "
        "The windows need none of them.",
        'time() - min(prometheus_tsdb_lowest_timestamp_seconds{job!=""})',
        "s",
        width=4,
        height=8,
    )


def _movers(limits: BoardLimits) -> Iterator[Panel]:
    for name in ("model", "region"):
        ttft = series.p95(latency_metrics.TTFT_SECONDS, name, DAY)
        norm = series.p95(latency_metrics.TTFT_SECONDS, name, NORM)
        yield listing(
            f"Every {name} against its own norm",
            "The last 24 hours, and how far they are from the last 30 days: above 0 is slower, or "
            "more. The greatest rise of the P95 TTFT first.",
            (name,),
            (
                Column("P95 TTFT", ttft, "s", limits.ttft),
                Column("TTFT change", f"{ttft} / {norm} - 1", "percentunit", decimals=1),
                Column(
                    "Uptime",
                    window(request_metrics.AVAILABILITY_RATIO, name, DAY),
                    "percentunit",
                    limits.availability,
                    3,
                ),
                Column(
                    "Cache hit",
                    window(request_metrics.CACHE_HIT_RATIO, name, DAY),
                    "percentunit",
                    limits.cache_hit,
                    1,
                ),
                Column(
                    "Cache change",
                    f"{window(request_metrics.CACHE_HIT_RATIO, name, DAY)}"
                    f" - {window(request_metrics.CACHE_HIT_RATIO, name, NORM)}",
                    "percentunit",
                    decimals=1,
                ),
                Column("Tokens", series.tokens(name, DAY), "short"),
            ),
            links={name: link_to("live", **{name: CELL})},
            sort_by="TTFT change",
        )
    by = ("segment",)
    yield listing(
        "Segments",
        "The last 24 hours of the largest customers, by the segment that the customer directory "
        "gives them.",
        by,
        (
            Column("Uptime", _by_segment(), "percentunit", limits.availability, 3),
            Column("Requests", _segment_sum("outcome"), "short"),
            Column("Tokens", _segment_sum("type"), "short"),
        ),
        sort_by="Tokens",
        width=24,
        height=6,
    )


def _segment_sum(of: str) -> str:
    spec = request_metrics.WINDOW_TOKENS if of == "type" else request_metrics.WINDOW_REQUESTS
    return f"sum by (segment) ({window(spec, 'customer', DAY, ('customer', 'segment', of))})"


def _by_segment() -> str:
    eligible = window(request_metrics.WINDOW_ELIGIBLE_REQUESTS, "customer", DAY)
    # Ratios of customers cannot be added up; their successes can.
    good = f"{window(request_metrics.AVAILABILITY_RATIO, 'customer', DAY)} * {eligible}"
    return f"sum by (segment) ({good}) / sum by (segment) ({eligible})"


def _objectives() -> Iterator[Panel]:
    labels = ("policy", "objective", *objective_metrics.SCOPE)
    budget = series.of_objectives(objective_metrics.BUDGET_LEFT)
    yield listing(
        "Objectives",
        f"The running period: the {_SHOWN} with the least error budget. Credits as if the month "
        "ended now.",
        labels,
        (
            Column(
                "Attained",
                series.of_objectives(objective_metrics.ATTAINMENT),
                "percentunit",
                decimals=3,
            ),
            Column(
                "Target",
                series.of_objectives(objective_metrics.TARGET),
                "percentunit",
                decimals=3,
            ),
            Column("Budget left", budget, "percentunit", bad_below(0)),
            Column("Credit due", series.of_objectives(objective_metrics.CREDIT_DUE), "currencyUSD"),
            Column(
                "Credit projected",
                series.of_objectives(objective_metrics.CREDIT_PROJECTED),
                "currencyUSD",
            ),
        ),
        links={
            "customer": link_to("sla", customer=CELL),
            "objective": link_to("sla", objective=CELL),
        },
        among=f"bottomk({_SHOWN}, {budget})",
        sort_by="Budget left",
        ascending=True,
        width=16,
    )
    for title, about, spec in (
        (
            "Saved by the cache",
            "US dollars of input price that the prompt cache saved, its writes paid for. "
            "Only models with a price.",
            cost_metrics.CACHE_SAVED,
        ),
        (
            "Lost to cache misses",
            "US dollars more that would have been saved at the target cache hit ratio.",
            cost_metrics.CACHE_LOST,
        ),
    ):
        yield number(
            title,
            f"{_ABOUT_NOW} {about}",
            window(spec, "fleet", DAY),
            "currencyUSD",
            width=4,
            height=8,
            unknown="no prices",
        )
