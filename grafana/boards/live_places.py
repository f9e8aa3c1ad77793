"""The parts of SRE Live below its first screens: by dimension, the chosen, distributions."""

from collections.abc import Iterator

from alerts.promql import sum_of
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue.spec import Spec
from grafana import lines, series
from grafana.frame import CELL, line_label, link_to
from grafana.panels import Link, Panel, Query, graph, heat, number
from grafana.queries import only_worst, rate, window
from grafana.series import FleetLatency, latencies
from grafana.tables import Column, listing
from grafana.thresholds import BoardLimits, bad_below

SPAN = "5m"  # of all numbers: long enough for a P95, short enough to act on
WORST_LINES = 8  # as many as can be told apart


def by_dimension(limits: BoardLimits, name: str) -> Iterator[Panel]:
    """Yield the panels of one dimension: its worst names over time, and all of them now."""
    # The legend is Grafana's template of one label, such as {{model}}.
    chosen, legend = {name: series.CHOSEN[name]}, f"{{{{{name}}}}}"
    to_line = link_to("live", **{name: line_label(name)})

    def percentile(spec: Spec) -> str:
        return series.p95(spec, name, SPAN, **chosen)

    errors = series.error_ratio(name, SPAN, **chosen)
    hits = window(request_metrics.CACHE_HIT_RATIO, name, SPAN, **chosen)
    for one in latencies(limits):
        yield graph(
            f"P95 {one.name} by {name}",
            f"Over the last 5 minutes, against the target of the fleet; the {WORST_LINES} slowest "
            f"of the chosen {name}s.",
            (Query(only_worst(percentile(one.seconds), name, WORST_LINES), legend),),
            "s",
            one.thresholds,
            many=True,
            link=to_line,
        )
    yield graph(
        f"Error ratio by {name}",
        f"Failures of the requests that count, over the last 5 minutes; the {WORST_LINES} worst of "
        f"the chosen {name}s.",
        (Query(only_worst(errors, name, WORST_LINES), legend),),
        "percentunit",
        limits.errors,
        many=True,
        link=to_line,
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


def chosen_place(limits: BoardLimits) -> Iterator[Panel]:
    """Yield the panels of the region, model and channel that are chosen."""
    yield number(
        "Error ratio, chosen",
        f"Over the last 5 minutes. {series.availability_target(limits)}",
        series.error_ratio_of_series(SPAN, **series.CHOSEN),
        "percentunit",
        limits.errors,
        width=4,
        height=6,
        decimals=3,
    )
    for one in latencies(limits):
        if one.target_s is not None:
            yield _within(one, one.target_s)
    cached = _each(request_metrics.WINDOW_TOKENS, type="cached_input")
    yield number(
        "Cache hits, chosen",
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
        "Finished requests a second over the last 5 minutes, probes not included.",
        (Query(series.chosen_requests_per_s(SPAN, ("outcome",)), "{{outcome}}"),),
        "reqps",
        height=6,
        stacked=True,
        lines=lines.OUTCOMES,
        # Thousands of series may be chosen; a tenth of their window is fine enough.
        step="30s",
    )


def _within(latency: FleetLatency, target_s: float) -> Panel:
    """Return the panel of the share of requests within a target, of the chosen series."""
    return number(
        f"{latency.name} on time, chosen",
        f"Share of requests at or under {target_s * 1e3:g} ms over the last 5 minutes, counted "
        "exactly. At 95% the P95 is at its target.",
        series.within_target_of_series(latency, SPAN, **series.CHOSEN),
        "percentunit",
        bad_below(0.95),
        width=4,
        height=6,
        decimals=2,
    )


def distributions() -> Iterator[Panel]:
    """Yield a heatmap of each latency."""
    for what, title in (
        ("ttft", "Time to first token"),
        ("tpot", "Time per output token"),
        ("duration", "Request duration"),
    ):
        spec = latency_metrics.REQUEST_HISTOGRAMS[what]
        yield heat(
            title,
            f"{spec.help} {spec.meaning} All requests, a second by bucket; the page of a model or "
            "region has its own. A dot is one request that carried a trace id; it leads to its "
            "trace.",
            rate(latency_metrics.FLEET_HISTOGRAM, ("le",), "_bucket", latency=what),
            "s",
        )
