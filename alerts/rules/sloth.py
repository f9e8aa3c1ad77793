"""The objectives as the recording rules that Sloth 0.16 writes, so that its dashboards show them.

Pure. Names and labels are Sloth's; the numbers are ours, in event time: an error ratio is burn rate
times error budget. Where an objective is judged by a label (`per`), that label stays.
"""

from typing import Any

from alerts.promql import number
from alerts.rules.error_budget import of_objective
from exporters.catalogue.objectives import ATTAINMENT, BUDGET_LEFT, BURN_RATE
from slo.policy.burn_rates import BURN_WINDOWS_S, period_s
from slo.policy.policy import ErrorBudgetObjective, Policy

_EVERY = "30s"
_DAY_S = 86_400


def sloth_groups(policy: Policy) -> list[dict[str, Any]]:
    """The groups of all objectives that have a target."""
    return [
        group
        for objective in policy.error_budget_objectives()
        for group in _groups(policy, objective)
    ]


def _groups(policy: Policy, objective: ErrorBudgetObjective) -> list[dict[str, Any]]:
    sloth_id = f"{policy.name}-{objective.name}"
    labels = {"sloth_id": sloth_id, "sloth_service": policy.name, "sloth_slo": objective.name}
    budget = number(objective.error_budget)
    days = number(period_s(objective) // _DAY_S)
    attained = of_objective(policy, objective, ATTAINMENT)

    def record(name: str, expr: str, **more: str) -> dict[str, Any]:
        return {"record": name, "expr": expr, "labels": {**labels, **more}}

    ratios = [
        record(
            f"slo:sli_error:ratio_rate{window}",
            f"{of_objective(policy, objective, BURN_RATE, window=window)} * {budget}",
            sloth_window=window,
        )
        for window in BURN_WINDOWS_S
    ]
    whole = record(f"slo:sli_error:ratio_rate{days}d", f"1 - {attained}", sloth_window=f"{days}d")
    meta = [
        record("slo:objective:ratio", f"vector({number(objective.target)})"),
        record("slo:error_budget:ratio", f"vector({budget})"),
        record("slo:time_period:days", f"vector({days})"),
        record(
            "slo:current_burn_rate:ratio", of_objective(policy, objective, BURN_RATE, window="5m")
        ),
        record("slo:period_burn_rate:ratio", f"(1 - {attained}) / {budget}"),
        record(
            "slo:period_error_budget_remaining:ratio", of_objective(policy, objective, BUDGET_LEFT)
        ),
        record(
            "sloth_slo_info",
            "vector(1)",
            sloth_version="tokenpulse",
            sloth_mode="cli-gen-prom",
            sloth_spec="prometheus/v1",
            sloth_objective=number(objective.target * 100),
        ),
    ]
    return [
        {"name": f"sloth-slo-{kind}-recordings-{sloth_id}", "interval": _EVERY, "rules": rules}
        for kind, rules in (("sli", [*ratios, whole]), ("meta", meta))
    ]
