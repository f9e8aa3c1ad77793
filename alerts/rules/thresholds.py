"""Rules for objectives with levels: a latency percentile, the cache hit ratio, token volume.

Pure. They read rolling windows of event time. An alert ends when the value of a shorter window is a
tenth better than the level, or that window is empty: earlier than the bad minutes leave the long
window.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from alerts.promql import any_of, matchers, newest, number, on, string_literal, total_of
from alerts.rules.model import (
    KEEP_FIRING_S,
    Alert,
    Read,
    about_text,
    dashboard,
    objective_labels,
    query_template,
    traffic_share,
    whom,
)
from alerts.rules.outages import CELL, CELL_WINDOW
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import (
    BASELINE_MIN_REQUESTS,
    CELL_ELSEWHERE_IN_TIME,
    CELL_IN_TIME_BELOW,
    CELL_MIN_REQUESTS,
    RECOVERY_MARGIN,
    windows_of,
)
from slo.policy.indicators import LATENCY_WORDS, CacheHitRatio, Latency, TokenVolumeDrop
from slo.policy.loading import PolicyError
from slo.policy.policy import (
    LatencyThreshold,
    LatencyThresholdObjective,
    Policy,
    ShareThreshold,
    ShareThresholdObjective,
)
from slo.policy.selection import Selection
from slo.policy.units import latency_text, percent_text
from streams.state.measures import SERIES_DIMENSIONS
from streams.state.windows import ROLLING_S

# Less than alerts on stale data last: after those end, missing records are no missing traffic.
_KEEP_VOLUME_S = 15
_TREND = "24h"
_NAMES: dict[Latency, str] = {
    "ttft": "TokenpulseTtftHigh",
    "tpot": "TokenpulseTpotHigh",
    "duration": "TokenpulseDurationHigh",
    "first_visible": "TokenpulseFirstVisibleHigh",
}
_LIVE = dashboard("live", "model", "region")


def latency_alerts(policy: Policy, objective: LatencyThresholdObjective) -> Iterator[Alert]:
    """Yield one rule per level."""
    selection = Selection.of(objective.scope)
    for level in objective.levels:
        if selection.is_one_series:
            alert = _percentile(objective, selection, level)
        else:
            alert = _share_within(objective, selection, level)
        yield replace(
            alert,
            severity=level.severity,
            for_s=level.for_s,
            labels=objective_labels(policy, objective),
            link=_LIVE,
        )
    # Only a target of the fleet is one for every cell; one of a model says nothing about others.
    if selection.scope == "fleet":
        yield _slow_cell(policy, objective)


def share_alerts(policy: Policy, objective: ShareThresholdObjective) -> Iterator[Alert]:
    """Yield one rule per level. Raises PolicyError if the windows cannot answer it."""
    selection = Selection.of(objective.scope)
    if selection.names.get("customer") or "customer" in objective.scope.dimensions() != {
        "customer"
    }:
        raise PolicyError(
            f"{policy.name}: objective {objective.name}: scope: windows know customers by the name "
            "that the directory gives them, and not by model; write {per: customer}"
        )
    for level in objective.levels:
        if isinstance(objective.indicator, CacheHitRatio):
            alert = _cache_hit(objective, objective.indicator, selection, level)
        else:
            alert = _token_volume(objective, objective.indicator, selection, level)
        yield replace(
            alert,
            severity=level.severity,
            for_s=level.for_s,
            labels=objective_labels(policy, objective),
        )


def _percentile(
    objective: LatencyThresholdObjective, selection: Selection, level: LatencyThreshold
) -> Alert:
    indicator = objective.indicator
    windows = windows_of(indicator.window)
    quantile = "=" + string_literal(number(Fraction(indicator.percentile, 100)))

    def value(window: str) -> str:
        spec = latency_metrics.WINDOW_QUANTILES[indicator.measure]
        return newest(
            spec, matchers(selection.values(window)) | {"quantile": quantile}, selection.by
        )

    samples = newest(
        latency_metrics.WINDOW_SAMPLES[indicator.measure],
        matchers(selection.values(indicator.window)),
        selection.by,
    )
    limit_s = Fraction(level.above_us, 10**6)
    expr = (
        f"{value(indicator.window)} > {number(limit_s)}\nand {samples} >= {indicator.min_samples}"
    )
    # A long window holds the bad minutes long after the recovery; a short one shows it.
    for shorter in windows[1:]:
        expr += f"\nand {value(shorter)} > {number(limit_s * (1 - RECOVERY_MARGIN))}"
    return _latency_alert(
        objective, level, expr, "{{ $value | humanizeDuration }}", selection, windows
    )


def _share_within(
    objective: LatencyThresholdObjective, selection: Selection, level: LatencyThreshold
) -> Alert:
    """Percentiles of several series cannot be put together, but counts can: P95 <= 300 ms is that
    at least 95 % are at or under 300 ms."""
    indicator = objective.indicator
    limit_s = Fraction(level.above_us, 10**6)
    selected = matchers(selection.values(indicator.window))
    counted = newest(latency_metrics.WINDOW_SAMPLES[indicator.measure], selected, selection.labels)
    within = newest(
        catalogue.WITHIN_TARGET_RATIO,
        selected
        | {
            "latency": any_of((indicator.measure,)),
            "target_seconds": any_of((f"{float(limit_s):g}",)),
        },
        selection.labels,
    )
    samples = total_of(counted, selection.by)
    expr = (
        # Ratio times samples is a whole number but for the rounding of floats.
        f"{total_of(f'round({within} * {counted})', selection.by)} / {samples}"
        f" < {number(Fraction(indicator.percentile, 100))}"
        f"\nand {samples} >= {indicator.min_samples}"
    )
    said = f"{{{{ $value | humanizePercentage }}}} within {latency_text(level.above_us)}"
    return _latency_alert(objective, level, expr, said, selection, (indicator.window,))


def _slow_cell(policy: Policy, objective: LatencyThresholdObjective) -> Alert:
    """Return the alert on one model in one region, whose few requests never move the fleet.

    A model that is slow everywhere, or a region that is far away, is no fault of the two together:
    most requests of the model elsewhere, and of the other models in the region, must be in time.
    """
    indicator = objective.indicator
    # The worst level, so that a page of the fleet has a page of a cell.
    level = max(objective.levels, key=lambda level: level.above_us)
    scope = {"scope": any_of(("series",)), "window": any_of((CELL_WINDOW,))}
    target = f"{level.above_us / 1e6:g}"
    counted = newest(latency_metrics.WINDOW_SAMPLES[indicator.measure], scope, SERIES_DIMENSIONS)
    matching = {
        "latency": any_of((indicator.measure,)),
        "target_seconds": any_of((target,)),
    }
    within = newest(catalogue.WITHIN_TARGET_RATIO, scope | matching, SERIES_DIMENSIONS)
    cell = ("model", "region")

    def sample_count(by: tuple[str, ...]) -> str:
        return total_of(counted, by)

    def in_time(by: tuple[str, ...]) -> str:
        return total_of(f"round({within} * {counted})", by)

    def elsewhere(label: str) -> str:
        # Both differences are negative, so the share is not.
        good, every = (
            f"({counts(cell)} - {on(label)} group_left () {counts((label,))})"
            for counts in (in_time, sample_count)
        )
        return f"{good} / {every} >= {number(CELL_ELSEWHERE_IN_TIME)}"

    share = "{{ $value | humanizePercentage }}"
    limit, latency = latency_text(level.above_us), LATENCY_WORDS[indicator.measure]
    where = " of model {{ $labels.model }} in region {{ $labels.region }}"
    return Alert(
        name="TokenpulseModelSlowInRegion",
        severity=level.severity,
        expr=f"{in_time(cell)} / {sample_count(cell)} < {number(CELL_IN_TIME_BELOW)}"
        f"\nand {sample_count(cell)} >= {CELL_MIN_REQUESTS}"
        f"\nand {elsewhere('model')}\nand {elsewhere('region')}",
        summary=f"Most requests{where} are slow: {share} have a {latency} within {limit}",
        description=f"{about_text(objective)}Over the last {CELL_WINDOW} {share} of the requests"
        f"{where} were within {limit}. Most requests of this model in other regions are, and most "
        "requests of other models in this region.",
        value=f"{share} within {limit}",
        target=f"at least {percent_text(CELL_IN_TIME_BELOW)} within {limit}",
        affected=traffic_share(CELL_WINDOW, "model", "region", scope="'series'"),
        for_s=level.for_s,
        keep_firing_s=KEEP_FIRING_S,
        labels=objective_labels(policy, objective) | {"scope": CELL},
        link=_LIVE,
        reads=(Read("series", CELL_WINDOW),),
    )


def _latency_alert(
    objective: LatencyThresholdObjective,
    level: LatencyThreshold,
    expr: str,
    value: str,
    selection: Selection,
    windows: tuple[str, ...],
) -> Alert:
    indicator = objective.indicator
    what = f"P{indicator.percentile} {LATENCY_WORDS[indicator.measure]}"
    limit = latency_text(level.above_us)
    return Alert(
        name=_NAMES[indicator.measure],
        severity=level.severity,
        expr=expr,
        summary=f"{what} is over {limit}: {value}{whom(selection.by)}",
        description=f"{about_text(objective)}Over the last {indicator.window} it is {value}; "
        f"the target is at most {limit}.",
        value=value,
        target=f"at most {limit}",
        keep_firing_s=KEEP_FIRING_S,
        reads=tuple(Read(selection.scope, window) for window in windows),
    )


def _cache_hit(
    objective: ShareThresholdObjective,
    indicator: CacheHitRatio,
    selection: Selection,
    level: ShareThreshold,
) -> Alert:
    windows = windows_of(indicator.window)

    def ratio(window: str) -> str:
        if selection.is_one_series:
            return newest(
                catalogue.CACHE_HIT_RATIO, matchers(selection.values(window)), selection.by
            )
        cached = _tokens(selection, window, {"type": any_of(("cached_input",))})
        return f"{cached} / {_input_tokens(selection, window)}"

    expr = (
        f"{ratio(indicator.window)} < {number(level.below)}"
        f"\nand {_input_tokens(selection, indicator.window)} >= {indicator.min_input_tokens}"
    )
    for shorter in windows[1:]:
        expr += f"\nand {ratio(shorter)} < {number(level.below * (1 + RECOVERY_MARGIN))}"
    # A source that stops reporting must not leave the alert to the few that still report.
    for window in windows:
        expr += f"\nand {_known_ratio(selection, window)} >= {number(indicator.min_known_ratio)}"
    value, below = "{{ $value | humanizePercentage }}", percent_text(level.below)
    return Alert(
        name="TokenpulseCacheHitLow",
        severity=level.severity,
        expr=expr,
        summary=f"Cache hit ratio is under {below}: {value}{whom(selection.by)}",
        description=f"{about_text(objective)}Over the last {indicator.window} {value} of the input "
        f"tokens whose cached part is known came from the cache; the target is at least {below}. "
        f"{_trend(selection)}",
        value=value,
        target=f"at least {below}",
        keep_firing_s=KEEP_FIRING_S,
        link=dashboard("cache", "model"),
        reads=tuple(Read(selection.scope, window) for window in windows),
    )


def _input_tokens(selection: Selection, window: str) -> str:
    every = newest(
        catalogue.WINDOW_INPUT_TOKENS, matchers(selection.values(window)), selection.labels
    )
    return every if selection.is_one_series else total_of(every, selection.by)


def _known_ratio(selection: Selection, window: str) -> str:
    """Return PromQL for the share of the input tokens whose cached part is known."""
    if selection.is_one_series:
        selected = matchers(selection.values(window)) | {"measure": any_of(("cached_input",))}
        return newest(catalogue.KNOWN_RATIO, selected, selection.by)
    every = _tokens(selection, window, {"type": any_of(catalogue.INPUT_TOKEN_TYPES)})
    return f"{_input_tokens(selection, window)} / {every}"


def _tokens(selection: Selection, window: str, more: Mapping[str, str] | None = None) -> str:
    """Return PromQL for tokens of all types, or those that `more` selects; no value without any."""
    selected = matchers(selection.values(window)) | dict(more or {})
    every = newest(catalogue.WINDOW_TOKENS, selected, (*selection.labels, "type"))
    return total_of(every, selection.by)


def _trend(selection: Selection) -> str:
    """Return a template for the ratio of the day before; empty if it is not one series."""
    if selection.scope == "series":
        return ""
    about = f"scope='{selection.scope}',window='{_TREND}'"
    name = catalogue.CACHE_HIT_RATIO.name
    label = "" if selection.scope == "fleet" else selection.scope
    query = query_template(f"{name}{{{about}", *([label] if label else []))
    return (
        f"{{{{ with {query} }}}}Over the last {_TREND} it was "
        "{{ . | first | value | humanizePercentage }}.{{ end }}"
    )


def _token_volume(
    objective: ShareThresholdObjective,
    indicator: TokenVolumeDrop,
    selection: Selection,
    level: ShareThreshold,
) -> Alert:
    now = _tokens(selection, indicator.window)
    baseline = _tokens(selection, indicator.baseline)
    requests = total_of(
        newest(
            catalogue.WINDOW_REQUESTS,
            matchers(selection.values(indicator.baseline)),
            (*selection.labels, "outcome"),
        ),
        selection.by,
    )
    times = Fraction(ROLLING_S[indicator.baseline], ROLLING_S[indicator.window])
    below = percent_text(level.below)
    value = "{{ $value | humanizePercentage }}"
    return Alert(
        name="TokenpulseTokenVolumeDrop",
        severity=level.severity,
        # Without any request the window has no series, and a missing vector fires nothing: 0 stands
        # for it.
        expr=f"({now} or 0 * {baseline}) / {baseline} * {number(times)}"
        f" < {number(level.below)}\nand {baseline} >= {indicator.min_baseline_tokens}"
        f"\nand {requests} >= {number(BASELINE_MIN_REQUESTS * times)}",
        summary=f"Token volume fell to {value} of the last {indicator.baseline}"
        f"{whom(selection.by)}",
        description=f"{about_text(objective)}Tokens per second over the last "
        f"{indicator.window} are {value} of those over the last {indicator.baseline}. The alert "
        f"fires below {below}.",
        value=value,
        target=f"at least {below} of the last {indicator.baseline}",
        keep_firing_s=_KEEP_VOLUME_S,
        link=_LIVE,
        reads=tuple(
            Read(selection.scope, window) for window in (indicator.window, indicator.baseline)
        ),
    )
