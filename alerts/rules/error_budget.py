"""Rules for objectives with a target: error budget burning, objective missed, credit due.

Pure. They read the objective metrics of the exporter, which are in event time: the rules are right
after an outage of the pipeline and with an empty Prometheus.
"""

from collections.abc import Iterator
from fractions import Fraction

from alerts.promql import any_of, newest, number, on
from alerts.rules.model import (
    KEEP_FIRING_S,
    LIVE,
    Alert,
    about_text,
    customers_affected,
    dashboard,
    objective_labels,
    query_template,
    whom,
)
from exporters.catalogue.objectives import (
    ATTAINMENT,
    BUDGET_LEFT,
    BURN_RATE,
    CREDIT_DUE,
    CREDIT_SHARE,
    ELIGIBLE,
)
from exporters.catalogue.pipeline import STATE_SINCE
from exporters.catalogue.spec import Spec
from slo.policy.burn_rates import BURN_MINUTES, BurnRateThreshold, burn_rate_thresholds
from slo.policy.conditions import BURN_MIN_FAILURES, BURN_MIN_REQUESTS
from slo.policy.indicators import (
    LatencyRatio,
    MinuteUptime,
    RequestRatio,
    SliceRatioMean,
)
from slo.policy.policy import ErrorBudgetObjective, Policy
from slo.policy.selection import Selection
from slo.policy.units import percent_text

# Of these an error budget is requests; of the other kinds it is minutes or slices.
_COUNT_REQUESTS = (RequestRatio, LatencyRatio)


def error_budget_alerts(policy: Policy, objective: ErrorBudgetObjective) -> Iterator[Alert]:
    """Yield all rules of one objective."""
    if objective.severity != "none":
        for level in burn_rate_thresholds(objective):
            yield _burn_alert(policy, objective, level)
        yield _miss_alert(policy, objective)
    yield from _credit_alerts(policy, objective)


def of_objective(
    policy: Policy, objective: ErrorBudgetObjective, spec: Spec, **matchers: str
) -> str:
    """Return PromQL for a gauge of this objective, with one value per judged name."""
    selected = {"policy": policy.name, "objective": objective.name, **matchers}
    return newest(
        spec, {label: any_of((value,)) for label, value in selected.items()}, _per_labels(objective)
    )


def _per_labels(objective: ErrorBudgetObjective) -> tuple[str, ...]:
    """Return the label by which this objective is judged, if any."""
    return (objective.scope.per,) if objective.scope.per else ()


def _query_template(policy: Policy, objective: ErrorBudgetObjective, spec: Spec) -> str:
    """Return the start of a template that queries another gauge for the labels of this alert."""
    about = f"policy='{policy.name}',objective='{objective.name}'"
    per = objective.scope.per
    query = query_template(f"{spec.name}{{{about}", *([per] if per else []))
    return f"{{{{ with {query} }}}}"


def _budget_template(policy: Policy, objective: ErrorBudgetObjective) -> str:
    query = _query_template(policy, objective, BUDGET_LEFT)
    value = "{{ . | first | value | humanizePercentage }}"
    return f"{query}{value}{{{{ else }}}}unknown{{{{ end }}}}"


def _burn_alert(policy: Policy, objective: ErrorBudgetObjective, level: BurnRateThreshold) -> Alert:
    long = of_objective(policy, objective, BURN_RATE, window=level.long)
    short = of_objective(policy, objective, BURN_RATE, window=level.short)
    factor = number(level.factor)
    if isinstance(objective.indicator, _COUNT_REQUESTS):
        # burn rate * error budget * eligible = failures, a whole number but for rounding
        eligible = of_objective(policy, objective, ELIGIBLE, window=level.long)
        # Half a failure less, so that rounding in the product cannot lose the last one.
        fewest = BURN_MIN_FAILURES - Fraction(1, 2)
        enough = f"{long} * {eligible} >= {number(fewest / objective.error_budget)}"
    else:
        eligible = of_objective(policy, objective, ELIGIBLE, window=level.short)
        enough = f"{eligible} >= {BURN_MIN_REQUESTS}"
    return Alert(
        name="TokenpulseErrorBudgetBurn",
        severity=level.severity,
        expr=f"{long} > {factor}\nand {short} > {factor}\nand {enough}"
        f"\nunless {_is_short_of_history(long, level)}",
        summary=f"{objective.name} burns its error budget {{{{ $value | humanize }}}} times as "
        f"fast as sustainable{whom(_per_labels(objective))}",
        description=f"{about_text(objective)}Over the last {level.long} the error budget was spent "
        f"{{{{ $value | humanize }}}} times as fast as the period sustains, and over the "
        f"last {level.short} too. The alert fires above {factor}: at that rate, {level.long} spend "
        f"{percent_text(level.budget_share)} of the whole budget.",
        value="{{ $value | humanize }} times as fast as sustainable",
        target=f"{percent_text(objective.target)}, so at most {factor} times as fast as "
        "sustainable",
        budget_left=_budget_template(policy, objective),
        # The budget of a latency, or of one place, is spent without these failures.
        customers=(
            customers_affected()
            if (_place(objective), _kind(objective)) == ("fleet", "availability")
            else ""
        ),
        keep_firing_s=KEEP_FIRING_S,
        labels=objective_labels(policy, objective)
        | {"window": level.long, "scope": _place(objective), "kind": _kind(objective)},
        # A page is for the person on call, who asks where; a ticket is about the period.
        link=LIVE if level.severity == "page" else _link(policy, objective),
    )


def _is_short_of_history(long: str, level: BurnRateThreshold) -> str:
    """Return PromQL for burn rates that are over the factor only because the data is young.

    Time before the first event counts as time without failures: a burn rate over the first ten
    minutes is a sixth of it over an hour. So a new installation pages as late as an old one.
    """
    age_s = f"(time() - {newest(STATE_SINCE)})"
    limit = number(level.factor * BURN_MINUTES[level.long] * 60)
    return f"{long} * {on()} group_left () {age_s} <= {limit}"


def _place(objective: ErrorBudgetObjective) -> str:
    """Return the label `scope`: `fleet` for all requests, the dimension, or `series` for a part."""
    if objective.scope.finer():
        return "series"
    return Selection.of(objective.scope).scope


def _kind(objective: ErrorBudgetObjective) -> str:
    """Return the label `kind`: the failures of `tokenpulse_availability_ratio`, others, latency."""
    indicator = objective.indicator
    # An outage raises only burn rates of the failures that availability counts.
    if not isinstance(indicator, RequestRatio | MinuteUptime | SliceRatioMean):
        return "latency"
    return "availability" if indicator.is_availability else "errors"


def _miss_alert(policy: Policy, objective: ErrorBudgetObjective) -> Alert:
    return Alert(
        name="TokenpulseObjectiveMissed",
        severity="ticket",
        expr=f"{of_objective(policy, objective, ATTAINMENT)} < {number(objective.target)}",
        summary=f"{objective.name} is missed: {{{{ $value | humanizePercentage }}}} of "
        f"{percent_text(objective.target)}{whom(_per_labels(objective))}",
        description=f"{about_text(objective)}The attainment of the running period is "
        f"{{{{ $value | humanizePercentage }}}}, the target {percent_text(objective.target)}: the "
        "error budget is spent.",
        value="{{ $value | humanizePercentage }}",
        target=percent_text(objective.target),
        budget_left=_budget_template(policy, objective),
        for_s=60,
        keep_firing_s=KEEP_FIRING_S,
        labels=objective_labels(policy, objective),
        link=_link(policy, objective),
    )


def _credit_alerts(policy: Policy, objective: ErrorBudgetObjective) -> Iterator[Alert]:
    """Yield one rule per tier, of which one fires at a time: entering a worse tier alerts again."""
    if objective.sla is None:
        return
    share = of_objective(policy, objective, CREDIT_SHARE)
    shares: list[Fraction] = sorted({tier.credit for tier in objective.sla.credit_tiers} - {0})
    for at, credit in enumerate(shares):
        upper = f"\nand {share} < {number(shares[at + 1])}" if at + 1 < len(shares) else ""
        below = max(tier.below for tier in objective.sla.credit_tiers if tier.credit == credit)
        query = _query_template(policy, objective, CREDIT_DUE)
        due = f"{query}, {{{{ . | first | value | humanize }}}} USD"
        yield Alert(
            name="TokenpulseCreditDue",
            severity="ticket",
            expr=f"{share} >= {number(credit)}{upper}",
            summary=f"A credit of {percent_text(credit)} is due for {objective.name}"
            f"{whom(_per_labels(objective))}",
            description=f"{about_text(objective)}The attainment of the running month fell below "
            f"{percent_text(below)}. If the month ended now, {percent_text(credit)} of the fee"
            f"{due}{{{{ end }}}} would be due.",
            value="{{ $value | humanizePercentage }} of the fee",
            target=f"no credit: at least {percent_text(objective.sla.credit_tiers[0].below)}",
            budget_left=_budget_template(policy, objective),
            for_s=60,
            keep_firing_s=KEEP_FIRING_S,
            labels=objective_labels(policy, objective) | {"credit": percent_text(credit)},
            link=_link(policy, objective),
        )


def _link(policy: Policy, objective: ErrorBudgetObjective) -> str:
    return f"{dashboard('sla')}&var-policy={policy.name}&var-objective={objective.name}"
