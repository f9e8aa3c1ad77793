"""SRE Live: is it well, and if not, where. The first row answers in one glance."""

from collections.abc import Iterator

from grafana_foundation_sdk.models import dashboard

from alerts.promql import sum_of
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue.spec import Spec
from grafana import series
from grafana.frame import CELL, BoardSection, Variable, alerts, board, link_to, trust
from grafana.panels import Column, Link, Named, Panel, Query, graph, heat, listing, number
from grafana.queries import newest, rate, window
from grafana.series import latencies, p95_numbers
from grafana.thresholds import BAD, GOOD, WARNING, BoardLimits, bad_above, bad_below
from slo.health_limits import BEHIND_AFTER_S

SPAN = "5m"  # of all numbers: long enough for a P95, short enough to act on
BUDGET_AT_RISK = 0.25
NOT_TO_ONE = {"customer": ""}  # promises that are not to a customer

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
        "For the SRE on call: the state of the whole fleet in the first row, then what burns, then "
        "where: by model, region and channel. Windows are in event time.",
        (
            BoardSection(
                "Health at a glance: the whole fleet, last 5 minutes", tuple(_glance(limits))
            ),
            trust(SPAN),
            BoardSection("What is wrong", tuple(_wrong(limits))),
            BoardSection("The fleet over time", tuple(_fleet(limits))),
            *(
                BoardSection(f"By {name}", tuple(_by(limits, name)))
                for name in ("model", "region", "channel")
            ),
            BoardSection(
                "What is chosen above: region, model and channel", tuple(_variables_of(limits))
            ),
            BoardSection("Distributions; dots lead to traces", tuple(_heatmaps())),
        ),
        VARIABLES,
        since="now-1h",
        refresh="10s",
    )


def _glance(limits: BoardLimits) -> Iterator[Panel]:
    budget = series.of_promises(objective_metrics.BUDGET_LEFT, **NOT_TO_ONE)
    burn = series.of_promises(objective_metrics.BURN_RATE, **NOT_TO_ONE, window="1h")
    yield number(
        "SLO state",
        "Of the promises of all policies, the one with the least error budget left; those to "
        "single customers are on Customer SLA. Latencies and cache stand beside it.",
        f"min({budget})",
        "percentunit",
        bad_below(0, BUDGET_AT_RISK),
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
        "Cache hit ratio",
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
    yield number(
        "Tokens/s",
        "Tokens processed a second, input and output.",
        series.tokens_per_s("fleet", SPAN),
        "short",
        decimals=1,
    )
    yield number(
        "Data freshness",
        "Age of the newest event when it was exported, of the slowest partition.",
        newest(pipeline_metrics.PARTITION_FRESHNESS),
        "s",
        bad_above(BEHIND_AFTER_S),
        decimals=1,
    )


def _wrong(limits: BoardLimits) -> Iterator[Panel]:
    budget = series.of_promises(objective_metrics.BUDGET_LEFT, **NOT_TO_ONE)
    burn = series.of_promises(objective_metrics.BURN_RATE, **NOT_TO_ONE, window="1h")
    names = ("alertname", "severity", "objective", "model", "region", "customer", "partition")
    yield listing(
        "Alerts that fire",
        "Pages and tickets of Tokenpulse at this moment; empty when all is well.",
        names,
        (Column("firing", alerts(*names), "bool_yes_no"),),
        links={"customer": link_to("sla", customer=CELL)},
        sort_by="severity",
        ascending=True,
        width=10,
    )
    yield graph(
        "Burn rate by objective, 1h",
        "Speed at which error budgets were spent over the last hour; 1 spends all in the period.",
        (Query(burn, series.promise_legend()),),
        "none",
        limits.burn,
        width=7,
    )
    yield graph(
        "Error budget left by objective",
        "Share of the error budget of the period so far; below 0 the promise is missed.",
        (Query(budget, series.promise_legend()),),
        "percentunit",
        bad_below(0, BUDGET_AT_RISK),
        width=7,
        least=None,
        most=1,
    )


def _fleet(limits: BoardLimits) -> Iterator[Panel]:
    for one in latencies(limits):
        yield graph(
            f"{one.name} percentiles",
            f"Percentiles over the last 5 minutes, of the whole fleet. For the P95: "
            f"{series.under(one.target_s)}",
            (Query(window(one.seconds, "fleet", SPAN, ("quantile",)), "{{quantile}}"),),
            "s",
            one.thresholds,
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
    )
    yield graph(
        "Requests by outcome",
        "Finished requests a second, probes not included.",
        (Query(rate(request_metrics.REQUESTS_TOTAL, ("outcome",)), "{{outcome}}"),),
        "reqps",
        stacked=True,
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
    )
    yield graph(
        "Tokens/s by type",
        "Tokens processed a second; the types exclude one another.",
        (Query(rate(request_metrics.TOKENS_TOTAL, ("type",)), "{{type}}"),),
        "short",
        stacked=True,
    )


def _by(limits: BoardLimits, name: str) -> Iterator[Panel]:
    # The legend is Grafana's template of one label, such as {{model}}.
    chosen, legend = {name: series.CHOSEN[name]}, f"{{{{{name}}}}}"

    def percentile(spec: Spec) -> str:
        return series.p95(spec, name, SPAN, **chosen)

    errors = series.error_ratio(name, SPAN, **chosen)
    hits = window(request_metrics.CACHE_HIT_RATIO, name, SPAN, **chosen)
    for one in latencies(limits):
        yield graph(
            f"P95 {one.name} by {name}",
            f"Over the last 5 minutes, against the target of the fleet; chosen {name}s.",
            (Query(percentile(one.seconds), legend),),
            "s",
            one.thresholds,
        )
    yield graph(
        f"Error ratio by {name}",
        f"Failures of the requests that count, over the last 5 minutes; chosen {name}s.",
        (Query(errors, legend),),
        "percentunit",
        limits.errors,
    )
    links: dict[str, Link] = {}
    if name in ("model", "region"):
        links[name] = link_to("live", **{name: CELL})
    yield listing(
        f"Every {name} now",
        "The last 5 minutes, the worst error ratio first. Below 20 samples a P95 is the largest "
        "value.",
        (name,),
        (
            Column("Errors", errors, "percentunit", limits.errors, 3),
            Column("P95 TTFT", percentile(latency_metrics.TTFT_SECONDS), "s", limits.ttft),
            Column("P95 TPOT", percentile(latency_metrics.TPOT_SECONDS), "s", limits.tpot),
            Column("Samples", window(latency_metrics.TTFT_SAMPLES, name, SPAN, **chosen), "short"),
            Column("Cache hit", hits, "percentunit", limits.cache_hit, 1),
            Column("Tokens/s", series.tokens_per_s(name, SPAN, **chosen), "short"),
            Column("Requests", series.requests(name, SPAN, **chosen), "short"),
        ),
        links=links,
        sort_by="Errors",
        width=24,
        height=7,
    )


def _each(spec: Spec, **labels: str) -> str:
    """Return the single series that are chosen: counts can be added up, percentiles cannot."""
    return window(spec, "series", SPAN, **series.CHOSEN, **labels)


def _variables_of(limits: BoardLimits) -> Iterator[Panel]:
    # Ratios of several series are weighted by their requests: a mean of ratios is not their ratio.
    eligible = _each(request_metrics.WINDOW_ELIGIBLE_REQUESTS)
    good = f"{_each(request_metrics.AVAILABILITY_RATIO)} * {eligible}"
    yield number(
        "Error ratio of the chosen",
        f"Over the last 5 minutes. {series.availability_target(limits)}",
        f"1 - {sum_of(good)} / {sum_of(eligible)}",
        "percentunit",
        limits.errors,
        width=4,
        height=6,
        decimals=3,
    )
    for one in latencies(limits):
        if one.target_s is not None:
            yield _within(one.name, one.target_s, one.samples)
    cached = _each(request_metrics.WINDOW_TOKENS, type="cached_input")
    yield number(
        "Cache hit ratio of the chosen",
        f"Over the last 5 minutes. {series.cache_target(limits)}",
        f"{sum_of(cached)} / {sum_of(_each(request_metrics.WINDOW_INPUT_TOKENS))}",
        "percentunit",
        limits.cache_hit,
        width=4,
        height=6,
        decimals=1,
    )
    yield graph(
        "Requests of the chosen by outcome",
        "Finished requests a second, probes not included.",
        (
            Query(
                rate(request_metrics.REQUESTS_TOTAL, ("outcome",), **series.CHOSEN), "{{outcome}}"
            ),
        ),
        "reqps",
        height=6,
        stacked=True,
    )


def _within(what: str, target_s: float, samples: Spec) -> Panel:
    """Return the panel of the share of requests within a target, of the chosen series."""
    # Percentiles of several series cannot be added up, but a P95 is under its target exactly if at
    # least 95 % of the requests are.
    about = {"latency": what.lower(), "target_seconds": f"{target_s:g}"}
    within = _each(request_metrics.WITHIN_TARGET_RATIO, **about)
    measured = _each(samples)
    # Share times requests is a whole number again, but for the rounding of the share.
    return number(
        f"{what} within target of the chosen",
        f"Share of requests at or under {target_s * 1e3:g} ms over the last 5 minutes, counted "
        "exactly. At 95% the P95 is at its target.",
        f"{sum_of(f'round({within} * {measured})')} / {sum_of(measured)}",
        "percentunit",
        bad_below(0.95),
        width=4,
        height=6,
        decimals=2,
    )


def _heatmaps() -> Iterator[Panel]:
    chosen = {"gen_ai_request_model": series.CHOSEN["model"], "region": series.CHOSEN["region"]}
    for what, title in (
        ("ttft", "Time to first token"),
        ("tpot", "Time per output token"),
        ("duration", "Request duration"),
    ):
        spec = latency_metrics.REQUEST_HISTOGRAMS[what]
        yield heat(
            title,
            f"{spec.help} {spec.meaning} Chosen regions and models, requests a second by bucket. A "
            "dot is one request that carried a trace id; it leads to its trace.",
            rate(spec, ("le",), "_bucket", **chosen),
            "s",
        )
