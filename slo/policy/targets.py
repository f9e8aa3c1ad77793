"""Targets of the fleet from the policies in force, for boards, panels and marks.

Pure. A board shows one line "target" beside each number; the policies may hold many objectives.
These are the targets of the whole fleet; of several, the strictest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from slo.policy.indicators import (
    CacheHitRatio,
    Latency,
    MinuteUptime,
    RequestRatio,
    SliceRatioMean,
)
from slo.policy.policy import (
    Band,
    ErrorBudgetObjective,
    LatencyThresholdObjective,
    Policy,
    ShareThresholdObjective,
)
from slo.policy.scope import Scope
from slo.policy.units import percent_text

_AVAILABILITY = (RequestRatio, MinuteUptime, SliceRatioMean)


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of the fleet; None if no policy sets one. Seconds, ratios from 0 to 1."""

    ttft_p95_s: float | None = None  # met below it
    tpot_p95_s: float | None = None
    availability_ratio: float | None = None  # met at it and above
    cache_hit_ticket_ratio: float | None = None  # below it a ticket
    cache_hit_page_ratio: float | None = None  # below it a page: a failure
    cache_hit_bands: tuple[Band, ...] = ()  # stretches with a name, such as best in class


def targets_of(policies: Iterable[Policy]) -> Targets:
    """Return the fleet's targets in some policies."""
    # A target of one model or customer would be wrong beside a number of the fleet.
    objectives = [one for policy in policies for one in policy.objectives if one.scope == Scope()]
    caches = [
        one
        for one in objectives
        if isinstance(one, ShareThresholdObjective) and isinstance(one.indicator, CacheHitRatio)
    ]
    return Targets(
        ttft_p95_s=_latency_s(objectives, "ttft"),
        tpot_p95_s=_latency_s(objectives, "tpot"),
        availability_ratio=max(
            (
                float(one.target)
                for one in objectives
                if isinstance(one, ErrorBudgetObjective)
                and isinstance(one.indicator, _AVAILABILITY)
            ),
            default=None,
        ),
        cache_hit_ticket_ratio=_level(caches, "ticket"),
        cache_hit_page_ratio=_level(caches, "page"),
        # Bands of several policies would overlap, so the first that has any gives them.
        cache_hit_bands=next((one.bands for one in caches if one.bands), ()),
    )


def band_text(band: Band) -> str:
    """Return a band in words: `best in class: 40% to 60%`."""
    return f"{band.name}: {percent_text(band.from_ratio)} to {percent_text(band.to_ratio)}"


def _latency_s(objectives: Sequence[object], measure: Latency) -> float | None:
    return min(
        (
            min(level.above_us for level in one.levels) / 1e6
            for one in objectives
            if isinstance(one, LatencyThresholdObjective)
            and one.indicator.measure == measure
            # The boards show the P95; a target of another percentile is no limit for it.
            and one.indicator.percentile == 95
        ),
        default=None,
    )


def _level(caches: Sequence[ShareThresholdObjective], severity: str) -> float | None:
    found: list[Fraction] = [
        level.below for one in caches for level in one.levels if level.severity == severity
    ]
    return float(max(found)) if found else None
