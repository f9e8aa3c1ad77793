"""List the contracts that are up for renewal, with how reliable the service was for each.

Pure. The renewal dates and commitments are those of the customer directory today; budgets and
credits are those of the board's day. A customer without an objective of its own is judged by the
availability of its requests in the month to date, against the fleet's target.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date as Date

import numpy as np

from exporters.daily.day.counts import Counts, Groups
from exporters.daily.day.facts import BoardTargets, Contract, Risk
from exporters.daily.day.history import DayCounts
from exporters.daily.day.verdict import is_at_risk, worst_budget
from exporters.reference.customers import Customer
from exporters.windows.incremental import CUSTOMER, Grouping

OVERDUE_DAYS = 31  # a contract stays listed for so long after its renewal date
# The scope of a risk is stored as words, also on days of earlier versions.
_ABOUT_CUSTOMER = re.compile(r"\bcustomer ([0-9a-f]{24})\b")


def contracts_of(
    customers: Mapping[str, Customer],
    risks: Sequence[Risk],
    month: Mapping[str, Counts],
    on: Date,
    targets: BoardTargets,
) -> tuple[Contract, ...]:
    """Return the contracts with a renewal date, the next renewal first; customers by token.

    `risks`: their scopes name customers by token. `month`: counts of the month to date. `on`: the
    board's day.
    """
    risks_of: dict[str, list[Risk]] = {}
    for risk in risks:
        if match := _ABOUT_CUSTOMER.search(risk.scope):
            risks_of.setdefault(match[1], []).append(risk)
    contracts = [
        _contract(
            customer,
            (customer.renewal - on).days,
            risks_of.get(token, []),
            month.get(token, Counts()),
            targets,
        )
        for token, customer in customers.items()
        if customer.renewal is not None and (customer.renewal - on).days >= -OVERDUE_DAYS
    ]
    return tuple(sorted(contracts, key=lambda contract: (contract.renewal, contract.name)))


def _contract(
    customer: Customer,
    days_left: int,
    risks: Sequence[Risk],
    month: Counts,
    targets: BoardTargets,
) -> Contract:
    worst = worst_budget(risks)
    at_risk = any(is_at_risk(risk) for risk in risks)
    attained, target = month.availability_ratio, targets.availability_ratio
    if worst is not None:
        attained, target = worst.attained_ratio, worst.target_ratio
    # Without an objective of its own: the availability against the fleet's target.
    elif attained is not None and target is not None:
        at_risk = at_risk or attained < target
    credits = [risk.credit_projected for risk in risks if risk.credit_projected is not None]
    return Contract(
        name=customer.name,
        segment=customer.segment,
        contract=customer.contract,
        renewal=str(customer.renewal),
        days_left=days_left,
        monthly_commitment_usd=customer.monthly_commitment_usd,
        objective=None if worst is None else f"{worst.policy}/{worst.objective}",
        target_ratio=target,
        attained_ratio=attained,
        budget_left_ratio=None if worst is None else worst.budget_left_ratio,
        credits_projected=tuple(credits),
        at_risk=at_risk,
    )


def month_counts(
    history: Sequence[DayCounts],
    details: Mapping[str, Groups],
    scope: Grouping,
    customers: Mapping[str, Customer],
) -> dict[str, Counts]:
    """Return the counts of the customers with a renewal date in some days, by token.

    `details`: by date, the stored groups of days that the slices no longer cover. `scope`: of
    customers.
    """
    tokens = {token for token, customer in customers.items() if customer.renewal is not None}
    group_of = {key[0]: group for group, key in enumerate(scope.keys) if key[0] in tokens}
    parts: dict[str, list[Counts]] = {token: [] for token in tokens}
    for day in history:
        for part in day.parts or ():
            table = part.summary[CUSTOMER].counts
            for token, group in group_of.items():
                # Keys are sorted; a group without counts is found at the place of another.
                at = int(np.searchsorted(table.keys, group))
                if at < len(table) and table.keys[at] == group:
                    parts[token].append(Counts.from_row(CUSTOMER, table.values[at].tolist()))
        if day.parts is None and day.day.date in details:
            stored = details[day.day.date].get(CUSTOMER, {})
            for token in tokens & set(stored):
                parts[token].append(stored[token])
    return {token: Counts.sum(counts) for token, counts in parts.items()}
