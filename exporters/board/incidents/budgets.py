"""Incidents of error budgets in words. Pure; whether an alert holds comes from the rules."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from exporters import formatting as fmt
from exporters.board.alerts import BURN, MISSED
from exporters.board.facts import Extent, Incident, Notification, Severity, Where, covers
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.incidents.thresholds import NAMES_SHOWN, scope_series
from exporters.board.input import BoardInput
from exporters.board.objectives import NameOf, burning, result_scope, scope_where
from slo.engine.report import ObjectiveResult
from slo.policy.burn_rates import BURN_MINUTES, burn_rate_thresholds
from slo.policy.indicators import RequestRatio
from streams.state.tables import Ints


def budget_incidents(reading: BoardInput, name_of: NameOf) -> Iterator[Incident]:
    """Yield error budgets that burn or are spent; of one objective the worst names only."""
    shown = Counter[int]()
    results: Sequence[ObjectiveResult] = reading.results or ()
    # Worst first, so that the names that are left out are the better ones.
    for result in sorted(results, key=lambda result: result.status.budget_left or 0):
        incident = _burning(result, reading, name_of) or _objective_miss(result, reading, name_of)
        if incident is not None:
            # By identity: two policies may each have an objective of this name.
            shown[id(result.objective)] += 1
            if shown[id(result.objective)] <= NAMES_SHOWN:
                yield incident


def expected_notification(
    reading: BoardInput, where: Where, share_of: Callable[[Ints], float]
) -> Notification:
    """Return when a burn-rate alert will hold if the failures of a place continue as they are now.

    `where`: the place. `share_of`: the share of the requests of some series (1 for each of them,
    else 0) that fail now. Objectives whose scope contains the place are asked.
    """
    expected: list[tuple[bool, float, str]] = []
    for result in reading.results or ():
        if _counts_failures_of(result, where):
            inside = scope_series(result.objective.scope, result.name, reading)
            expected += _holding_times(result, share_of(inside), reading)
    if not expected:
        return Notification()
    # A page before an earlier ticket: it says more of the fault.
    _, at_s, severity = min(expected)
    return Notification("expected", at_s, "page" if severity == "page" else "ticket")


def _counts_failures_of(result: ObjectiveResult, where: Where) -> bool:
    """Return whether the failures of a place spend an objective's budget, request by request."""
    indicator, scope = result.objective.indicator, result.objective.scope
    if not isinstance(indicator, RequestRatio) or not indicator.is_availability:
        return False
    # Series have no customers, and no finer parts of the traffic.
    if scope.finer() or result.customer is not None or "customer" in scope.dimensions():
        return False
    outer = scope_where(scope, result.name)
    return not outer or covers(outer, where)


def _holding_times(
    result: ObjectiveResult, share: float, reading: BoardInput
) -> Iterator[tuple[bool, float, str]]:
    """Yield (is no page, time in s, severity) of each burn-rate alert that will hold."""
    objective, status = result.objective, result.status
    now = share / float(objective.error_budget)  # the burn rate of the present
    for threshold in burn_rate_thresholds(objective):
        factor = float(threshold.factor)
        if now <= factor or objective.severity == "none":
            continue
        ahead_s = 0.0
        for window in (threshold.long, threshold.short):
            window_s = BURN_MINUTES[window] * 60
            # As in the rule, the time before the first event counts as time without failures.
            burnt = float(status.burn.get(window, 0)) * min(_data_s(reading), window_s)
            ahead_s = max(ahead_s, (factor * window_s - burnt) / now)
        yield threshold.severity != "page", reading.now_s + ahead_s, threshold.severity


def _burning(result: ObjectiveResult, reading: BoardInput, name_of: NameOf) -> Incident | None:
    burn, status = burning(result, reading.alerts), result.status
    if burn is None:
        return None
    threshold, alert = burn
    rate = status.burn[threshold.long]
    severity: Severity = "page" if threshold.severity == "page" else "ticket"
    words = (
        f"{_objective_words(result, name_of)} burns its error budget at "
        f"{fmt.burn_rate(rate, threshold.factor)} the sustainable rate "
        f"over the {fmt.last_window(threshold.long)} "
        f"(a {severity} above {fmt.burn_rate(threshold.factor)}"
        f"{_history(reading, threshold.long)})"
    )
    left = status.budget_left
    if left is not None and left <= 0:
        words += ", and it is spent"
    elif left is not None:
        words += f": {fmt.percent(left)} of it is left"
        if status.exhausted_at_s is not None and status.exhausted_at_s > reading.now_s:
            ahead = fmt.span(status.exhausted_at_s - reading.now_s)
            words += f", for {ahead} more at the pace of the last day"
    return Incident(
        severity,
        f"{words}.",
        BURN,
        BURN,
        _key(BURN, result, name_of),
        notification_of([alert]),
        Extent(float(rate), f"burned {fmt.burn_rate(rate, threshold.factor)} too fast"),
        where=_where(result),
        objective=result.key,
    )


def _data_s(reading: BoardInput) -> float:
    """Return how long the state has counted events."""
    since_ms = [view.meta.since_ms for view in reading.views if view.meta.since_ms]
    return reading.now_s - min(since_ms, default=0) / 1_000


def _history(reading: BoardInput, window: str) -> str:
    """Return how much data a window has, `; 6 h window, 1 h of data`; empty if it is full."""
    # A young state does not fill a long window: the rate is that of the data it has, and the words
    # tell so.
    data_s = _data_s(reading)
    window_s = BURN_MINUTES[window] * 60
    if data_s >= window_s:
        return ""
    return f"; {fmt.span(window_s)} window, {fmt.span(data_s)} of data"


def _objective_miss(
    result: ObjectiveResult, reading: BoardInput, name_of: NameOf
) -> Incident | None:
    objective = result.objective
    alerts = reading.alerts.of(result.policy, objective, result.name)
    missed = [alert for alert in alerts if alert.alert == MISSED]
    if not missed:
        return None
    ratio = fmt.percent(result.status.attainment.ratio, objective.target)
    return Incident(
        "ticket",
        f"{_objective_words(result, name_of)} is missed: {ratio}, target "
        f"{fmt.exact_percent(objective.target)}, so its error budget is spent.",
        MISSED,
        MISSED,
        _key(MISSED, result, name_of),
        notification_of(missed),
        where=_where(result),
        objective=result.key,
    )


def _key(alert: str, result: ObjectiveResult, name_of: NameOf) -> str:
    scope = result_scope(result, name_of)
    return incident_key(alert, result.policy.name, result.objective.name, scope)


def _where(result: ObjectiveResult) -> Where:
    if result.customer is not None and result.objective.scope.per is None:
        return (("customer", result.customer),)
    return scope_where(result.objective.scope, result.name)


def _objective_words(result: ObjectiveResult, name_of: NameOf) -> str:
    scope = result_scope(result, name_of)
    return f"Objective {result.objective.name}" + ("" if scope == "fleet" else f" ({scope})")
