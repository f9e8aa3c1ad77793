"""Models and regions over the board's window, the worst first, and their attempts. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from exporters.board.facts import Amounts, BreakdownRow, ModelDetails, RequestDetails, State
from exporters.board.input import BoardInput
from exporters.board.objectives import RANK
from exporters.board.thresholds import latency_state
from exporters.place_links import OTHERS
from exporters.windows.counters import amounts, attempts
from exporters.windows.measured import Measured
from slo.policy.burn_rates import BurnRateThreshold, burn_rate_thresholds
from slo.policy.conditions import BURN_MIN_FAILURES
from slo.policy.indicators import RequestIndicator
from slo.policy.policy import ErrorBudgetObjective, LatencyThresholdObjective, Policy
from slo.policy.scope import Scope
from streams.events.fields import CLIENT_CLASSES, ENDINGS
from streams.state.registry import OTHER
from streams.state.slices import CLIENT_AT, ENDINGS_AT, TIER_CHANGED_AT

ROWS_MAX = 20
DETAIL_ROWS_MAX = 10
_LATENCIES = ("ttft", "tpot")


@dataclass(frozen=True, slots=True)
class FleetTargets:
    """The targets of the fleet that values are compared with; None or absent without a policy."""

    target_ratio: Fraction | None  # of requests that succeed
    burn: BurnRateThreshold | None  # the fastest of that target
    latency_us: Mapping[str, int]  # P95 by latency
    min_samples: Mapping[str, int]  # below which a P95 is unknown

    @property
    def failing_share(self) -> float | None:
        """Return the failed share that spends the budget at the rate of the fastest alert."""
        if self.burn is None or self.target_ratio is None:
            return None
        return float(self.burn.factor * (1 - self.target_ratio))

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> "FleetTargets":
        """Return the strictest of the fleet's objectives, like `slo.policy.targets`."""
        fleet = [
            objective
            for policy in policies
            for objective in policy.objectives
            if objective.scope == Scope()
        ]
        strictest = max(
            (
                objective
                for objective in fleet
                if isinstance(objective, ErrorBudgetObjective)
                and isinstance(objective.indicator, RequestIndicator)
            ),
            key=lambda objective: objective.target,
            default=None,
        )
        # The first threshold is the fastest: it sets from when on failures are shown as missed.
        burns = [] if strictest is None else burn_rate_thresholds(strictest)
        latency_us: dict[str, int] = {}
        min_samples: dict[str, int] = {}
        for objective in fleet:
            if not isinstance(objective, LatencyThresholdObjective):
                continue
            indicator = objective.indicator
            measure = indicator.measure
            # The columns are P95 values, so other percentiles have no place to be compared in.
            if measure in _LATENCIES and indicator.percentile == 95:
                limits_us = [level.above_us for level in objective.levels]
                latency_us[measure] = min(*limits_us, latency_us.get(measure, limits_us[0]))
                min_samples[measure] = min(
                    indicator.min_samples, min_samples.get(measure, indicator.min_samples)
                )
        return cls(
            target_ratio=None if strictest is None else strictest.target,
            burn=burns[0] if burns else None,
            latency_us=latency_us,
            min_samples=min_samples,
        )


def availability_state(measured: Measured, targets: FleetTargets) -> State:
    """Return "at_risk" below the target, as the objective is about a longer period.

    "breached" if the failures spend the error budget at the rate of the fastest alert.
    """
    ratio = measured.availability_ratio
    if ratio is None or targets.target_ratio is None:
        return "unknown"
    # As floats: the ratio of the counts is rounded in the same way as the target.
    if ratio >= float(targets.target_ratio):
        return "ok"
    fast = targets.failing_share
    is_many = measured.failed >= BURN_MIN_FAILURES and fast is not None and 1 - ratio > fast
    return "breached" if is_many else "at_risk"


def p95_state(measured: Measured, latency: str, targets: FleetTargets) -> State:
    """Return the state of a P95 against the target of the fleet."""
    limit_us, p95_s = targets.latency_us.get(latency), measured.p95_s(latency)
    if limit_us is None or p95_s is None:
        return "unknown"
    if measured.samples[latency] < targets.min_samples[latency]:
        return "unknown"
    return latency_state(p95_s, [limit_us])


def breakdown(
    groups: Mapping[str, Measured], fleet: Measured, targets: FleetTargets
) -> tuple[BreakdownRow, ...]:
    """Return the rows of the models or regions: by state, then by badness, then by traffic.

    No policy sets a target for a single row, so a slow one is only at risk as long as the fleet
    meets its target.
    """
    ranked = sorted(
        (
            (breakdown_row(name, measured, fleet, targets), measured)
            for name, measured in groups.items()
        ),
        key=lambda pair: (RANK[pair[0].state], -_badness(pair[1], targets), -pair[1].requests),
    )
    return tuple(row for row, _ in ranked[:ROWS_MAX])


def breakdown_row(
    name: str, measured: Measured, fleet: Measured, targets: FleetTargets
) -> BreakdownRow:
    """Return one row with its state: the worst of its known measures."""
    states = {"availability": availability_state(measured, targets)}
    for latency in _LATENCIES:
        state = p95_state(measured, latency, targets)
        # A single slow row does not break the fleet's objective.
        if state == "breached" and p95_state(fleet, latency, targets) != "breached":
            state = "at_risk"
        states[latency] = state
    # One unknown measure does not hide that another is missed.
    known_states = [state for state in states.values() if state != "unknown"]
    return BreakdownRow(
        name=OTHERS if name == OTHER else name,
        requests=measured.requests,
        eligible=measured.eligible,
        availability_ratio=measured.availability_ratio,
        ttft_p95_s=measured.p95_s("ttft"),
        ttft_samples=measured.samples.get("ttft", 0),
        tpot_p95_s=measured.p95_s("tpot"),
        tpot_samples=measured.samples.get("tpot", 0),
        cache_hit_ratio=measured.cache_hit_ratio,
        state=min(known_states, key=lambda state: RANK[state], default="unknown"),
        ttft_known_ratio=measured.ttft_known_ratio,
        cached_known_ratio=measured.cached_known_ratio,
        tokens_known_ratio=measured.tokens_known_ratio,
        missed=tuple(name for name, state in states.items() if state in ("at_risk", "breached")),
    )


def _badness(measured: Measured, targets: FleetTargets) -> float:
    """Return the worst measure as a multiple of its target; 1 is at the target."""
    multiples = [0.0]
    if measured.availability_ratio is not None and targets.target_ratio is not None:
        multiples.append((1 - measured.availability_ratio) / float(1 - targets.target_ratio))
    for latency, limit_us in targets.latency_us.items():
        p95_s = measured.p95_s(latency)
        if p95_s is not None and measured.samples[latency] >= targets.min_samples[latency]:
            multiples.append(p95_s * 1e6 / limit_us)
    return max(multiples)


# -- what few gateways send: attempts, the first visible token, endings ---------------------------


def request_details(reading: BoardInput, window: str) -> RequestDetails | None:
    """Return the details of a window; None if no event in it has such a field."""
    fleet = reading.windows[window]["fleet"]
    by_model = _model_details(reading, window)
    details = RequestDetails(
        models=tuple(sorted(by_model, key=_rank)[:DETAIL_ROWS_MAX]),
        has_attempts=bool(attempts(fleet)),
        has_first_visible=any(row.first_visible_samples for row in by_model),
        endings=_ranked(amounts(fleet, ENDINGS_AT, ENDINGS).get(0, {})),
        client_errors=_ranked(amounts(fleet, CLIENT_AT, CLIENT_CLASSES).get(0, {})),
        tier_changed=amounts(fleet, TIER_CHANGED_AT, ("changed",)).get(0, {}).get("changed", 0),
    )
    has_any = details.models or details.endings or details.client_errors or details.tier_changed
    return details if has_any else None


def _model_details(reading: BoardInput, window: str) -> list[ModelDetails]:
    """Return the models whose attempts are not their requests, or with a first visible token."""
    measured = reading.by_name(window, "model")
    names = reading.names["model"]
    views = {
        names[group][0]: view for group, view in attempts(reading.windows[window]["model"]).items()
    }
    rows = []
    for name in {**measured, **views}:
        requests, view = measured.get(name, Measured()), views.get(name)
        row = ModelDetails(
            name=OTHERS if name == OTHER else name,
            requests=requests.requests,
            availability_ratio=requests.availability_ratio,
            attempts=requests.requests if view is None else view.requests,
            provider_availability_ratio=(
                requests.availability_ratio if view is None else view.availability_ratio
            ),
            ttft_p95_s=requests.p95_s("ttft"),
            first_visible_p95_s=requests.p95_s("first_visible"),
            first_visible_samples=requests.samples.get("first_visible", 0),
        )
        # Two numbers that are equal by chance may be of different requests.
        requested = row.requests, row.availability_ratio
        answered = row.attempts, row.provider_availability_ratio
        if requested != answered or row.first_visible_samples:
            rows.append(row)
    return rows


def _rank(row: ModelDetails) -> tuple[float, int, str]:
    """Order models by the availability of their provider, the worst first."""
    ratio = row.provider_availability_ratio
    return 1.0 if ratio is None else ratio, -row.attempts, row.name


def _ranked(amounts_by_name: dict[str, int]) -> Amounts:
    return tuple(sorted(amounts_by_name.items(), key=lambda pair: (-pair[1], pair[0])))
