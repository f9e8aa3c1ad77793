"""The status of threshold objectives: the value of a window, and its alert.

Pure. The state compares the value with the thresholds of the policy; the alert is the rules' own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from exporters.board.facts import State
from exporters.board.input import BoardInput, can_answer
from exporters.windows.measured import Measured
from slo.alert_state import AlertState
from slo.policy.conditions import BASELINE_MIN_REQUESTS, RECOVERY_MARGIN, windows_of
from slo.policy.indicators import CacheHitRatio, TokenVolumeDrop
from slo.policy.policy import (
    LatencyThresholdObjective,
    Policy,
    ShareThresholdObjective,
)
from slo.policy.selection import Selection
from streams.state.windows import ROLLING_S

DROP_SCOPES = ("region", "model", "channel", "service_tier")  # scopes by which a drop is localised
_EMPTY = Measured()

ThresholdObjective = LatencyThresholdObjective | ShareThresholdObjective


@dataclass(frozen=True, slots=True)
class ThresholdStatus:
    """One threshold objective, for one name."""

    policy: Policy
    objective: ThresholdObjective
    name: str  # of the scope's `per` dimension; empty without
    value: float | None  # seconds, or a ratio
    samples: int  # requests, or tokens, behind the value
    state: State
    alert: AlertState | None  # the most urgent active one
    shorter: tuple[str, float] | None  # a shorter window and the value there
    known_ratio: float | None = None  # share of the input tokens for which a hit ratio is known


class _Measurement(NamedTuple):
    value: float | None
    samples: int
    is_enough: bool  # samples, for the value to be judged
    shorter: tuple[str, float] | None = None
    known_ratio: float | None = None


def threshold_statuses(policies: Iterable[Policy], reading: BoardInput) -> list[ThresholdStatus]:
    """Return every threshold objective, for every name."""
    return [
        status
        for policy in policies
        for objective in policy.objectives
        if isinstance(objective, ThresholdObjective)
        for status in _statuses(policy, objective, reading)
    ]


def _statuses(
    policy: Policy, objective: ThresholdObjective, reading: BoardInput
) -> Iterator[ThresholdStatus]:
    for name, measurement in _measurements(objective, reading):
        active = reading.alerts.of(policy, objective, name)
        yield ThresholdStatus(
            policy,
            objective,
            name,
            measurement.value,
            measurement.samples,
            _state(objective, measurement),
            active[0] if active else None,
            measurement.shorter,
            measurement.known_ratio,
        )


def _measurements(
    objective: ThresholdObjective, reading: BoardInput
) -> Iterator[tuple[str, _Measurement]]:
    if isinstance(objective, LatencyThresholdObjective):
        return _latencies(objective, reading)
    indicator = objective.indicator
    if isinstance(indicator, CacheHitRatio):
        return _cache_hits(objective, indicator, reading)
    return _token_volumes(objective, indicator, reading)


def _latencies(
    objective: LatencyThresholdObjective, reading: BoardInput
) -> Iterator[tuple[str, _Measurement]]:
    indicator = objective.indicator
    percentile = indicator.measure, indicator.percentile / 100
    # The first window is the objective's; shorter ones show whether it still describes the
    # present.
    now, *shorter = (
        reading.groups(objective.scope, window) for window in windows_of(indicator.window)
    )
    for name, measured in now.items():
        samples = measured.samples.get(indicator.measure, 0)
        short = [window.get(name, _EMPTY).quantiles_s.get(percentile) for window in shorter]
        yield (
            name,
            _Measurement(
                measured.quantiles_s.get(percentile),
                samples,
                samples >= indicator.min_samples,
                _shorter(indicator.window, short),
            ),
        )


def _cache_hits(
    objective: ShareThresholdObjective, indicator: CacheHitRatio, reading: BoardInput
) -> Iterator[tuple[str, _Measurement]]:
    now, *shorter = (
        reading.groups(objective.scope, window) for window in windows_of(indicator.window)
    )
    for name, measured in now.items():
        short = [window.get(name, _EMPTY).cache_hit_ratio for window in shorter]
        yield (
            name,
            _Measurement(
                measured.cache_hit_ratio,
                measured.cached_of_tokens,
                # Both limits, as in the rule: few tokens, or few that report their cached part,
                # judge nothing.
                measured.cached_of_tokens >= indicator.min_input_tokens
                and (measured.cached_known_ratio or 0) >= indicator.min_known_ratio,
                _shorter(indicator.window, short),
                measured.cached_known_ratio,
            ),
        )


def _token_volumes(
    objective: ShareThresholdObjective, indicator: TokenVolumeDrop, reading: BoardInput
) -> Iterator[tuple[str, _Measurement]]:
    now = reading.groups(objective.scope, indicator.window)
    times = Fraction(ROLLING_S[indicator.baseline], ROLLING_S[indicator.window])
    for name, baseline in reading.groups(objective.scope, indicator.baseline).items():
        # A share of an empty baseline is unknown, not 0.
        share = None
        if baseline.tokens:
            share = float(Fraction(now.get(name, _EMPTY).tokens, baseline.tokens) * times)
        is_enough = (
            baseline.tokens >= indicator.min_baseline_tokens
            # A few long requests may have many tokens: their number says little about the traffic.
            and baseline.requests >= BASELINE_MIN_REQUESTS * times
        )
        yield name, _Measurement(share, baseline.tokens, is_enough)


def _state(objective: ThresholdObjective, measurement: _Measurement) -> State:
    """Return "breached" past the last threshold, "at_risk" past a milder one or near the only one.

    "unknown" with too few samples.
    """
    value = measurement.value
    # The rules need as many samples, so that no row is red for which no alert could fire.
    if value is None or not measurement.is_enough:
        return "unknown"
    if isinstance(objective, LatencyThresholdObjective):
        return latency_state(value, [level.above_us for level in objective.levels])
    crossed = sum(value < float(level.below) for level in objective.levels)
    if crossed == len(objective.levels):
        return "breached"
    return "at_risk" if crossed else "ok"


def latency_state(value_s: float, limits_us: Sequence[int]) -> State:
    """Return "breached" above all limits, "at_risk" above one of them or near the lowest."""
    if value_s > max(limits_us) / 1e6:
        return "breached"
    is_near = value_s > min(limits_us) * (1 - RECOVERY_MARGIN) / 10**6
    return "at_risk" if is_near else "ok"


def objective_windows(policies: Iterable[Policy]) -> Iterator[tuple[str, str]]:
    """Yield (window, scope) of all sums that `threshold_statuses` and the localisation read."""
    for policy in policies:
        for objective in policy.objectives:
            if not isinstance(objective, ThresholdObjective) or not can_answer(objective.scope):
                continue
            indicator, scopes = objective.indicator, {Selection.of(objective.scope).scope}
            windows = windows_of(indicator.window)
            if isinstance(indicator, TokenVolumeDrop):
                windows = (indicator.window, indicator.baseline)
                # A drop of the fleet is localised by these scopes.
                scopes.update(DROP_SCOPES)
            yield from ((window, scope) for window in windows for scope in scopes)


def _shorter(window: str, values: list[float | None]) -> tuple[str, float] | None:
    if values and values[0] is not None:
        return windows_of(window)[1], values[0]
    return None
