"""Rules for shares with levels: the cache hit ratio, and token volume beside its baseline.

Pure. They read rolling windows of event time. An alert ends when the value of a shorter window is a
tenth better than the level, or that window is empty: earlier than the bad minutes leave the long
window. Only an empty window of token volume is a volume of 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from alerts.promql import any_of, matchers, newest, number, total_of
from alerts.rules.model import (
    KEEP_FIRING_S,
    LIVE,
    Alert,
    Read,
    about_text,
    dashboard,
    objective_labels,
    query_template,
    whom,
)
from exporters.catalogue import requests as catalogue
from slo.policy.conditions import BASELINE_MIN_REQUESTS, RECOVERY_MARGIN, windows_of
from slo.policy.indicators import CacheHitRatio, TokenVolumeDrop
from slo.policy.loading import PolicyError
from slo.policy.policy import Policy, ShareThreshold, ShareThresholdObjective
from slo.policy.selection import Selection
from slo.policy.units import percent_text
from streams.state.windows import ROLLING_S

# Less than records that wait explain it: after that ends, missing tokens are missing traffic.
_KEEP_VOLUME_S = 15
_TREND = "24h"


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
    windows = windows_of(indicator.window)
    now = _tokens(selection, windows[0])
    baseline = _tokens(selection, indicator.baseline)
    requests = total_of(
        newest(
            catalogue.WINDOW_REQUESTS,
            matchers(selection.values(indicator.baseline)),
            (*selection.labels, "outcome"),
        ),
        selection.by,
    )

    def times(window: str) -> Fraction:
        return Fraction(ROLLING_S[indicator.baseline], ROLLING_S[window])

    def share(tokens: str, window: str) -> str:
        # Without any request the window has no series, and a missing vector fires nothing.
        return f"({tokens} or 0 * {baseline}) / {baseline} * {number(times(window))}"

    recovered = level.below * (1 + RECOVERY_MARGIN)
    below = percent_text(level.below)
    value = "{{ $value | humanizePercentage }}"
    return Alert(
        name="TokenpulseTokenVolumeDrop",
        severity=level.severity,
        expr=f"{share(now, windows[0])} < {number(level.below)}"
        f"\nand {baseline} >= {indicator.min_baseline_tokens}"
        f"\nand {requests} >= {number(BASELINE_MIN_REQUESTS * times(windows[0]))}"
        + "".join(
            f"\nand {share(_tokens(selection, window), window)} < {number(recovered)}"
            for window in windows[1:]
        ),
        summary=f"Token volume fell to {value} of the last {indicator.baseline}"
        f"{whom(selection.by)}",
        description=f"{about_text(objective)}Tokens per second over the last "
        f"{indicator.window} are {value} of those over the last {indicator.baseline}. The alert "
        f"fires below {below}.",
        value=value,
        target=f"at least {below} of the last {indicator.baseline}",
        keep_firing_s=_KEEP_VOLUME_S,
        link=LIVE,
        reads=tuple(Read(selection.scope, window) for window in (*windows, indicator.baseline)),
    )
