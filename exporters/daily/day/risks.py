"""Compute the status of the objectives with a budget at the end of the board's day.

A shell: the SLO engine (slo/engine/engine.py) reads Redis, and this module does not write.
Customers are given by token; the board replaces tokens by names.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import redis.asyncio as aioredis

from exporters.daily.day.facts import Risk
from exporters.formatting import money
from exporters.metrics.objectives import engine_for
from exporters.reference.customers import Customer, Customers
from slo.engine.minute_count_store import MinuteCountStore
from slo.engine.report import ObjectiveResult, credits
from slo.policy.policy import Policy
from slo.policy.units import Money
from streams.config.settings import Settings
from streams.store.contract import StoreError
from streams.store.reader import StateSnapshot

STORED_MAX = 200
_ATTEMPTS_MAX = 10_000


class RiskReader:
    """The objectives of one consumer group and topic."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
    ) -> None:
        self._settings, self._policies, self._client = settings, policies, client
        self._fee_of = Customers(customers).fee_of
        self._minute_counts = MinuteCountStore(client, settings.kafka.group, settings.kafka.topic)
        self._last: tuple[object, tuple[Risk, ...]] | None = None

    def forget(self) -> None:
        """Drop the last answer, as after a failed reading."""
        self._last = None

    async def at(self, snapshot: StateSnapshot, at_s: float, versions: object) -> tuple[Risk, ...]:
        """Return the status at an instant.

        The last answer is reused while `versions` of the counts and the maintenance windows stay
        the same. Raises StoreError.
        """
        versions = versions, tuple(await self._minute_counts.windows())
        if self._last is None or self._last[0] != versions:
            self._last = versions, await self.compute(snapshot, at_s)
        return self._last[1]

    async def compute(self, snapshot: StateSnapshot, at_s: float) -> tuple[Risk, ...]:
        """Return the status at an instant, computed anew. Raises StoreError."""
        engine = engine_for(self._settings, self._policies, self._client)
        # A refresh returns None if the state changed while it was read.
        for _ in range(_ATTEMPTS_MAX):
            results = await engine.refresh(snapshot, at_s, keep=False)
            if results is not None:
                return risks_of(results, self._fee_of)
            await asyncio.sleep(0)
        raise StoreError("the state is rewritten faster than it can be read")


def risks_of(
    results: Sequence[ObjectiveResult], fee_of: Callable[[str], Money | None]
) -> tuple[Risk, ...]:
    """Return the objectives as risks, worst first: least budget left, then those without data."""
    # Due if the period ended now, and projected to its end.
    due = credits(results, lambda one: one.status.attainment.ratio, fee_of)
    projected = credits(results, lambda one: one.status.projected, fee_of)
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
        for one in results
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


def risks_to_store(risks: Sequence[Risk]) -> tuple[Risk, ...]:
    """Return the risks to store: the worst, and all that are overdrawn or cost a credit."""
    return tuple(
        risk
        for at, risk in enumerate(risks)
        if at < STORED_MAX
        or (risk.budget_left_ratio or 0) < 0
        # The amounts are words by now: one with a digit other than 0 is more than nothing.
        or any(digit in "123456789" for digit in f"{risk.credit_due} {risk.credit_projected}")
    )


def risks_that_differ(stored: Sequence[Risk], now: Sequence[Risk]) -> tuple[Risk, ...]:
    """Return the risks of a final day that differ today, with today's values; `adjusted` aside."""
    by_key = {risk.key: risk for risk in now}
    pairs = [(before, by_key.get(before.key)) for before in stored]
    return tuple(
        after
        for before, after in pairs
        if after is not None and replace(after, adjusted=before.adjusted) != before
    )


def _scope(one: ObjectiveResult) -> str:
    names = one.scope(str)
    texts = [
        f"{'tier' if dimension == 'service_tier' else dimension} {name}"
        for dimension, name in names.items()
    ]
    # An objective on several names at once is not divided by name.
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
    finer = one.objective.scope.finer()
    texts += [f"{key.replace('_', ' ')} {text}" for key, text in finer.items()]
    return ", ".join(texts) or "fleet"


def _number(ratio: Fraction | None) -> float | None:
    return None if ratio is None else float(ratio)


def _money(amount: Money | None) -> str | None:
    return None if amount is None else money(amount.amount, amount.currency)
