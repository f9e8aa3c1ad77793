"""Threshold objectives, judged from the windows their policies name, by the rules' conditions.

Pure. The alert waits (`for`) before it fires; the board tells at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from exporters.board.facts import State
from exporters.board.input import Reading, can_answer
from exporters.windows.measured import Measured
from slo.policy.conditions import BASELINE_MIN_REQUESTS, RECOVERY_MARGIN, windows_of
from slo.policy.indicators import CacheHitRatio, TokenVolumeDrop
from slo.policy.policy import (
    LatencyThreshold,
    LatencyThresholdObjective,
    Policy,
    ShareThreshold,
    ShareThresholdObjective,
)
from slo.policy.selection import Selection
from streams.state.windows import ROLLING_S

DROP_SCOPES = ("region", "model", "channel", "service_tier")  # scopes by which a drop is looked for
_NOTHING = Measured()


@dataclass(frozen=True, slots=True)
class ThresholdStatus:
    """One objective with levels, for one name."""

    policy: Policy
    objective: LatencyThresholdObjective | ShareThresholdObjective
    name: str  # of the scope's `per` dimension; empty without
    value: float | None  # seconds, or a ratio
    samples: int  # requests, or tokens, behind it
    state: State
    level: LatencyThreshold | ShareThreshold | None  # the most urgent that alerts
    shorter: tuple[str, float] | None = None  # a shorter window and the value there


def threshold_statuses(policies: Iterable[Policy], reading: Reading) -> list[ThresholdStatus]:
    """Every objective with levels, for every name."""
    found: list[ThresholdStatus] = []
    for policy in policies:
        for objective in policy.objectives:
            if isinstance(objective, LatencyThresholdObjective):
                found += _latency(policy, objective, reading)
            elif isinstance(objective, ShareThresholdObjective):
                indicator = objective.indicator
                if isinstance(indicator, CacheHitRatio):
                    found += _cache_hit(policy, objective, indicator, reading)
                else:
                    found += _token_volume(policy, objective, indicator, reading)
    return found


def windows_needed(policies: Iterable[Policy]) -> Iterator[tuple[str, str]]:
    """(window, scope) of all sums that `threshold_statuses` looks at."""
    for policy in policies:
        for objective in policy.objectives:
            if not isinstance(
                objective, LatencyThresholdObjective | ShareThresholdObjective
            ) or not can_answer(objective.scope):
                continue
            indicator, scopes = objective.indicator, {Selection.of(objective.scope).scope}
            windows = windows_of(indicator.window)
            if isinstance(indicator, TokenVolumeDrop):
                windows = (indicator.window, indicator.baseline)
                scopes.update(DROP_SCOPES)
            yield from ((window, scope) for window in windows for scope in scopes)


def _latency(
    policy: Policy, objective: LatencyThresholdObjective, reading: Reading
) -> Iterator[ThresholdStatus]:
    indicator = objective.indicator
    asked = indicator.measure, indicator.percentile / 100
    now, *shorter = (
        reading.selected(objective.scope, window) for window in windows_of(indicator.window)
    )
    levels = sorted(objective.levels, key=lambda level: -level.above_us)
    for name, one in now.items():
        value, samples = one.quantiles_s.get(asked), one.samples.get(indicator.measure, 0)
        if value is None or samples < indicator.min_samples:
            yield ThresholdStatus(policy, objective, name, value, samples, "unknown", None)
            continue
        short = [window.get(name, _NOTHING).quantiles_s.get(asked) for window in shorter]
        over = [level for level in levels if value > level.above_us / 1e6]
        alerting = [
            level
            for level in over
            if all(
                recent is not None and recent > level.above_us * (1 - RECOVERY_MARGIN) / 10**6
                for recent in short
            )
        ]
        is_near = value > levels[-1].above_us * (1 - RECOVERY_MARGIN) / 10**6
        yield ThresholdStatus(
            *(policy, objective, name, value, samples),
            state=_state(len(over), len(levels), is_near),
            level=alerting[0] if alerting else None,
            shorter=_shorter(indicator.window, short),
        )


def _cache_hit(
    policy: Policy, objective: ShareThresholdObjective, indicator: CacheHitRatio, reading: Reading
) -> Iterator[ThresholdStatus]:
    now, *shorter = (
        reading.selected(objective.scope, window) for window in windows_of(indicator.window)
    )
    levels = sorted(objective.levels, key=lambda level: level.below)
    for name, one in now.items():
        if one.cache_hit_ratio is None or one.input_tokens < indicator.min_input_tokens:
            yield ThresholdStatus(
                *(policy, objective, name, one.cache_hit_ratio, one.input_tokens, "unknown", None)
            )
            continue
        short = [window.get(name, _NOTHING).cache_hit_ratio for window in shorter]
        below = [level for level in levels if one.cache_hit_ratio < float(level.below)]
        alerting = [
            level
            for level in below
            if all(
                recent is not None and recent < level.below * (1 + RECOVERY_MARGIN)
                for recent in short
            )
        ]
        yield ThresholdStatus(
            *(policy, objective, name, one.cache_hit_ratio, one.input_tokens),
            state=_state(len(below), len(levels), False),
            level=alerting[0] if alerting else None,
            shorter=_shorter(indicator.window, short),
        )


def _token_volume(
    policy: Policy, objective: ShareThresholdObjective, indicator: TokenVolumeDrop, reading: Reading
) -> Iterator[ThresholdStatus]:
    now = reading.selected(objective.scope, indicator.window)
    times = Fraction(ROLLING_S[indicator.baseline], ROLLING_S[indicator.window])
    levels = sorted(objective.levels, key=lambda level: level.below)
    for name, usual in reading.selected(objective.scope, indicator.baseline).items():
        too_few = (
            usual.tokens < indicator.min_baseline_tokens
            or usual.requests < BASELINE_MIN_REQUESTS * times
        )
        share = None
        if usual.tokens:
            share = float(Fraction(now.get(name, _NOTHING).tokens, usual.tokens) * times)
        if share is None or too_few:
            yield ThresholdStatus(policy, objective, name, share, usual.tokens, "unknown", None)
            continue
        below = [level for level in levels if share < float(level.below)]
        yield ThresholdStatus(
            *(policy, objective, name, share, usual.tokens),
            state=_state(len(below), len(levels), False),
            level=below[0] if below else None,
        )


def _state(crossed: int, levels: int, is_near: bool) -> State:
    """Past the last level it is missed; past a milder one, or near the only one, at risk."""
    if crossed == levels:
        return "breached"
    return "at_risk" if crossed or is_near else "ok"


def _shorter(window: str, values: list[float | None]) -> tuple[str, float] | None:
    if values and values[0] is not None:
        return windows_of(window)[1], values[0]
    return None
