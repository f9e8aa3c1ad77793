"""The status of every objective, and the days of those about availability.

Pure. Error budgets come from the SLO engine, thresholds from thresholds.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from fractions import Fraction

from exporters import formatting as fmt
from exporters.board.alerts import BURN, ActiveAlerts
from exporters.board.facts import (
    BUDGET_NEARLY_GONE,
    HistoryStrip,
    ObjectiveRow,
    State,
    UptimeDay,
    Where,
)
from exporters.board.input import BoardInput
from exporters.board.thresholds import ThresholdStatus
from slo.alert_state import AlertState
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
from slo.policy.scope import CalendarMonth, Scope

RANK: dict[State, int] = {"breached": 0, "at_risk": 1, "unknown": 2, "ok": 3}
HISTORY_DAYS = 30
STRIPS_MAX = 12
# Of one objective: a contract with every customer must not bury the fleet. The worst are shown.
NAMES_MAX = 10

NameOf = Callable[[str], str]  # token of a customer -> its name


def objective_statuses(
    policies: Iterable[Policy],
    statuses: Sequence[ThresholdStatus],
    reading: BoardInput,
    name_of: NameOf,
) -> tuple[ObjectiveRow, ...]:
    """Return all objectives, the worst first; of one objective at most NAMES_MAX names.

    `statuses`: of the threshold objectives.
    """
    rows = [_budget_status(result, reading.alerts, name_of) for result in reading.results or ()]
    rows += [_threshold_status(status, name_of) for status in statuses]
    present = {(row.policy, row.objective) for row in rows}
    for policy in policies:
        for objective in policy.objectives:
            # Objectives without results yet (the first reading is under way) are unknown.
            if (policy.name, objective.name) not in present and objective.scope.per is None:
                rows.append(_unknown(policy, objective))
    # Of equal states the one with the least budget left is the worst.
    rows.sort(key=lambda row: (RANK[row.state], _budget(row), row.policy, row.objective))
    names = Counter[tuple[str, str]]()
    worst = []
    for row in rows:
        names[row.policy, row.objective] += 1
        if names[row.policy, row.objective] <= NAMES_MAX:
            worst.append(row)
    return tuple(worst)


def scope_words(scope: Scope, name: str, name_of: NameOf) -> str:
    """Return a scope in words: `fleet`, `model a`, `region eu-west-1, tier batch`."""
    parts = {dimension: list(names) for dimension, names in scope.names().items()}
    if scope.per is not None:
        parts[scope.per] = [name_of(name) if scope.per == "customer" else name]
    texts = [
        f"{'tier' if dimension == 'service_tier' else dimension} {fmt.enumeration(names)}"
        for dimension, names in parts.items()
    ]
    texts += [f"{key.replace('_', ' ')} {text}" for key, text in scope.finer().items()]
    return ", ".join(texts) or "fleet"


def scope_where(scope: Scope, name: str) -> Where:
    """Return the places of a scope; customers by the token that the state has for them."""
    places = [(dimension, each) for dimension, names in scope.names().items() for each in names]
    if scope.per is not None and name:
        # One name of the dimension that is judged name by name, instead of all that it keeps.
        places = [place for place in places if place[0] != scope.per] + [(scope.per, name)]
    return tuple((str(dimension), each) for dimension, each in places)


def burning(
    result: ObjectiveResult, alerts: ActiveAlerts
) -> tuple[BurnRateThreshold, AlertState] | None:
    """Return the most urgent active alert on the speed at which the error budget burns."""
    for alert in alerts.of(result.policy, result.objective, result.name):
        if alert.alert == BURN:
            window = alert.rule_labels["window"]
            thresholds = burn_rate_thresholds(result.objective)
            return next(threshold for threshold in thresholds if threshold.long == window), alert
    return None


def history_strips(reading: BoardInput, name_of: NameOf) -> tuple[HistoryStrip, ...]:
    """Return the availability objectives day by day."""
    return tuple(
        HistoryStrip(
            policy=result.policy.name,
            objective=result.objective.name,
            scope=result_scope(result, name_of),
            target_ratio=float(result.objective.target),
            days=tuple(_days(result, reading)),
        )
        for result in history_objectives(reading.results or ())
    )


def history_objectives(results: Iterable[ObjectiveResult]) -> list[ObjectiveResult]:
    """Return the objectives with a strip: the fleet's first, then by the budget left."""
    availability = [
        result for result in results if isinstance(result.objective.indicator, RequestIndicator)
    ]
    # A fleet's own objectives stay on top, however well they stand.
    availability.sort(key=lambda result: (result.objective.scope != Scope(), _left(result)))
    return availability[:STRIPS_MAX]


def _days(result: ObjectiveResult, reading: BoardInput) -> Iterator[UptimeDay]:
    for day in reading.days.get(result.key, ()):
        ratio = day.attainment.ratio
        state: State = "unknown"
        if ratio is not None:
            state = "ok" if ratio >= result.objective.target else "breached"
        date = datetime.fromtimestamp(day.day * DAY * 60, UTC).strftime("%Y-%m-%d")
        yield UptimeDay(date, None if ratio is None else float(ratio), state, day.is_running)


def _left(result: ObjectiveResult) -> float:
    left = result.status.budget_left
    return 1.0 if left is None else float(left)


def _budget(state: ObjectiveRow) -> float:
    return 1.0 if state.budget_left_ratio is None else state.budget_left_ratio


def _budget_status(result: ObjectiveResult, alerts: ActiveAlerts, name_of: NameOf) -> ObjectiveRow:
    status, objective = result.status, result.objective
    ratio = status.attainment.ratio
    state: State = "ok"
    if ratio is None:
        state = "unknown"
    elif ratio < objective.target:
        state = "breached"
    elif burning(result, alerts) is not None or _left(result) < BUDGET_NEARLY_GONE:
        state = "at_risk"
    return ObjectiveRow(
        policy=result.policy.name,
        objective=objective.name,
        about=_about(objective),
        scope=result_scope(result, name_of),
        kind="promise",
        state=state,
        value=fmt.percent(ratio, objective.target),
        target=f"at least {fmt.exact_percent(objective.target)}",
        window=_window(objective),
        budget_left_ratio=None if status.budget_left is None else float(status.budget_left),
        burn=tuple((window, float(rate)) for window, rate in status.burn.items()),
        name=result.name,
    )


def result_scope(result: ObjectiveResult, name_of: NameOf) -> str:
    """Return the scope of an error-budget objective in words like those of `scope_words`."""
    if result.customer is not None and result.objective.scope.per is None:
        return f"customer {name_of(result.customer)}"
    return scope_words(result.objective.scope, result.name, name_of)


def _threshold_status(status: ThresholdStatus, name_of: NameOf) -> ObjectiveRow:
    # Without a value, "unknown" is said already.
    known = "" if status.value is None else fmt.known_for(status.known_ratio, "input tokens")
    return ObjectiveRow(
        policy=status.policy.name,
        objective=status.objective.name,
        about=_about(status.objective),
        scope=scope_words(status.objective.scope, status.name, name_of),
        kind="level",
        state=status.state,
        value=f"{value_text(status)}{f', {known}' if known else ''}",
        target=_target(status.objective),
        window=_window(status.objective),
        name=status.name,
    )


def value_text(status: ThresholdStatus) -> str:
    """Return the value in words, on its side of the target."""
    if status.value is None:
        return fmt.UNKNOWN
    target = mildest_threshold(status.objective)
    if isinstance(status.objective, LatencyThresholdObjective):
        return fmt.latency(status.value, target)
    return f"{fmt.percent(status.value, target)}{_of(status.objective.indicator)}"


def mildest_threshold(objective: LatencyThresholdObjective | ShareThresholdObjective) -> Fraction:
    """Return the mildest threshold, in seconds or as a ratio."""
    if isinstance(objective, LatencyThresholdObjective):
        return Fraction(min(threshold.above_us for threshold in objective.levels), 10**6)
    return max(threshold.below for threshold in objective.levels)


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
        window=_window(objective),
    )


def _window(objective: Objective) -> str:
    """Return the time that the value of an objective is about: three of them may differ."""
    if not isinstance(objective, ErrorBudgetObjective):
        return fmt.last_window(objective.indicator.window)
    period = objective.period
    return "this month" if isinstance(period, CalendarMonth) else f"last {period.rolling_days} days"


def _about(objective: Objective) -> str:
    return " ".join((objective.about or "").split())
