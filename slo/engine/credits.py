"""Credits that an attainment makes due, from the credit tables of a policy.

Pure and exact: Fractions and Decimal, no floats.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import floor

from slo.policy.policy import Policy
from slo.policy.sla import Sla
from slo.policy.units import Money


def credit_share(sla: Sla, ratio: Fraction | None) -> Fraction:
    """Return the share of the fee that is due; 0 if the attainment is unknown."""
    due = Fraction(0)
    # Mildest first, so the last tier that fits is the greatest credit.
    for tier in sla.credit_tiers:
        if ratio is not None and ratio < tier.below:
            due = tier.credit
    return due


def credit(sla: Sla, ratio: Fraction | None, base: Money) -> Money:
    """Return the credit of one objective, of the fee `base`, to the hundredth, halves up.

    Raises ValueError if `min_credit` is in another currency.
    """
    exact = Fraction(base.amount) * credit_share(sla, ratio)
    if sla.min_credit is not None:
        if sla.min_credit.currency != base.currency:
            raise ValueError(f"min_credit is in {sla.min_credit.currency}, the fee {base}; use one")
        if exact <= Fraction(sla.min_credit.amount):
            exact = Fraction(0)
    # Not round(): it would round a half to the even hundredth, and bills round it up.
    return Money(Decimal(floor(exact * 100 + Fraction(1, 2))).scaleb(-2), base.currency)


def credits_due(
    policy: Policy, ratios: Mapping[str, Fraction | None], fee: Money | None
) -> dict[str, Money]:
    """Return the credit of each objective with an SLA and a fee, by name.

    `ratios`: attainment by objective. `fee`: for objectives that name none (the commitment in the
    customer directory). Of a `greatest_of` group only the greatest counts, of equals the first.
    """
    due: dict[str, Money] = {}
    leader: dict[str, str] = {}
    for objective in policy.error_budget_objectives():
        if objective.sla is None:
            continue
        base = objective.sla.base or fee
        if base is None:
            continue
        found = credit(objective.sla, ratios.get(objective.name), base)
        group = objective.sla.greatest_of
        # Of a group only the greatest credit counts; the first of equal ones stays.
        if group in leader:
            if found.amount <= due[leader[group]].amount:
                continue
            del due[leader[group]]
        if group is not None:
            leader[group] = objective.name
        due[objective.name] = found
    return due
