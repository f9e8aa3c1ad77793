"""Models and regions over the board's window, the worst first. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from exporters.board.facts import BreakdownRow, State
from exporters.board.objectives import RANK
from exporters.windows.measured import Measured
from slo.policy.burn_rates import BurnRateThreshold, burn_rate_thresholds
from slo.policy.conditions import BURN_MIN_FAILURES, RECOVERY_MARGIN
from slo.policy.indicators import RequestIndicator
from slo.policy.policy import ErrorBudgetObjective, LatencyThresholdObjective, Policy
from slo.policy.scope import Scope
from streams.state.registry import OTHER

ROWS_MAX = 20
_LATENCIES = ("ttft", "tpot")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the fleet is held against now; None, or absent, where no policy says so."""

    target_ratio: Fraction | None  # of requests that succeed
    burn: BurnRateThreshold | None  # the first that alerts, on losing that target
    latency_s: Mapping[str, float]  # P95 by latency
    fewest: Mapping[str, int]  # samples below which a P95 says nothing

    @property
    def failing_share(self) -> float | None:
        """Share of failures that spends the budget so fast that somebody is told."""
        if self.burn is None or self.target_ratio is None:
            return None
        return float(self.burn.factor * (1 - self.target_ratio))

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> "Limits":
        """The strictest of the fleet's objectives, as `slo.policy.targets` has them."""
        fleet = [one for policy in policies for one in policy.objectives if one.scope == Scope()]
        promises = [
            one
            for one in fleet
            if isinstance(one, ErrorBudgetObjective) and isinstance(one.indicator, RequestIndicator)
        ]
        strictest = max(promises, key=lambda one: one.target, default=None)
        levels = [] if strictest is None else burn_rate_thresholds(strictest)
        latencies = {
            measure: [
                one
                for one in fleet
                if isinstance(one, LatencyThresholdObjective)
                and (one.indicator.measure, one.indicator.percentile) == (measure, 95)
            ]
            for measure in _LATENCIES
        }
        return cls(
            target_ratio=None if strictest is None else strictest.target,
            burn=levels[0] if levels else None,
            latency_s={
                measure: min(level.above_us for one in found for level in one.levels) / 1e6
                for measure, found in latencies.items()
                if found
            },
            fewest={
                measure: min(one.indicator.min_samples for one in found)
                for measure, found in latencies.items()
                if found
            },
        )


def availability_state(one: Measured, limits: Limits) -> State:
    """Below the target it is at risk: the promise is about a longer time. Missed where failures
    spend the budget so fast that somebody is told."""
    ratio = one.availability_ratio
    if ratio is None or limits.target_ratio is None:
        return "unknown"
    # As a float it is just what the same ratio of counts is.
    if ratio >= float(limits.target_ratio):
        return "ok"
    fast = limits.failing_share
    is_many = one.failed >= BURN_MIN_FAILURES and fast is not None and 1 - ratio > fast
    return "breached" if is_many else "at_risk"


def latency_state(one: Measured, latency: str, limits: Limits) -> State:
    """Against the P95 that the fleet is held against."""
    limit_s, p95_s = limits.latency_s.get(latency), one.p95_s(latency)
    if limit_s is None or p95_s is None or one.samples[latency] < limits.fewest[latency]:
        return "unknown"
    if p95_s > limit_s:
        return "breached"
    return "at_risk" if p95_s > limit_s * float(1 - RECOVERY_MARGIN) else "ok"


def places(
    found: Mapping[str, Measured], fleet: Measured, limits: Limits
) -> tuple[BreakdownRow, ...]:
    """The worst first: by state, then by how much is wrong, then by traffic.

    No promise was made for a single place, so a slow one is only at risk as long as the fleet
    keeps its target.
    """
    ranked = sorted(
        ((_place(name, one, fleet, limits), one) for name, one in found.items()),
        key=lambda pair: (RANK[pair[0].state], -_badness(pair[1], limits), -pair[1].requests),
    )
    return tuple(place for place, _ in ranked[:ROWS_MAX])


def _place(name: str, one: Measured, fleet: Measured, limits: Limits) -> BreakdownRow:
    states = [availability_state(one, limits)]
    for latency in _LATENCIES:
        state = latency_state(one, latency, limits)
        if state == "breached" and latency_state(fleet, latency, limits) != "breached":
            state = "at_risk"
        states.append(state)
    known = [state for state in states if state != "unknown"]
    return BreakdownRow(
        name="others" if name == OTHER else name,
        requests=one.requests,
        eligible=one.eligible,
        availability_ratio=one.availability_ratio,
        ttft_p95_s=one.p95_s("ttft"),
        ttft_samples=one.samples.get("ttft", 0),
        tpot_p95_s=one.p95_s("tpot"),
        tpot_samples=one.samples.get("tpot", 0),
        cache_hit_ratio=one.cache_hit_ratio,
        state=min(known, key=lambda state: RANK[state], default="unknown"),
    )


def _badness(one: Measured, limits: Limits) -> float:
    """How far it is over what the fleet is held against; 1 is at the limit."""
    found = [0.0]
    if one.availability_ratio is not None and limits.target_ratio is not None:
        found.append((1 - one.availability_ratio) / float(1 - limits.target_ratio))
    for latency, limit_s in limits.latency_s.items():
        p95_s = one.p95_s(latency)
        if p95_s is not None and one.samples[latency] >= limits.fewest[latency]:
            found.append(p95_s / limit_s)
    return max(found)
