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
    """The targets of the fleet that values are compared with; None or absent without a policy."""

    target_ratio: Fraction | None  # of requests that succeed
    burn: BurnRateThreshold | None  # the fastest of that target
    latency_s: Mapping[str, float]  # P95 by latency
    min_samples: Mapping[str, int]  # below which a P95 is unknown

    @property
    def failing_share(self) -> float | None:
        """Share of failures that spends the error budget at the rate of the fastest alert."""
        if self.burn is None or self.target_ratio is None:
            return None
        return float(self.burn.factor * (1 - self.target_ratio))

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> "Limits":
        """Return the strictest of the fleet's objectives, like `slo.policy.targets`."""
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
            min_samples={
                measure: min(one.indicator.min_samples for one in found)
                for measure, found in latencies.items()
                if found
            },
        )


def availability_state(one: Measured, limits: Limits) -> State:
    """Return "at_risk" below the target, as the objective is about a longer period.

    "breached" if the failures spend the error budget at the rate of the fastest alert.
    """
    ratio = one.availability_ratio
    if ratio is None or limits.target_ratio is None:
        return "unknown"
    # As floats: the ratio of the counts is rounded in the same way as the target.
    if ratio >= float(limits.target_ratio):
        return "ok"
    fast = limits.failing_share
    is_many = one.failed >= BURN_MIN_FAILURES and fast is not None and 1 - ratio > fast
    return "breached" if is_many else "at_risk"


def latency_state(one: Measured, latency: str, limits: Limits) -> State:
    """Return the state of a P95 against the target of the fleet."""
    limit_s, p95_s = limits.latency_s.get(latency), one.p95_s(latency)
    if limit_s is None or p95_s is None or one.samples[latency] < limits.min_samples[latency]:
        return "unknown"
    if p95_s > limit_s:
        return "breached"
    return "at_risk" if p95_s > limit_s * float(1 - RECOVERY_MARGIN) else "ok"


def breakdown(
    groups: Mapping[str, Measured], fleet: Measured, limits: Limits
) -> tuple[BreakdownRow, ...]:
    """Return the rows of the models or regions: by state, then by badness, then by traffic.

    No policy sets a target for a single row, so a slow one is only at risk as long as the fleet
    meets its target.
    """
    ranked = sorted(
        ((_row(name, measured, fleet, limits), measured) for name, measured in groups.items()),
        key=lambda pair: (RANK[pair[0].state], -_badness(pair[1], limits), -pair[1].requests),
    )
    return tuple(row for row, _ in ranked[:ROWS_MAX])


def _row(name: str, one: Measured, fleet: Measured, limits: Limits) -> BreakdownRow:
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
    """Return the worst measure as a multiple of its target; 1 is at the target."""
    found = [0.0]
    if one.availability_ratio is not None and limits.target_ratio is not None:
        found.append((1 - one.availability_ratio) / float(1 - limits.target_ratio))
    for latency, limit_s in limits.latency_s.items():
        p95_s = one.p95_s(latency)
        if p95_s is not None and one.samples[latency] >= limits.min_samples[latency]:
            found.append(p95_s / limit_s)
    return max(found)
