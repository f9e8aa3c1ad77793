"""Credits of objectives, and the report of `tokenpulse sla`.

Pure. Ratios leave here as exact decimals in text, money in hundredths.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from slo.engine.attainment import ObjectiveStatus
from slo.engine.credits import credit_share, credits_due
from slo.engine.maintenance import Adjustment, ClosedPeriod, ReopenedPeriod
from slo.engine.minute_status import Attainment
from slo.policy.policy import ErrorBudgetObjective, Policy
from slo.policy.units import Money

Key = tuple[str, str, str]  # policy, objective, name


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """One objective and name, with its status, closed periods and adjustments."""

    policy: Policy
    objective: ErrorBudgetObjective
    name: str  # of the scope's `per` dimension; empty without, or if it has no name yet
    customer: str | None  # the one customer it is about, as the state knows it
    status: ObjectiveStatus
    closed: tuple[ClosedPeriod, ...]  # newest first
    adjustments: tuple[Adjustment, ...]
    reopened: tuple[ReopenedPeriod, ...] = ()  # oldest first

    @property
    def key(self) -> Key:
        """Policy, objective and name: unique."""
        return self.policy.name, self.objective.name, self.name

    def scope(self, name_of: Callable[[str], str]) -> dict[str, str]:
        """Return the names of its scope, by dimension; `name_of`: token of a customer -> name."""
        found: dict[str, str] = {
            dimension: names[0]
            for dimension, names in self.objective.scope.names().items()
            # Of several names none describes the scope; tokens of customers are translated below.
            if len(names) == 1 and dimension != "customer"
        }
        customer = self.name if self.objective.scope.per == "customer" else self.customer
        if customer:
            found["customer"] = name_of(customer)
        if self.objective.scope.per not in (None, "customer") and self.name:
            found[str(self.objective.scope.per)] = self.name
        return found


def credits(
    found: Sequence[ObjectiveResult],
    ratio_of: Callable[[ObjectiveResult], Fraction | None],
    fee_of: Callable[[str], Money | None],
) -> dict[Key, Money]:
    """Return the credits of objectives with an SLA and a fee; `fee_of`: customer -> monthly fee."""
    together: dict[tuple[str, str, str | None], list[ObjectiveResult]] = {}
    for one in found:
        # `greatest_of` holds among the objectives of one policy for one payer.
        together.setdefault((one.policy.name, one.name, one.customer), []).append(one)
    due: dict[Key, Money] = {}
    for (_, name, customer), group in together.items():
        # A name is that of a customer only if the scope is by customer; else it is a model or
        # region.
        per_customer = any(one.objective.scope.per == "customer" for one in group)
        payer = name if per_customer else customer
        ratios = {one.objective.name: ratio_of(one) for one in group}
        of_group = credits_due(group[0].policy, ratios, fee_of(payer) if payer else None)
        for one in group:
            if one.objective.name in of_group:
                due[one.key] = of_group[one.objective.name]
    return due


def report(
    found: Sequence[ObjectiveResult],
    due: Mapping[Key, Money],
    projected: Mapping[Key, Money],
    name_of: Callable[[str], str],
) -> list[dict[str, Any]]:
    """Return the report as plain data; unknown values are absent."""
    return [_entry(one, due, projected, name_of) for one in found]


def _entry(
    one: ObjectiveResult,
    due: Mapping[Key, Money],
    projected: Mapping[Key, Money],
    name_of: Callable[[str], str],
) -> dict[str, Any]:
    stands = one.status
    entry: dict[str, Any] = {
        "policy": one.policy.name,
        "objective": one.objective.name,
        "scope": one.scope(name_of) | one.objective.scope.finer(),
        "target_ratio": exact(one.objective.target),
        "period": {"from": instant(stands.period[0]), "to": instant(stands.period[1])},
        "attainment": _attainment(stands.attainment),
        "error_budget_left_ratio": exact(stands.budget_left),
        "burn_rate": {window: float(rate) for window, rate in stands.burn.items()},
        "eligible": dict(stands.eligible),
        "minutes": {verdict.name.lower(): n for verdict, n in stands.verdicts.items()},
        "budget_exhausted_at": (
            None if stands.exhausted_at_s is None else instant(stands.exhausted_at_s // 60)
        ),
        "budget_is_spent": stands.is_budget_spent,
        "projected_ratio": exact(stands.projected),
    }
    if stands.unknown is not None:
        entry["unknown"] = {"reason": stands.unknown.code, "words": stands.unknown.words}
    if one.objective.sla is not None:
        entry["credit"] = {
            "share": exact(credit_share(one.objective.sla, stands.attainment.ratio)),
            "due": _money(due.get(one.key)),
            "projected": _money(projected.get(one.key)),
            "claim_days": one.objective.sla.claim_days,
        }
    entry["closed"] = [_closed_entry(closed_period) for closed_period in one.closed]
    entry["adjustments"] = [
        {
            "before": _closed_entry(change.closed_period),
            "now": _attainment(change.now),
            "because": list(change.because),
        }
        for change in one.adjustments
    ]
    if one.reopened:
        entry["reopened"] = [_reopened_entry(reopened) for reopened in one.reopened]
    return _without_none(entry)


def exact(ratio: Fraction | None) -> str | None:
    """A ratio as a decimal with up to 15 digits after the point."""
    if ratio is None:
        return None
    with localcontext() as context:
        # The default of 28 digits could cut a large number of good requests before its 15 decimals.
        context.prec = 60
        scaled = Decimal(round(ratio * 10**15)).scaleb(-15)
        return f"{scaled.normalize():f}"


def instant(minute: int) -> str:
    """A minute since 1970 as RFC 3339."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _attainment(found: Attainment) -> dict[str, Any]:
    return _without_none(
        {"ratio": exact(found.ratio), "good": exact(found.good), "counted": found.counted}
    )


def _closed_entry(closed_period: ClosedPeriod) -> dict[str, Any]:
    return {
        "from": instant(closed_period.begin),
        "to": instant(closed_period.end),
        **_attainment(closed_period.attainment),
        "closed_at": instant(closed_period.closed_at_s // 60),
    }


def _reopened_entry(reopened: ReopenedPeriod) -> dict[str, Any]:
    return {
        "before": _closed_entry(reopened.before),
        "at": instant(reopened.at_s // 60),
        "author": reopened.author,
        "reason": reopened.reason,
    }


def _money(amount: Money | None) -> str | None:
    return None if amount is None else str(amount)


def _without_none(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}
