"""Rules for latency percentiles: of the policy's scope, and of one model in one region.

Pure. They read rolling windows of event time. An alert ends when the value of a shorter window is a
tenth better than the level, or that window is empty: earlier than the bad minutes leave the long
window.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from alerts.promql import any_of, matchers, newest, number, on, string_literal, total_of
from alerts.rules.model import (
    KEEP_FIRING_S,
    LIVE,
    Alert,
    Read,
    about_text,
    dashboard,
    objective_labels,
    traffic_share,
    whom,
)
from alerts.rules.place_counts import CELL, CELL_LABELS
from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import (
    CELL_ELSEWHERE_IN_TIME,
    CELL_IN_TIME_BELOW,
    CELL_MIN_REQUESTS,
    CELL_WINDOW,
    LATE_MIN_REQUESTS,
    RECOVERY_MARGIN,
    windows_of,
)
from slo.policy.indicators import LATENCY_WORDS, Latency, RollingPercentile
from slo.policy.policy import LatencyThreshold, LatencyThresholdObjective, Policy
from slo.policy.selection import Selection
from slo.policy.units import latency_text, percent_text
from streams.state.measures import SERIES_DIMENSIONS

_NAMES: dict[Latency, str] = {
    "ttft": "TokenpulseTtftHigh",
    "tpot": "TokenpulseTpotHigh",
    "duration": "TokenpulseDurationHigh",
    "first_visible": "TokenpulseFirstVisibleHigh",
}


def latency_alerts(policy: Policy, objective: LatencyThresholdObjective) -> Iterator[Alert]:
    """Yield one rule per level."""
    selection, indicator = Selection.of(objective.scope), objective.indicator
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
            link=_link(indicator.measure, selection),
        )
    # Only a target of the fleet is one for every cell; one of a model says nothing about others.
    if selection.scope == "fleet":
        yield _slow_cell(policy, objective)


def _link(measure: Latency, selection: Selection) -> str:
    """Return where an alert leads: of the fleet's TTFT and TPOT, to their graph."""
    if selection.scope == "fleet" and measure in ("ttft", "tpot"):
        return dashboard("live", panel=f"{measure.upper()} percentiles")
    return LIVE


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
        f"\nand {_many_late(indicator, selection, level, samples)}"
    )
    # A long window holds the bad minutes long after the recovery; a short one shows it.
    for shorter in windows[1:]:
        expr += f"\nand {value(shorter)} > {number(limit_s * (1 - RECOVERY_MARGIN))}"
    return _latency_alert(
        objective, level, expr, "{{ $value | humanizeDuration }}", selection, windows
    )


def _many_late(
    indicator: RollingPercentile, selection: Selection, level: LatencyThreshold, samples: str
) -> str:
    """Return PromQL for windows with enough requests over the limit.

    Two of 30 requests are more than 5 %, and may be chance. Without an exact count of a limit, a
    percentile over it shows that at least the rest of the samples is late too.
    """
    within = _within(indicator, selection, level, selection.by)
    rest = 1 - Fraction(indicator.percentile, 100)
    return (
        f"({samples} - round({within} * {samples}) >= {LATE_MIN_REQUESTS}"
        f" or {samples} >= {number(LATE_MIN_REQUESTS / rest)})"
    )


def _within(
    indicator: RollingPercentile,
    selection: Selection,
    level: LatencyThreshold,
    by: tuple[str, ...],
) -> str:
    """Return PromQL for the share of requests at or under a limit that the worker counts."""
    about = {
        "latency": any_of((indicator.measure,)),
        "target_seconds": any_of((f"{level.above_us / 1e6:g}",)),
    }
    selected = matchers(selection.values(indicator.window)) | about
    return newest(catalogue.WITHIN_TARGET_RATIO, selected, by)


def _share_within(
    objective: LatencyThresholdObjective, selection: Selection, level: LatencyThreshold
) -> Alert:
    """Percentiles of several series cannot be put together, but counts can: P95 <= 300 ms is that
    at least 95 % are at or under 300 ms."""
    indicator = objective.indicator
    selected = matchers(selection.values(indicator.window))
    counted = newest(latency_metrics.WINDOW_SAMPLES[indicator.measure], selected, selection.labels)
    within = _within(indicator, selection, level, selection.labels)
    # Ratio times samples is a whole number but for the rounding of floats.
    good = total_of(f"round({within} * {counted})", selection.by)
    samples = total_of(counted, selection.by)
    expr = (
        f"{good} / {samples} < {number(Fraction(indicator.percentile, 100))}"
        f"\nand {samples} >= {indicator.min_samples}"
        f"\nand {samples} - {good} >= {LATE_MIN_REQUESTS}"
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

    def sample_count(by: tuple[str, ...]) -> str:
        return total_of(counted, by)

    def in_time(by: tuple[str, ...]) -> str:
        return total_of(f"round({within} * {counted})", by)

    def elsewhere(label: str) -> str:
        # Both differences are negative, so the share is not.
        good, every = (
            f"({counts(CELL_LABELS)} - {on(label)} group_left () {counts((label,))})"
            for counts in (in_time, sample_count)
        )
        return f"{good} / {every} >= {number(CELL_ELSEWHERE_IN_TIME)}"

    share = "{{ $value | humanizePercentage }}"
    limit, latency = latency_text(level.above_us), LATENCY_WORDS[indicator.measure]
    where = " of model {{ $labels.model }} in region {{ $labels.region }}"
    return Alert(
        name="TokenpulseModelSlowInRegion",
        severity=level.severity,
        expr=f"{in_time(CELL_LABELS)} / {sample_count(CELL_LABELS)} < {number(CELL_IN_TIME_BELOW)}"
        f"\nand {sample_count(CELL_LABELS)} >= {CELL_MIN_REQUESTS}"
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
        link=LIVE,
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
