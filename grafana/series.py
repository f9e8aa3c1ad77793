"""Numbers of the fleet, models, regions, channels and customers that several boards show.

Pure. Expressions by scope and window, with the words that go with them.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from alerts.promql import sum_of
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue import requests as request_metrics
from exporters.catalogue.spec import SCOPE_LABELS, Spec
from grafana.panels import Panel, number
from grafana.queries import AnyOf, Chosen, Match, largest_sum, newest, window
from grafana.thresholds import BoardLimits, Steps
from slo.policy.targets import band_text
from streams.state.windows import ROLLING_S

DIMENSIONS = ("model", "region", "channel")
CHOSEN = {name: Chosen(name) for name in DIMENSIONS}
OBJECTIVE = {"policy": Chosen("policy"), "objective": Chosen("objective")}
MINUTE = "1m"
SHED = ("overloaded", "rate_limited")  # turned away for want of room


def p95(spec: Spec, scope: str, span: Match, /, **labels: Match) -> str:
    """Return PromQL for the P95 of a latency."""
    return window(spec, scope, span, quantile="0.95", **labels)


def error_ratio(scope: str, span: Match, /, **labels: Match) -> str:
    """Return PromQL for the failed share of the requests that count for availability."""
    return f"1 - {window(request_metrics.AVAILABILITY_RATIO, scope, span, **labels)}"


def error_ratio_of_series(span: Match, by: Collection[str] = (), /, **labels: Match) -> str:
    """Return PromQL for the failed share of the requests of several series, by some labels.

    Weighted by their requests: a mean of ratios is not their ratio.
    """
    eligible = window(request_metrics.WINDOW_ELIGIBLE_REQUESTS, "series", span, **labels)
    ratio = window(request_metrics.AVAILABILITY_RATIO, "series", span, **labels)
    return f"1 - {sum_of(f'{ratio} * {eligible}', by)} / {sum_of(eligible, by)}"


def within_target_of_series(
    latency: "FleetLatency", span: Match, by: Collection[str] = (), /, **labels: Match
) -> str:
    """Return PromQL for the share of requests within the target of a latency, of several series.

    Percentiles of several series cannot be added up, but a P95 is under its target exactly if at
    least 95 % of the requests are.
    """
    about = {"latency": latency.name.lower(), "target_seconds": f"{latency.target_s:g}"}
    within = window(request_metrics.WITHIN_TARGET_RATIO, "series", span, **labels, **about)
    measured = window(latency.samples, "series", span, **labels)
    # Share times requests is a whole number again, but for the rounding of the share.
    return f"{sum_of(f'round({within} * {measured})', by)} / {sum_of(measured, by)}"


def tokens(scope: str, span: Match, /, **labels: Match) -> str:
    """Return PromQL for the tokens of all types, which exclude one another."""
    by = SCOPE_LABELS[scope]
    each = window(request_metrics.WINDOW_TOKENS, scope, span, (*by, "type"), **labels)
    return sum_of(each, by)


def requests(scope: str, span: Match, /, **labels: Match) -> str:
    """Return PromQL for the requests of all outcomes."""
    by = SCOPE_LABELS[scope]
    each = window(request_metrics.WINDOW_REQUESTS, scope, span, (*by, "outcome"), **labels)
    return sum_of(each, by)


def requests_per_s(scope: str, by: Collection[str], /, **labels: Match) -> str:
    """Return PromQL for the requests finished a second, over the last minute.

    The window of a minute costs Prometheus a few samples; the rate of counters, one of each series.
    """
    names = (*SCOPE_LABELS[scope], "outcome")
    each = window(request_metrics.WINDOW_REQUESTS, scope, MINUTE, names, **labels)
    return f"{sum_of(each, by)} / 60"


def chosen_requests_per_s(span: str, by: Collection[str], /) -> str:
    """Return PromQL for the requests finished a second of all chosen series, over a window."""
    counts = largest_sum(request_metrics.WINDOW_REQUESTS, "series", span, by, **CHOSEN)
    return f"{counts} / {ROLLING_S[span]}"


def tokens_of_minute_per_s(scope: str, by: Collection[str], /, **labels: Match) -> str:
    """Return PromQL for the tokens processed a second, over the last minute."""
    names = (*SCOPE_LABELS[scope], "type")
    each = window(request_metrics.WINDOW_TOKENS, scope, MINUTE, names, **labels)
    return f"{sum_of(each, by)} / 60"


def per_s_of_minute(spec: Spec, /, **labels: Match) -> str:
    """Return PromQL for a sum of the models' windows, a second, over the last minute."""
    return f"{sum_of(window(spec, 'model', MINUTE, **labels), ())} / 60"


def turned_away_ratio(scope: str, span: Match, /) -> str:
    """Return PromQL for the share of requests that were turned away for want of room."""
    by = (*SCOPE_LABELS[scope], "outcome")
    shed = window(request_metrics.WINDOW_REQUESTS, scope, span, by, outcome=AnyOf(SHED))
    total = requests(scope, span)
    # The share is 0, not absent, if no request was turned away.
    return f"({sum_of(shed, SCOPE_LABELS[scope])} or 0 * {total}) / {total}"


def length_s(span: Match) -> str:
    """Return the length of a window at this moment, in seconds."""
    # scalar() drops all labels, so that a number of any scope can be divided by it.
    return f"scalar(time() - {newest(request_metrics.WINDOW_START, window=span)})"


def tokens_per_s(scope: str, span: Match, /, **labels: Match) -> str:
    """Return PromQL for the tokens processed a second, over a window in event time."""
    return f"{tokens(scope, span, **labels)} / {length_s(span)}"


def of_objectives(spec: Spec, /, *more: str, **labels: Match) -> str:
    """Return PromQL for a gauge of the objectives, one value for each name of their scope."""
    by = ("policy", "objective", *objective_metrics.SCOPE, *more)
    return newest(spec, by, **labels)


def worst(function: str, expr: str, *by: str) -> str:
    """Return PromQL for the worst name of each objective; `function`: min or max, the bad side."""
    return f"{function} by ({', '.join(('policy', 'objective', *by))}) ({expr})"


def objective_legend(*more: str) -> str:
    """Return the legend of an objective: its name and those labels of its scope that it has."""
    names = ("objective", *objective_metrics.SCOPE, *more)
    return " ".join(f"{{{{{name}}}}}" for name in names)


def under(limit_s: float | None) -> str:
    """Return a latency target in words."""
    return "No policy sets a target." if limit_s is None else f"Target: under {limit_s * 1e3:g} ms."


def availability_target(limits: BoardLimits) -> str:
    """Return the availability target in words."""
    ratio = limits.targets.availability_ratio
    return "No policy sets a target." if ratio is None else f"Target: at least {_percent(ratio)}."


def cache_target(limits: BoardLimits) -> str:
    """Return the cache hit targets in words."""
    targets = limits.targets
    said = [band_text(band) for band in targets.cache_hit_bands]
    if targets.cache_hit_ticket_ratio is not None:
        said.append(f"a ticket below {_percent(targets.cache_hit_ticket_ratio)}")
    if targets.cache_hit_page_ratio is not None:
        said.append(f"a failure below {_percent(targets.cache_hit_page_ratio)}")
    words = "; ".join(said)
    return f"{words[0].upper()}{words[1:]}." if words else "No policy sets a target."


def _percent(ratio: float) -> str:
    # Eight digits hide the rounding of floats, and keep those of 99.999%.
    return f"{ratio * 100:.8g}%"


class FleetLatency(NamedTuple):
    """A latency that policies set targets for."""

    name: str
    meaning: str
    seconds: Spec
    samples: Spec
    target_s: float | None  # of the P95
    thresholds: Steps


def latencies(limits: BoardLimits) -> tuple[FleetLatency, FleetLatency]:
    """Return TTFT and TPOT."""
    targets = limits.targets
    return (
        FleetLatency(
            *(
                "TTFT",
                "Time to first token",
                latency_metrics.TTFT_SECONDS,
                latency_metrics.TTFT_SAMPLES,
            ),
            *(targets.ttft_p95_s, limits.ttft),
        ),
        FleetLatency(
            *(
                "TPOT",
                "Time per output token",
                latency_metrics.TPOT_SECONDS,
                latency_metrics.TPOT_SAMPLES,
            ),
            *(targets.tpot_p95_s, limits.tpot),
        ),
    )


def p95_numbers(limits: BoardLimits, span: Match, about: str = "") -> Iterator[Panel]:
    """Yield the P95 of each over a window; `about`: a sentence on the window."""
    for one in latencies(limits):
        yield number(
            f"P95 {one.name}",
            f"{one.meaning}. {about}{under(one.target_s)}",
            p95(one.seconds, "fleet", span),
            "s",
            one.thresholds,
            caption=None if one.target_s is None else f"target {one.target_s * 1e3:g} ms",
        )
