"""Incidents of error budgets in words. Pure; whether an alert holds comes from the rules."""

from collections import Counter
from collections.abc import Iterator, Sequence

from exporters import formatting as fmt
from exporters.board.alerts import BURN, MISSED
from exporters.board.facts import Extent, Incident, Severity, Where
from exporters.board.incidents.notifications import incident_key, notification_of
from exporters.board.incidents.thresholds import NAMES_SHOWN
from exporters.board.input import BoardInput
from exporters.board.objectives import NameOf, burning, result_scope, scope_where
from slo.engine.report import ObjectiveResult
from slo.policy.burn_rates import BURN_MINUTES


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
    )


def _history(reading: BoardInput, window: str) -> str:
    """Return how much data a window has, `; 6 h window, 1 h of data`; empty if it is full."""
    since_ms = [view.meta.since_ms for view in reading.views if view.meta.since_ms]
    # A young state does not fill a long window: the rate is that of the data it has, and the words
    # tell so.
    data_s = reading.now_s - min(since_ms, default=0) / 1_000
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
