"""What an objective counts, in words, and which of its limits the workers do not count.

Pure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from slo.policy.indicators import (
    LATENCY_WORDS,
    CacheHitRatio,
    LatencyIndicator,
    LatencyRatio,
    MinuteUptime,
    RequestIndicator,
    RollingPercentile,
    SlicePercentile,
    SliceSpeed,
)
from slo.policy.policy import (
    ErrorBudgetObjective,
    LatencyThresholdObjective,
    Objective,
    Policy,
    ShareThresholdObjective,
)
from slo.policy.scope import Exclusion, RollingDays, ScopeFilter
from slo.policy.selection import Selection
from slo.policy.units import latency_text, percent_text
from streams.config.worker import Worker
from streams.events.fields import OUTCOMES
from streams.state.limits import thresholds_of
from streams.state.slices import CLOCKS


@dataclass(frozen=True, slots=True)
class UncountedLimit:
    """A limit of an objective that the settings of the workers lack, so that it stays unknown."""

    objective: str
    setting: str  # `worker.ttft_targets_s`
    value: str  # to add there


def uncounted_limits(policy: Policy, worker: Worker) -> list[UncountedLimit]:
    """Return the limits of all objectives that the workers do not count."""
    counted_us = dict(zip(CLOCKS, thresholds_of(worker), strict=True))
    missing = []
    for objective in policy.objectives:
        for clock, limit_us in _limits(objective):
            # Counted exactly only at these limits; a histogram would be up to 0.8 % off.
            if limit_us in counted_us[clock]:
                continue
            is_speed = clock == "output_speed"
            setting = "worker.output_speed_targets" if is_speed else f"worker.{clock}_targets_s"
            # The setting has tokens per second, the limit microseconds per token.
            value = str(round(10**6 / limit_us)) if is_speed else f"{limit_us / 1e6:g}"
            missing.append(UncountedLimit(objective.name, setting, value))
        missing += [
            UncountedLimit(objective.name, "worker.input_token_limits", str(limit))
            for limit in policy.input_limits_of(objective)
            if limit not in worker.input_token_limits
        ]
    return missing


def _limits(objective: Objective) -> Iterator[tuple[str, int]]:
    """Yield (clock, microseconds) of each limit that must be counted exactly."""
    if isinstance(objective, LatencyThresholdObjective):
        # A percentile of several series is judged by the exact counts within the threshold.
        if not Selection.of(objective.scope).is_one_series:
            for level in objective.levels:
                yield objective.indicator.measure, level.above_us
    elif isinstance(objective.indicator, LatencyIndicator):
        yield objective.indicator.measure, objective.indicator.limit_us


def describe(policy: Policy, objective: Objective) -> Iterator[str]:
    """Yield what an objective counts, one fact a line: `requests: model large, region eu`."""
    yield f"target: {_target(objective)}"
    yield f"requests: {_requests(objective)}"
    indicator = objective.indicator
    if isinstance(indicator, RequestIndicator):
        provider = indicator.view == "provider"
        yield (
            "view: provider, so each attempt counts, final or not; answers of a response cache not"
            if provider
            else "view: customer, so each request counts once, by its final attempt"
        )
        bad = sorted(indicator.failed, key=OUTCOMES.index)
        if indicator.error_classes:
            bad.append(f"client errors of class {' or '.join(sorted(indicator.error_classes))}")
        yield f"good: {_names(indicator.eligible - indicator.failed)}"
        yield f"bad: {', '.join(bad)}"
        ignored = _names(frozenset(OUTCOMES) - indicator.eligible)
        # Some of its classes count, so the outcome as a whole is not ignored.
        if ignored and indicator.error_classes and "client_error" not in indicator.eligible:
            ignored = ignored.replace("client_error", "client_error of any other class")
        yield f"not counted: {ignored or 'none'}"
        probes = "counted" if indicator.probes else "not counted"
        # Synthetic checks have no customer.
        if "customer" not in objective.scope.dimensions():
            yield f"synthetic checks: {probes}"
    elif isinstance(indicator, LatencyIndicator | RollingPercentile):
        yield f"measured: {_measured(indicator)}"
    for exclusion in policy.exclusions_of(objective):
        yield f"excluded: {_exclusion(exclusion)}"


def _target(objective: Objective) -> str:
    if isinstance(objective, ErrorBudgetObjective):
        period = objective.period
        over = (
            f"over {period.rolling_days} day{'' if period.rolling_days == 1 else 's'}"
            if isinstance(period, RollingDays)
            else f"in a calendar month, zone {period.zone}"
        )
        return f"{percent_text(objective.target)} {_good_thing(objective)} {over}"
    if isinstance(objective, ShareThresholdObjective):
        shares = [f"{one.severity} below {percent_text(one.below)}" for one in objective.levels]
        indicator = objective.indicator
        window = indicator.window
        share = (
            f"cached share of the input tokens over {window} whose cached part is known"
            if isinstance(indicator, CacheHitRatio)
            else f"tokens per second over {window}, as a share of those over {indicator.baseline}"
        )
        return f"{share}: {', '.join(shares)}"
    rolling = objective.indicator
    alerts = [f"{one.severity} above {latency_text(one.above_us)}" for one in objective.levels]
    words = LATENCY_WORDS[rolling.measure]
    return f"P{rolling.percentile} {words} over {rolling.window}: {', '.join(alerts)}"


def _good_thing(objective: ErrorBudgetObjective) -> str:
    """Return what must be good for the target share."""
    indicator = objective.indicator
    if isinstance(indicator, MinuteUptime):
        run = f", {indicator.down_run} in a row" if indicator.down_run > 1 else ""
        return f"of minutes up (down: over {percent_text(indicator.down_above)} bad{run}),"
    if isinstance(indicator, LatencyRatio):
        return f"of measured requests within {latency_text(indicator.limit_us)},"
    if isinstance(indicator, SlicePercentile):
        limit = latency_text(indicator.limit_us)
        minutes = indicator.slice_s // 60
        return f"of slices of {minutes} min with P{indicator.percentile} within {limit},"
    if isinstance(indicator, SliceSpeed):
        speed = f"P{indicator.percentile} of at least {indicator.tokens_per_s} tokens/s"
        return f"of slices of {indicator.slice_s // 60} min with {speed},"
    return (
        "of requests good,"
        if indicator.kind == "request_ratio"
        else f"mean good share of slices of {indicator.slice_s // 60} min,"
    )


def _requests(objective: Objective) -> str:
    scope = objective.scope
    parts = list(_filter_words(scope))
    words = ", ".join(parts) if parts else "all"
    return f"{words}; each {scope.per} is judged by itself" if scope.per else words


def _filter_words(where: ScopeFilter) -> Iterator[str]:
    for dimension, names in where.names().items():
        yield f"{dimension} {' or '.join(names)}"
    for key, text in where.finer().items():
        yield f"{key} {text}"


def _measured(indicator: LatencyIndicator | RollingPercentile) -> str:
    clock = indicator.measure
    if clock == "output_speed":
        return "successes whose time per output token is known, probes left out"
    streams = " that streamed" if clock == "ttft" else ""
    return f"successes{streams} whose {LATENCY_WORDS[clock]} is known, probes left out"


def _exclusion(exclusion: Exclusion) -> str:
    which = ", ".join(_filter_words(exclusion.where)) or "all requests"
    when = "always"
    if exclusion.from_s is not None and exclusion.to_s is not None:
        when = f"from {_instant(exclusion.from_s)} to {_instant(exclusion.to_s)}"
    return f"{which}, {when} ({exclusion.author}: {exclusion.reason})"


def _names(outcomes: Iterable[str]) -> str:
    return ", ".join(sorted(outcomes, key=OUTCOMES.index))


def _instant(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
