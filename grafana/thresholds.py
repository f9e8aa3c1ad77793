"""Where a number turns from good to bad: taken from the policies, never typed.

Pure. A step is a colour from a value upwards; the first has no value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models.dashboard import Threshold

from slo.policy.burn_rates import burn_rate_thresholds
from slo.policy.indicators import TokenVolumeDrop
from slo.policy.policy import ErrorBudgetObjective, Policy, ShareThresholdObjective
from slo.policy.scope import Scope
from slo.policy.targets import Targets, targets_of

GOOD, WARNING, BAD, BEST, PLAIN = "green", "orange", "red", "blue", "text"
UNKNOWN = "#808080"  # Grafana has no name for a grey that is legible in both themes

Steps = tuple[tuple[float | None, str], ...]
NEUTRAL: Steps = ((None, PLAIN),)


def bad_above(limit: float | None, warn_above: float | None = None) -> Steps:
    """Return steps: good below, bad from the limit on; neutral without a limit."""
    if limit is None:
        return NEUTRAL
    warning = () if warn_above is None or warn_above >= limit else ((warn_above, WARNING),)
    return ((None, GOOD), *warning, (limit, BAD))


def bad_below(limit: float | None, good_from: float | None = None) -> Steps:
    """Return steps: bad below the limit, good from it or from `good_from` on, a warning between."""
    if limit is None:
        return NEUTRAL
    if good_from is None or good_from <= limit:
        return ((None, BAD), (limit, GOOD))
    return ((None, BAD), (limit, WARNING), (good_from, GOOD))


def steps(of: Steps) -> list[Threshold]:
    """Return the thresholds in Grafana's form."""
    return [Threshold(value=value, color=color) for value, color in of]


@dataclass(frozen=True, slots=True)
class BoardLimits:
    """Thresholds of the fleet's numbers. Seconds, ratios from 0 to 1."""

    targets: Targets
    ttft: Steps
    tpot: Steps
    availability: Steps
    errors: Steps
    cache_hit: Steps
    burn: Steps
    volume: Steps
    volume_windows: tuple[str, str]  # watched, and the longer one it is compared with


def limits_of(policies: Sequence[Policy]) -> BoardLimits:
    """Return the thresholds that some policies set."""
    targets = targets_of(policies)
    burns = sorted(_fast_burns(policies))
    # A warning from the slowest rate that a rule watches, red from the fastest.
    burn_ends = (burns[0], burns[-1]) if burns else (None, None)
    volume, volume_windows = _volume(policies)
    # Rounded, as 1 - 0.999 is 0.0010000000000000009 as a float.
    budget = None if targets.availability_ratio is None else 1 - targets.availability_ratio
    return BoardLimits(
        targets=targets,
        ttft=bad_above(targets.ttft_p95_s),
        tpot=bad_above(targets.tpot_p95_s),
        availability=bad_below(targets.availability_ratio),
        errors=bad_above(None if budget is None else round(budget, 12)),
        cache_hit=_cache_steps(targets),
        burn=bad_above(burn_ends[1], burn_ends[0]),
        volume=volume,
        volume_windows=volume_windows,
    )


def _fast_burns(policies: Sequence[Policy]) -> list[float]:
    """Return the burn rates above which alerts on the fleet's objectives fire."""
    return [
        float(level.factor)
        for policy in policies
        for one in policy.objectives
        if isinstance(one, ErrorBudgetObjective) and one.scope == Scope() and one.severity != "none"
        for level in burn_rate_thresholds(one)
    ]


def _volume(policies: Sequence[Policy]) -> tuple[Steps, tuple[str, str]]:
    """Return the rule's limit of a drop in tokens, and the windows that it reads."""
    for policy in policies:
        for one in policy.objectives:
            if one.scope != Scope() or not isinstance(one, ShareThresholdObjective):
                continue
            if isinstance(one.indicator, TokenVolumeDrop):
                lowest = min(float(level.below) for level in one.levels)
                return bad_below(lowest), (one.indicator.window, one.indicator.baseline)
    # Without a rule the panel compares these two.
    return NEUTRAL, ("5m", "1h")


def _cache_steps(targets: Targets) -> Steps:
    page, ticket = targets.cache_hit_page_ratio, targets.cache_hit_ticket_ratio
    # Below the page threshold is bad; between it and the ticket's is a warning.
    judged = bad_below(page, ticket) if page is not None else bad_below(ticket)
    # A band below the thresholds has nothing to be better than.
    best = [
        float(band.from_ratio)
        for band in targets.cache_hit_bands
        if float(band.from_ratio) > max(ticket or 0, page or 0)
    ]
    return (*judged, *((edge, BEST) for edge in sorted(best)))
