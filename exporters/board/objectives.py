"""How every objective stands, and the days of those about availability.

Pure. Error budgets come from the SLO engine, thresholds from thresholds.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from fractions import Fraction

from exporters import formatting as fmt
from exporters.board.alerts import BURN, ActiveAlerts
from exporters.board.facts import BUDGET_NEARLY_GONE, HistoryStrip, ObjectiveRow, State, UptimeDay
from exporters.board.input import BoardInput
from exporters.board.thresholds import ThresholdStatus
from slo.engine.minute_counts import DAY
from slo.engine.report import ObjectiveResult
from slo.policy.burn_rates import BurnRateThreshold, burn_rate_thresholds
from slo.policy.indicators import (
    CacheHitRatio,
    RequestIndicator,
    ShareIndicator,
)
from slo.policy.policy import (
    ErrorBudgetObjective,
    LatencyThresholdObjective,
    Objective,
    Policy,
    ShareThresholdObjective,
)
from slo.policy.scope import Scope

RANK: dict[State, int] = {"breached": 0, "at_risk": 1, "unknown": 2, "ok": 3}
HISTORY_DAYS = 30
STRIPS_MAX = 12
# Of one objective: a contract with every customer must not bury the fleet. The worst are shown.
NAMES_MAX = 10

NameOf = Callable[[str], str]  # token of a customer -> its name


def objective_statuses(
    policies: Iterable[Policy],
    levels: Sequence[ThresholdStatus],
    reading: BoardInput,
    name_of: NameOf,
) -> tuple[ObjectiveRow, ...]:
    """Return all objectives, the worst first."""
    states = [_budget_status(one, reading.alerts, name_of) for one in reading.results or ()]
    states += [_threshold_status(one, name_of) for one in levels]
    known = {(one.policy, one.objective) for one in states}
    for policy in policies:
        for objective in policy.objectives:
            # Objectives without results yet (the first reading is under way) are shown as unknown.
            if (policy.name, objective.name) not in known and objective.scope.per is None:
                states.append(_unknown(policy, objective))
    # The least budget left is the worst of equal states.
    states.sort(key=lambda one: (RANK[one.state], _budget(one), one.policy, one.objective))
    shown = Counter[tuple[str, str]]()
    kept = []
    for one in states:
        shown[one.policy, one.objective] += 1
        if shown[one.policy, one.objective] <= NAMES_MAX:
            kept.append(one)
    return tuple(kept)


def scope_words(scope: Scope, name: str, name_of: NameOf) -> str:
    """Return a scope in words: `fleet`, `model a`, `region eu-west-1, tier batch`."""
    parts = {dimension: list(names) for dimension, names in scope.names().items()}
    if scope.per is not None:
        parts[scope.per] = [name_of(name) if scope.per == "customer" else name]
    return (
        ", ".join(
            f"{'tier' if dimension == 'service_tier' else dimension} {fmt.enumeration(names)}"
            for dimension, names in parts.items()
        )
        or "fleet"
    )


def burning(result: ObjectiveResult, alerts: ActiveAlerts) -> BurnRateThreshold | None:
    """Return the most urgent threshold whose alert says that the error budget burns too fast."""
    for alert in alerts.of(result.policy, result.objective, result.name):
        if alert.alert == BURN:
            window = alert.rule_labels["window"]
            thresholds = burn_rate_thresholds(result.objective)
            return next(threshold for threshold in thresholds if threshold.long == window)
    return None


def history_strips(reading: BoardInput, name_of: NameOf) -> tuple[HistoryStrip, ...]:
    """Return the availability objectives day by day."""
    return tuple(
        HistoryStrip(
            policy=one.policy.name,
            objective=one.objective.name,
            scope=result_scope(one, name_of),
            target_ratio=float(one.objective.target),
            days=tuple(_days(one, reading)),
        )
        for one in history_objectives(reading.results or ())
    )


def history_objectives(found: Iterable[ObjectiveResult]) -> list[ObjectiveResult]:
    """Return the objectives with a strip: the fleet's first, then by the budget left."""
    about = [one for one in found if isinstance(one.objective.indicator, RequestIndicator)]
    # A fleet's own objectives stay on top, however well they stand.
    about.sort(key=lambda one: (one.objective.scope != Scope(), _left(one)))
    return about[:STRIPS_MAX]


def _days(one: ObjectiveResult, reading: BoardInput) -> Iterator[UptimeDay]:
    for day in reading.days.get(one.key, ()):
        ratio = day.attainment.ratio
        state: State = "unknown"
        if ratio is not None:
            state = "ok" if ratio >= one.objective.target else "breached"
        date = datetime.fromtimestamp(day.day * DAY * 60, UTC).strftime("%Y-%m-%d")
        yield UptimeDay(date, None if ratio is None else float(ratio), state, day.is_running)


def _left(one: ObjectiveResult) -> float:
    left = one.status.budget_left
    return 1.0 if left is None else float(left)


def _budget(state: ObjectiveRow) -> float:
    return 1.0 if state.budget_left_ratio is None else state.budget_left_ratio


def _budget_status(one: ObjectiveResult, alerts: ActiveAlerts, name_of: NameOf) -> ObjectiveRow:
    stands, promise = one.status, one.objective
    ratio = stands.attainment.ratio
    state: State = "ok"
    if ratio is None:
        state = "unknown"
    elif ratio < promise.target:
        state = "breached"
    elif burning(one, alerts) is not None or _left(one) < BUDGET_NEARLY_GONE:
        state = "at_risk"
    return ObjectiveRow(
        policy=one.policy.name,
        objective=promise.name,
        about=_about(promise),
        scope=result_scope(one, name_of),
        kind="promise",
        state=state,
        value=fmt.percent(ratio, promise.target),
        target=f"at least {fmt.exact_percent(promise.target)}",
        budget_left_ratio=None if stands.budget_left is None else float(stands.budget_left),
        burn=tuple((window, float(rate)) for window, rate in stands.burn.items()),
    )


def result_scope(one: ObjectiveResult, name_of: NameOf) -> str:
    """Return the scope of an error-budget objective in words like those of `scope_words`."""
    if one.customer is not None and one.objective.scope.per is None:
        return f"customer {name_of(one.customer)}"
    return scope_words(one.objective.scope, one.name, name_of)


def _threshold_status(one: ThresholdStatus, name_of: NameOf) -> ObjectiveRow:
    return ObjectiveRow(
        policy=one.policy.name,
        objective=one.objective.name,
        about=_about(one.objective),
        scope=scope_words(one.objective.scope, one.name, name_of),
        kind="level",
        state=one.state,
        value=value_text(one),
        target=_target(one.objective),
    )


def value_text(one: ThresholdStatus) -> str:
    """Return the value in words, on its side of the target."""
    if one.value is None:
        return fmt.UNKNOWN
    target = mildest_threshold(one.objective)
    if isinstance(one.objective, LatencyThresholdObjective):
        return fmt.latency(one.value, target)
    return f"{fmt.percent(one.value, target)}{_of(one.objective.indicator)}"


def mildest_threshold(objective: LatencyThresholdObjective | ShareThresholdObjective) -> Fraction:
    """Return the mildest threshold, in seconds or as a ratio."""
    if isinstance(objective, LatencyThresholdObjective):
        return Fraction(min(one.above_us for one in objective.levels), 10**6)
    return max(one.below for one in objective.levels)


def _target(objective: LatencyThresholdObjective | ShareThresholdObjective) -> str:
    if isinstance(objective, LatencyThresholdObjective):
        return f"under {fmt.exact_latency(mildest_threshold(objective))}"
    return f"at least {fmt.exact_percent(mildest_threshold(objective))}{_of(objective.indicator)}"


def _of(indicator: ShareIndicator) -> str:
    if isinstance(indicator, CacheHitRatio):
        return ""
    return f" of the {fmt.last_window(indicator.baseline)}'s"


def _unknown(policy: Policy, objective: Objective) -> ObjectiveRow:
    is_promise = isinstance(objective, ErrorBudgetObjective)
    return ObjectiveRow(
        policy=policy.name,
        objective=objective.name,
        about=_about(objective),
        scope=scope_words(objective.scope, "", str),
        kind="promise" if is_promise else "level",
        state="unknown",
        value="unknown",
        target=f"at least {fmt.exact_percent(objective.target)}"
        if isinstance(objective, ErrorBudgetObjective)
        else _target(objective),
    )


def _about(objective: Objective) -> str:
    return " ".join((objective.about or "").split())
