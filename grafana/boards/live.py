"""SRE Live: is it well, and if not, where. The first row answers in one glance."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue import requests as request_metrics
from grafana import lines, series
from grafana.boards.live_places import SPAN, by_dimension, chosen_place, distributions
from grafana.frame import (
    CELL,
    BoardSection,
    Variable,
    alert_age_s,
    board,
    link_to,
    number_of_alerts,
)
from grafana.named_values import Named
from grafana.panels import Panel, Query, graph, number, timeline
from grafana.queries import only_worst, window
from grafana.series import latencies, p95_numbers
from grafana.tables import COLUMN_CELL, ROW_CELL, Column, listing, matrix
from grafana.thresholds import BAD, GOOD, WARNING, BoardLimits, bad_below
from grafana.trust import data_verdict, known_shares

BUDGET_AT_RISK = 0.25
WORST_STRIPS = 15  # as many as can be told apart
NOT_TO_ONE = {"customer": ""}  # objectives that are not of one customer

_SERIES = {"scope": "series", "window": SPAN}
_REGION = Variable(
    "region",
    "Region",
    "Regions to show by name; the first row is always of the whole fleet.",
    request_metrics.WINDOW_REQUESTS,
    {**_SERIES},
)
_MODEL = Variable(
    "model",
    "Model",
    "Models to show, of those that the chosen regions serve.",
    request_metrics.WINDOW_REQUESTS,
    {**_SERIES, "region": series.CHOSEN["region"]},
)
_CHANNEL = Variable(
    "channel",
    "Channel",
    "Channels to show, of those through which the chosen models are sold.",
    request_metrics.WINDOW_REQUESTS,
    {**_SERIES, "region": series.CHOSEN["region"], "model": series.CHOSEN["model"]},
)
VARIABLES = (_REGION, _MODEL, _CHANNEL)


def live(limits: BoardLimits) -> dashboard.Dashboard:
    """Return the board."""
    return board(
        "live",
        "For the SRE on call: eight verdicts and three graphs of the whole fleet, then the alerts, "
        "then where: model by region. Windows are in event time.",
        (
            BoardSection("The whole fleet, last 5 minutes", (*_verdicts(limits), *_now(limits))),
            BoardSection("What fires, and how requests end", tuple(_fires())),
            BoardSection("Where: models by regions", tuple(_where(limits))),
            BoardSection("The chosen: $region $model $channel", tuple(chosen_place(limits))),
            BoardSection("Why", tuple(_why(limits))),
            *(
                BoardSection(f"By {name}", tuple(by_dimension(limits, name)), is_collapsed=True)
                for name in ("model", "region", "channel")
            ),
            BoardSection(
                "Distributions; dots lead to traces", tuple(distributions()), is_collapsed=True
            ),
            BoardSection("Budgets and burn rates", tuple(_budgets(limits)), is_collapsed=True),
            BoardSection(
                "Of how many requests is it known?", known_shares(SPAN, width=8), is_collapsed=True
            ),
        ),
        VARIABLES,
        since="now-1h",
        refresh="10s",
    )


def _verdicts(limits: BoardLimits) -> Iterator[Panel]:
    yield number(
        "Alerts",
        "Pages and tickets that fire. NO RULES: Prometheus evaluates none, so that none can fire.",
        number_of_alerts(),
        "none",
        ((None, GOOD), (1, BAD)),
        named=Named((("0", "quiet", GOOD),)),
        unknown="NO RULES",
        unknown_colour=BAD,
    )
    yield data_verdict(SPAN, width=3, height=4)
    budget = series.of_objectives(objective_metrics.BUDGET_LEFT, **NOT_TO_ONE)
    burn = series.of_objectives(objective_metrics.BURN_RATE, **NOT_TO_ONE, window="1h")
    yield number(
        "SLO state",
        "Of the objectives of all policies, the one with the least error budget left; those to "
        "single customers are on Customer SLA. Latencies and cache stand beside it.",
        f"min({budget})",
        "percentunit",
        bad_below(0, BUDGET_AT_RISK),
        # Grafana's ranges include both ends, and a budget of exactly 0 is not missed.
        named=Named(
            ranges=(
                (None, -1e-9, "MISSED", BAD),
                (-1e-9, BUDGET_AT_RISK, "AT RISK", WARNING),
                (BUDGET_AT_RISK, None, "MET", GOOD),
            )
        ),
    )
    yield number(
        "Burn rate, 1h",
        "Speed at which the fastest burning error budget was spent over the last hour; 1 spends "
        "all of it in the period. Colours: the rates at which rules tell of it.",
        f"max({burn})",
        "none",
        limits.burn,
        decimals=1,
    )
    yield from p95_numbers(limits, SPAN)
    yield number(
        # A longer title is cut off beside seven other numbers.
        "Cache hits",
        f"Input tokens read from the prompt cache. {series.cache_target(limits)}",
        window(request_metrics.CACHE_HIT_RATIO, "fleet", SPAN),
        "percentunit",
        limits.cache_hit,
        decimals=1,
    )
    yield number(
        "Error ratio",
        "Failures of the requests that count for availability. Red where it spends error budget "
        f"faster than the target allows. {series.availability_target(limits)}",
        series.error_ratio("fleet", SPAN),
        "percentunit",
        limits.errors,
        decimals=3,
    )


def _now(limits: BoardLimits) -> Iterator[Panel]:
    for one in latencies(limits):
        yield graph(
            f"{one.name} percentiles",
            f"Percentiles over the last 5 minutes, of the whole fleet. For the P95: "
            f"{series.under(one.target_s)}",
            (Query(window(one.seconds, "fleet", SPAN, ("quantile",)), "{{quantile}}"),),
            "s",
            one.thresholds,
            height=7,
            lines=lines.QUANTILES,
        )
    yield graph(
        "Error ratio over time",
        f"Failures of the requests that count. {series.availability_target(limits)}",
        (
            Query(series.error_ratio("fleet", "1m"), "1m"),
            Query(series.error_ratio("fleet", SPAN), SPAN),
            Query(series.error_ratio("fleet", "1h"), "1h"),
        ),
        "percentunit",
        limits.errors,
        height=7,
        lines=lines.WINDOWS,
    )


def _fires() -> Iterator[Panel]:
    names = (
        *("severity", "alertname", "objective", "model", "region", "customer", "cause"),
        *("scope", "window", "partition"),
    )
    yield listing(
        "Alerts that fire",
        "Pages and tickets of Tokenpulse at this moment, with the time since their condition "
        "became true. If there are none, the stat Alerts tells `quiet` from missing rules.",
        names,
        (Column("for", alert_age_s(*names), "dtdurations"),),
        links={
            "model": link_to("live", model=CELL),
            "region": link_to("live", region=CELL),
            "customer": link_to("sla", customer=CELL),
        },
        coloured={"severity": {"page": BAD, "ticket": WARNING}},
        unknown="no alert fires",
        values_at=2,
        widths={"severity": 80, "alertname": 230, "for": 90},
        sort_by="severity",
        ascending=True,
        width=14,
        height=7,
    )
    yield graph(
        "Requests by outcome",
        "Finished requests a second over the last minute, probes not included.",
        (Query(series.requests_per_s("fleet", ("outcome",)), "{{outcome}}"),),
        "reqps",
        stacked=True,
        width=10,
        height=7,
        lines=lines.OUTCOMES,
    )


def _where(limits: BoardLimits) -> Iterator[Panel]:
    by = ("model", "region")
    to_both = link_to("live", model=ROW_CELL, region=COLUMN_CELL)
    to_model = link_to("live", model=CELL)
    yield matrix(
        "Error ratio, model by region",
        "Failures of the requests that count, over the last 5 minutes. A cell leads to its place. "
        f"{series.availability_target(limits)}",
        series.error_ratio_of_series(SPAN, by),
        *by,
        "percentunit",
        limits.errors,
        link=to_both,
        row_link=to_model,
    )
    ttft, _ = latencies(limits)
    if ttft.target_s is not None:
        yield matrix(
            "TTFT within target, model by region",
            f"Share of requests at or under {ttft.target_s * 1e3:g} ms over the last 5 minutes, "
            "counted exactly. At 95% the P95 is at its target.",
            series.within_target_of_series(ttft, SPAN, by),
            *by,
            "percentunit",
            bad_below(0.95),
            link=to_both,
            row_link=to_model,
        )
    yield timeline(
        "P95 TTFT of the worst models",
        f"Over 5 minutes at each moment; the {WORST_STRIPS} slowest of the time shown. "
        f"{series.under(ttft.target_s)}",
        Query(
            only_worst(series.p95(ttft.seconds, "model", SPAN), "model", WORST_STRIPS), "{{model}}"
        ),
        "s",
        limits.ttft,
    )
    yield timeline(
        "Errors of the worst regions",
        f"Over 5 minutes at each moment; the {WORST_STRIPS} worst of the time shown. "
        f"{series.availability_target(limits)}",
        Query(only_worst(series.error_ratio("region", SPAN), "region", WORST_STRIPS), "{{region}}"),
        "percentunit",
        limits.errors,
    )


def _why(limits: BoardLimits) -> Iterator[Panel]:
    yield graph(
        "Tokens per request",
        "Input and output over the last minute. Longer requests explain a higher latency.",
        # `on ()` drops all labels: one number of requests divides the tokens of each type.
        (
            Query(
                f"{series.tokens_of_minute_per_s('fleet', ('type',))} / on () group_left () "
                f"({series.requests_per_s('fleet', ())})",
                "{{type}}",
            ),
        ),
        "short",
        stacked=True,
        width=6,
        lines=lines.TOKEN_TYPES,
    )
    yield graph(
        "Tokens/s by type",
        "Tokens processed a second over the last minute; the types exclude one another.",
        (Query(series.tokens_of_minute_per_s("fleet", ("type",)), "{{type}}"),),
        "short",
        stacked=True,
        width=6,
        lines=lines.TOKEN_TYPES,
    )
    yield graph(
        "Turned away",
        "Share of requests that ended as overloaded or rate limited.",
        tuple(Query(series.turned_away_ratio("fleet", span), span) for span in (SPAN, "1h")),
        "percentunit",
        width=6,
        lines=lines.WINDOWS,
    )
    yield graph(
        "Cache hit ratio over time",
        series.cache_target(limits),
        (
            Query(window(request_metrics.CACHE_HIT_RATIO, "fleet", SPAN), SPAN),
            Query(window(request_metrics.CACHE_HIT_RATIO, "fleet", "1h"), "1h"),
        ),
        "percentunit",
        limits.cache_hit,
        most=1,
        width=6,
        lines=lines.WINDOWS,
    )


def _budgets(limits: BoardLimits) -> Iterator[Panel]:
    budget = series.of_objectives(objective_metrics.BUDGET_LEFT, **NOT_TO_ONE)
    burn = series.of_objectives(objective_metrics.BURN_RATE, **NOT_TO_ONE, window="1h")
    yield graph(
        "Burn rate by objective, 1h",
        "Speed at which error budgets were spent over the last hour; 1 spends all in the period.",
        (Query(burn, series.objective_legend()),),
        "none",
        limits.burn,
        width=12,
        many=True,
    )
    yield graph(
        "Error budget left by objective",
        "Share of the error budget of the period so far; below 0 the objective is missed.",
        (Query(budget, series.objective_legend()),),
        "percentunit",
        bad_below(0, BUDGET_AT_RISK),
        width=12,
        least=None,
        most=1,
        many=True,
    )
