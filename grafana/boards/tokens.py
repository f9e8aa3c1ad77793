"""Tokens and Capacity: volume by place and customer, and the distance to the limits."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from alerts.promql import sum_of
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import requests as request_metrics
from grafana import lines, series
from grafana.boards.live import VARIABLES
from grafana.boards.live_places import WORST_LINES
from grafana.frame import (
    CELL,
    BoardSection,
    board,
    line_label,
    link_to,
    published_windows,
    window_variable,
)
from grafana.panels import Panel, Query, graph, number
from grafana.queries import AnyOf, Chosen, most_in_range, only_worst, rate, window
from grafana.tables import Column, listing
from grafana.thresholds import BoardLimits
from grafana.trust import trust

SPAN = Chosen("window")
# Customers are published over fewer windows than models, so this one is fixed.
_CUSTOMER_SPAN = "24h"


def tokens(limits: BoardLimits) -> dashboard.Dashboard:
    """Return the board."""
    return board(
        "tokens",
        "For whoever plans capacity: tokens and requests by model, region, channel and customer, "
        "requests in flight, and what had to be turned away.",
        (
            BoardSection("The fleet", tuple(_fleet(limits))),
            trust(SPAN),
            BoardSection("Load of the chosen", tuple(_load())),
            BoardSection("Capacity of the chosen", tuple(_capacity())),
            BoardSection("Who uses it", tuple(_users())),
        ),
        (window_variable(published_windows(), "1h"), *VARIABLES),
        since="now-6h",
        refresh="30s",
    )


def _fleet(limits: BoardLimits) -> Iterator[Panel]:
    yield number(
        "Tokens",
        "Processed in the window, input and output.",
        series.tokens("fleet", SPAN),
        "short",
        width=4,
    )
    yield number(
        "Tokens/s",
        "Mean over the window.",
        series.tokens_per_s("fleet", SPAN),
        "short",
        width=4,
        decimals=1,
    )
    yield number(
        "Requests/s",
        "Mean over the window, probes not included.",
        f"{series.requests('fleet', SPAN)} / {series.length_s(SPAN)}",
        "reqps",
        width=4,
        decimals=2,
    )
    yield number(
        "Tokens per request",
        "Mean over the window.",
        f"{series.tokens('fleet', SPAN)} / {series.requests('fleet', SPAN)}",
        "short",
        width=4,
    )
    yield number(
        "Turned away",
        "Requests that ended as overloaded or rate limited, of all in the window.",
        f"{_shed()} / {series.requests('fleet', SPAN)}",
        "percentunit",
        width=4,
        decimals=2,
    )
    now, before = limits.volume_windows
    yield number(
        "Volume vs the usual",
        f"Tokens/s of the last {now} over those of the last {before}: 1 is steady. Red where a "
        "rule tells that requests no longer arrive.",
        f"({series.tokens_per_s('fleet', now)}) / ({series.tokens_per_s('fleet', before)})",
        "none",
        limits.volume,
        width=4,
        decimals=2,
    )


def _shed() -> str:
    shed = AnyOf(series.SHED)
    return sum_of(
        window(request_metrics.WINDOW_REQUESTS, "fleet", SPAN, ("outcome",), outcome=shed)
    )


def _load() -> Iterator[Panel]:
    for name in series.DIMENSIONS:
        tokens_per_s = series.tokens_of_minute_per_s(name, (name,), **{name: series.CHOSEN[name]})
        yield graph(
            f"Tokens/s by {name}",
            f"Input and output; the {WORST_LINES} with the most of the time shown.",
            (Query(only_worst(tokens_per_s, name, WORST_LINES), f"{{{{{name}}}}}"),),
            "short",
            stacked=True,
            many=True,
            link=link_to("live", **{name: line_label(name)}),
        )
    yield graph(
        "Tokens/s by type",
        "The types exclude one another; reasoning is a part of the output. Chosen models.",
        (
            Query(
                series.tokens_of_minute_per_s("model", ("type",), model=series.CHOSEN["model"]),
                "{{type}}",
            ),
            Query(
                series.per_s_of_minute(
                    request_metrics.WINDOW_REASONING_TOKENS, model=series.CHOSEN["model"]
                ),
                "reasoning",
            ),
        ),
        "short",
        lines=lines.TOKEN_TYPES,
    )
    requests_per_s = series.requests_per_s("model", ("model",), model=series.CHOSEN["model"])
    yield graph(
        "Requests by model",
        f"Finished requests a second; the {WORST_LINES} with the most of the time shown.",
        (Query(only_worst(requests_per_s, "model", WORST_LINES), "{{model}}"),),
        "reqps",
        stacked=True,
        many=True,
        link=link_to("live", model=line_label("model")),
    )
    yield graph(
        "Requests by service tier",
        "Finished requests a second.",
        (Query(series.requests_per_s("service_tier", ("service_tier",)), "{{service_tier}}"),),
        "reqps",
        stacked=True,
    )


def _capacity() -> Iterator[Panel]:
    chosen = {"gen_ai_request_model": series.CHOSEN["model"], "region": series.CHOSEN["region"]}
    for label, name in (("region", "region"), ("gen_ai_request_model", "model")):
        in_flight = rate(latency_metrics.DURATION_HISTOGRAM, (label,), "_sum", **chosen)
        yield graph(
            f"Requests in flight by {name}",
            "Seconds of work finished a second: by Little's law the mean number of successful "
            f"requests that were served at once. The {WORST_LINES} with the most of the time "
            "shown.",
            (Query(most_in_range(in_flight, label, WORST_LINES), f"{{{{{label}}}}}"),),
            "short",
            stacked=True,
            many=True,
            link=link_to("live", **{name: line_label(label)}),
        )
    yield graph(
        "Turned away by region",
        "Requests a second that ended as overloaded or rate limited.",
        (
            Query(
                series.requests_per_s(
                    "region",
                    ("region", "outcome"),
                    outcome=AnyOf(series.SHED),
                    region=series.CHOSEN["region"],
                ),
                "{{region}} {{outcome}}",
            ),
        ),
        "reqps",
    )


def _users() -> Iterator[Panel]:
    yield listing(
        "Models",
        "The window chosen above, the most tokens first.",
        ("model",),
        (
            Column("Tokens", series.tokens("model", SPAN, model=Chosen("model")), "short"),
            Column("Tokens/s", series.tokens_per_s("model", SPAN, model=Chosen("model")), "short"),
            Column("Requests", series.requests("model", SPAN, model=Chosen("model")), "short"),
            Column(
                "Reasoning tokens",
                window(
                    request_metrics.WINDOW_REASONING_TOKENS, "model", SPAN, model=Chosen("model")
                ),
                "short",
            ),
        ),
        links={"model": link_to("live", model=CELL)},
        sort_by="Tokens",
        height=10,
    )
    yield listing(
        "Customers",
        f"The last {_CUSTOMER_SPAN} of those with the most requests; the most tokens first.",
        ("customer", "segment"),
        (
            Column("Tokens", series.tokens("customer", _CUSTOMER_SPAN), "short"),
            Column("Requests", series.requests("customer", _CUSTOMER_SPAN), "short"),
        ),
        links={"customer": link_to("cache", customer=CELL)},
        sort_by="Tokens",
        height=10,
    )
