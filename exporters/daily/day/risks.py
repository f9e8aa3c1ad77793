"""The status of the objectives with a budget at the end of the board's day.

Pure: the SLO engine (slo/engine/engine.py) computes the status. Customers are given by token; the
renderer replaces tokens by names.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from exporters.daily.day.facts import Risk
from slo.engine.report import ObjectiveResult, credits
from slo.policy.units import Money

SEALED_MAX = 200


def risks_of(
    found: Sequence[ObjectiveResult], fee_of: Callable[[str], Money | None]
) -> tuple[Risk, ...]:
    """Return the worst first: least budget left, then those without data."""
    due = credits(found, lambda one: one.status.attainment.ratio, fee_of)
    projected = credits(found, lambda one: one.status.projected, fee_of)
    risks = [
        Risk(
            policy=one.policy.name,
            objective=one.objective.name,
            scope=_scope(one),
            target_ratio=float(one.objective.target),
            attained_ratio=_number(one.status.attainment.ratio),
            budget_left_ratio=_number(one.status.budget_left),
            credit_due=_money(due.get(one.key)),
            credit_projected=_money(projected.get(one.key)),
            adjusted=bool(one.adjustments),
        )
        for one in found
    ]
    return tuple(
        sorted(
            risks,
            key=lambda risk: (
                risk.budget_left_ratio is None,
                risk.budget_left_ratio or 0.0,
                (risk.policy, risk.objective, risk.scope),
            ),
        )
    )


def to_seal(risks: Sequence[Risk]) -> tuple[Risk, ...]:
    """Return the risks to store: the worst, and all that are overdrawn or cost a credit."""
    return tuple(
        risk
        for at, risk in enumerate(risks)
        if at < SEALED_MAX
        or (risk.budget_left_ratio or 0) < 0
        or any(digit in "123456789" for digit in f"{risk.credit_due} {risk.credit_projected}")
    )


def corrected(sealed: Sequence[Risk], now: Sequence[Risk]) -> tuple[Risk, ...]:
    """Those of a sealed day that would read otherwise today, as they would; `adjusted` aside."""
    by_key = {(one.policy, one.objective, one.scope): one for one in now}
    found = [(was, by_key.get((was.policy, was.objective, was.scope))) for was in sealed]
    return tuple(
        one for was, one in found if one is not None and replace(one, adjusted=was.adjusted) != was
    )


def _scope(one: ObjectiveResult) -> str:
    names = one.scope(str)
    texts = [
        f"{'tier' if dimension == 'service_tier' else dimension} {name}"
        for dimension, name in names.items()
    ]
    several = {
        dimension: values
        for dimension, values in one.objective.scope.names().items()
        if len(values) > 1
    }
    texts += [
        f"{len(values)} customers"
        if dimension == "customer"
        else f"{'tier' if dimension == 'service_tier' else dimension} {' or '.join(values)}"
        for dimension, values in several.items()
    ]
    return ", ".join(texts) or "fleet"


def _number(ratio: Fraction | None) -> float | None:
    return None if ratio is None else float(ratio)


def _money(amount: Money | None) -> str | None:
    return None if amount is None else f"{amount.amount:,.2f} {amount.currency}"
