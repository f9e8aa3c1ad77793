"""How many requests an objective matches in a stretch of time, to check its scope.

Pure.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from slo.engine.counting import RequestSelection
from slo.policy.indicators import RequestIndicator, RequestRatio
from slo.policy.policy import ErrorBudgetObjective, Objective, Policy
from slo.policy.scope import RollingDays
from streams.events.fields import OUTCOMES
from streams.state.registry import CustomerKey, SeriesKey
from streams.state.slices import Aggregate


@dataclass(frozen=True, slots=True)
class Matches:
    """Requests of an objective."""

    requests: int  # of any outcome, exclusions and synthetic checks left out
    probes: int  # synthetic checks of the same scope, 0 if the indicator leaves them out
    names: int  # of the scope's `per` dimension; 1 without one
    counted: int | None  # that the indicator counts; None for a threshold over a window
    bad: int | None


def count_matches(
    policy: Policy,
    objective: Objective,
    steps: Mapping[int, Aggregate],
    step_s: int,
    series: Sequence[SeriesKey],
    customers: Sequence[CustomerKey],
    token_of: Callable[[str], str],
    apart_tiers: Collection[str],
) -> Matches:
    """Return the matches of an objective; `steps`: the state by start of each step, in seconds.

    `token_of`: customer id -> its token in the state. A step that is partly excluded counts.
    """
    kept = [
        (start_s, aggregate)
        for start_s, aggregate in steps.items()
        if not any(
            one.where.selects_all
            # Exclusions of some of the requests are left to the selection below.
            and (one.from_s or 0) <= start_s
            and start_s + step_s <= (one.to_s or 0)
            for one in policy.exclusions_of(objective)
        )
    ]

    def total(of: ErrorBudgetObjective) -> dict[str, list[int]]:
        selection = RequestSelection(policy, of, token_of, apart_tiers)
        sums: dict[str, list[int]] = {}
        for start_s, aggregate in kept:
            counts = selection.count(aggregate, series, customers, start_s, start_s + step_s)
            for name, (counted, bad) in counts.items():
                pair = sums.setdefault(name, [0, 0])
                pair[0] += counted
                pair[1] += bad
        return sums

    matched = total(_everything(objective, probes=False))
    requests = sum(pair[0] for pair in matched.values())
    counted = total(objective) if isinstance(objective, ErrorBudgetObjective) else None
    probes = 0
    if isinstance(objective, ErrorBudgetObjective) and _counts_probes(objective):
        both = total(_everything(objective, probes=True))
        probes = sum(pair[0] for pair in both.values()) - requests
    return Matches(
        requests=requests,
        probes=probes,
        names=len(matched),
        counted=None if counted is None else sum(pair[0] for pair in counted.values()),
        bad=None if counted is None else sum(pair[1] for pair in counted.values()),
    )


def _everything(objective: Objective, probes: bool) -> ErrorBudgetObjective:
    """Return an objective that counts each request of the same scope, with any outcome."""
    # Only its scope and exclusions matter; target and period must be there and are not used.
    return ErrorBudgetObjective(
        name=objective.name,
        scope=objective.scope,
        exclusions=objective.exclusions,
        indicator=RequestRatio(kind="request_ratio", eligible=frozenset(OUTCOMES), probes=probes),
        target="99%",
        period=RollingDays(rolling_days=1),
    )


def _counts_probes(objective: ErrorBudgetObjective) -> bool:
    return isinstance(objective.indicator, RequestIndicator) and objective.indicator.probes
