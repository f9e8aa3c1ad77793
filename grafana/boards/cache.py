"""Cache: share of the input from the prompt cache, its value, and the customers that miss it."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from exporters.catalogue import cost as cost_metrics
from exporters.catalogue import requests as request_metrics
from grafana import lines, series
from grafana.boards.live_places import WORST_LINES
from grafana.frame import CELL, BoardSection, Variable, board, line_label, link_to, window_variable
from grafana.panels import Panel, Query, graph, number
from grafana.queries import AnyOf, Chosen, Match, only_worst, window
from grafana.tables import Column, listing
from grafana.thresholds import WARNING, BoardLimits
from grafana.trust import trust
from streams.config.exporter import Exporter

SPAN = Chosen("window")
_SHOWN = 20  # worst customers
_MODEL = Chosen("model")
# The types exclude one another, so these two add up to the input.
_INPUT = AnyOf(("uncached_input", "cached_input"))

VARIABLES = (
    Variable(
        "model",
        "Model",
        "Models to show by name; the first row is of the whole fleet.",
        request_metrics.WINDOW_INPUT_TOKENS,
        {"scope": "model"},
    ),
    Variable(
        "segment",
        "Segment",
        "Segments of the customer directory; `All` includes customers without one.",
        request_metrics.WINDOW_INPUT_TOKENS,
        {"scope": "customer"},
        optional=True,
    ),
    Variable(
        "customer",
        "Customer",
        "Customers of the chosen segments, of those with the most requests.",
        request_metrics.WINDOW_INPUT_TOKENS,
        {"scope": "customer", "segment": Chosen("segment")},
    ),
)
_WHO: dict[str, Match] = {"segment": Chosen("segment"), "customer": Chosen("customer")}


def cache(limits: BoardLimits) -> dashboard.Dashboard:
    """Return the board."""
    return board(
        "cache",
        "For whoever looks after the margin: the prompt cache's hit ratio against its bands, what "
        "it saves and what it could, by model, and the customers to talk to first.",
        (
            BoardSection("The fleet", tuple(_fleet(limits))),
            trust(SPAN),
            BoardSection("Over time", tuple(_over_time(limits))),
            BoardSection("By model", tuple(_models(limits))),
            BoardSection("Worst customers", tuple(_customers(limits))),
        ),
        # Customers are published over fewer windows than models.
        (window_variable(Exporter().customer_windows, "24h"), *VARIABLES),
        since="now-24h",
        refresh="1m",
    )


def _fleet(limits: BoardLimits) -> Iterator[Panel]:
    yield number(
        "Cache hit ratio",
        f"Input tokens read from the prompt cache. {series.cache_target(limits)}",
        window(request_metrics.CACHE_HIT_RATIO, "fleet", SPAN),
        "percentunit",
        limits.cache_hit,
        width=4,
        decimals=1,
    )
    for title, about, spec in (
        (
            "Saved",
            "US dollars of input price that the cache saved in the window, its writes paid for. "
            "Below 0 writing costs more than reading saves.",
            cost_metrics.CACHE_SAVED,
        ),
        (
            "Lost",
            "US dollars more that would have been saved at the target hit ratio, model by model.",
            cost_metrics.CACHE_LOST,
        ),
    ):
        yield number(
            title,
            about,
            window(spec, "fleet", SPAN),
            "currencyUSD",
            width=4,
            unknown="no prices",
        )
    yield number(
        "Tokens without a price",
        "Input tokens in the window of models that the price book does not have: the dollars are "
        "of the rest.",
        window(cost_metrics.UNPRICED_TOKENS, "fleet", SPAN),
        "short",
        ((None, "green"), (1, WARNING)),
        width=4,
        unknown="no prices",
    )
    yield number(
        "Input tokens",
        "In the window, cached included: how much the ratio weighs.",
        window(request_metrics.WINDOW_INPUT_TOKENS, "fleet", SPAN),
        "short",
        width=4,
    )
    yield number(
        "Written to the cache",
        "Tokens written in the window. Writes without later hits are money lost.",
        window(request_metrics.WINDOW_CACHE_WRITE_TOKENS, "fleet", SPAN),
        "short",
        width=4,
    )


def _over_time(limits: BoardLimits) -> Iterator[Panel]:
    hits = request_metrics.CACHE_HIT_RATIO
    yield graph(
        "Cache hit ratio of the fleet",
        series.cache_target(limits),
        tuple(Query(window(hits, "fleet", span), span) for span in ("5m", "1h", "24h")),
        "percentunit",
        limits.cache_hit,
        most=1,
    )
    yield graph(
        "Input tokens/s",
        "Read fresh, or from the cache; chosen models.",
        (
            Query(
                series.tokens_of_minute_per_s("model", ("type",), type=_INPUT, model=_MODEL),
                "{{type}}",
            ),
            Query(
                series.per_s_of_minute(request_metrics.WINDOW_CACHE_WRITE_TOKENS, model=_MODEL),
                "written",
            ),
        ),
        "short",
        lines=lines.TOKEN_TYPES,
    )
    yield graph(
        "Dollars of the window",
        "Saved, and lost against the target, over the window chosen above, at each moment.",
        (
            Query(window(cost_metrics.CACHE_SAVED, "fleet", SPAN), "saved"),
            Query(window(cost_metrics.CACHE_LOST, "fleet", SPAN), "lost"),
        ),
        "currencyUSD",
        # Below 0 if the writes cost more than the reads save.
        least=None,
    )


def _models(limits: BoardLimits) -> Iterator[Panel]:
    hits = window(request_metrics.CACHE_HIT_RATIO, "model", SPAN, model=_MODEL)
    yield graph(
        "Cache hit ratio by model",
        f"The {WORST_LINES} lowest of the time shown. {series.cache_target(limits)}",
        (Query(only_worst(hits, "model", WORST_LINES, lowest=True), "{{model}}"),),
        "percentunit",
        limits.cache_hit,
        width=10,
        most=1,
        many=True,
        link=link_to("live", model=line_label("model")),
    )
    yield listing(
        "Models",
        "The window chosen above; the dearest misses first.",
        ("model",),
        (
            Column("Hit ratio", hits, "percentunit", limits.cache_hit, 1),
            Column(
                "Input tokens",
                window(request_metrics.WINDOW_INPUT_TOKENS, "model", SPAN, model=_MODEL),
                "short",
            ),
            Column(
                "Saved",
                window(cost_metrics.CACHE_SAVED, "model", SPAN, model=_MODEL),
                "currencyUSD",
            ),
            Column(
                "Lost",
                window(cost_metrics.CACHE_LOST, "model", SPAN, model=_MODEL),
                "currencyUSD",
            ),
            Column(
                "Without a price",
                window(cost_metrics.UNPRICED_TOKENS, "model", SPAN, model=_MODEL),
                "short",
            ),
        ),
        links={"model": link_to("live", model=CELL)},
        sort_by="Lost",
        width=14,
    )


def _customers(limits: BoardLimits) -> Iterator[Panel]:
    hits = window(request_metrics.CACHE_HIT_RATIO, "customer", SPAN, **_WHO)
    lost = window(cost_metrics.CACHE_LOST, "customer", SPAN, **_WHO)
    yield listing(
        "Customers that lose the most",
        f"The {_SHOWN} with the dearest misses in the window. Talk to them about stable prompt "
        "prefixes first.",
        ("customer", "segment"),
        (
            Column("Lost", lost, "currencyUSD", decimals=2),
            Column(
                "Saved",
                window(cost_metrics.CACHE_SAVED, "customer", SPAN, **_WHO),
                "currencyUSD",
                decimals=2,
            ),
        ),
        among=f"topk({_SHOWN}, {lost})",
        links={"customer": link_to("sla", customer=CELL)},
        sort_by="Lost",
        width=12,
        height=10,
    )
    yield listing(
        "Customers with the lowest hit ratio",
        f"The {_SHOWN} lowest in the window, and how many input tokens that is of.",
        ("customer", "segment"),
        (
            Column("Hit ratio", hits, "percentunit", limits.cache_hit, 1),
            Column(
                "Input tokens",
                window(request_metrics.WINDOW_INPUT_TOKENS, "customer", SPAN, **_WHO),
                "short",
            ),
        ),
        among=f"bottomk({_SHOWN}, {hits})",
        links={"customer": link_to("sla", customer=CELL)},
        sort_by="Hit ratio",
        ascending=True,
        width=12,
        height=10,
    )
