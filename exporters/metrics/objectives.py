"""Samples of the promises: the uptime engine's findings as metrics."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import redis.asyncio as aioredis

from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue.spec import Spec
from exporters.metrics.exposition import Page, joined, label_text
from exporters.reference.customers import Customer, Customers
from slo.engine.credits import credit_share
from slo.engine.daily import DayUptime
from slo.engine.engine import Engine
from slo.engine.report import Key, ObjectiveResult, credits
from slo.policy.policy import Policy
from slo.policy.units import Money
from streams.config.settings import Settings
from streams.state.registry import customer_hasher
from streams.store.reader import SliceConsumer, StateSnapshot


def engine_for(settings: Settings, policies: Sequence[Policy], client: "aioredis.Redis") -> Engine:
    """The engine of some policies.

    The customers' key is needed only where a policy names customers; ConfigError without it.
    """

    def token_of(customer_id: str) -> str:
        return customer_hasher(settings.worker.customer_secret())(customer_id)

    return Engine(policies, client, settings.kafka.group, settings.kafka.topic, token_of)


class Objectives:
    """Adds the promises of the configured policies to pages."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
    ) -> None:
        self._engine = engine_for(settings, policies, client)
        self._customers = Customers(customers)

    async def begin(self, now_s: float) -> None:
        """Prepare for a refresh at `now_s`, the wall clock. Raises StoreError."""
        await self._engine.begin(now_s)

    @property
    def consumer(self) -> SliceConsumer:
        """The reader of the slices that the objectives are counted from."""
        return self._engine

    async def add(
        self, page: Page, snapshot: StateSnapshot, now_s: float
    ) -> list[ObjectiveResult] | None:
        """Judge a snapshot whose slices are loaded, and add what is known.

        None while a first reading is under way. Raises StoreError if Redis does not answer.
        """
        found = await self._engine.finish(snapshot, now_s)
        if found is None:
            return None
        fee_of = self._customers.fee_of
        due = credits(found, lambda one: one.status.attainment.ratio, fee_of)
        projected = credits(found, lambda one: one.status.projected, fee_of)
        for one in found:
            _add(page, one, self._labels(one), due, projected)
        return found

    def by_day(
        self, found: Sequence[ObjectiveResult], days: int, now_s: float
    ) -> dict[Key, Sequence[DayUptime]]:
        """The last days of promises of the last `add`."""
        return {one.key: self._engine.by_day(one, days, int(now_s)) for one in found}

    def _labels(self, one: ObjectiveResult) -> str:
        scope = one.scope(self._customers.name_of)
        own = {name: scope[name] for name in objective_metrics.SCOPE if name in scope}
        return label_text({"policy": one.policy.name, "objective": one.objective.name, **own})


def add_status(page: Page, result: ObjectiveResult, labels: str) -> None:
    """Add how an objective stands; a value that is not known is absent."""
    status = result.status
    page.add(objective_metrics.TARGET, labels, float(result.objective.target))
    _add_known(page, objective_metrics.ATTAINMENT, labels, status.attainment.ratio)
    _add_known(page, objective_metrics.BUDGET_LEFT, labels, status.budget_left)
    _add_known(page, objective_metrics.PROJECTED, labels, status.projected)
    for window, rate in status.burn.items():
        page.add(
            objective_metrics.BURN_RATE, joined(labels, label_text({"window": window})), float(rate)
        )
    for window, requests in status.eligible.items():
        page.add(
            objective_metrics.ELIGIBLE, joined(labels, label_text({"window": window})), requests
        )


def _add(
    page: Page,
    one: ObjectiveResult,
    labels: str,
    due: Mapping[Key, Money],
    projected: Mapping[Key, Money],
) -> None:
    stands = one.status
    add_status(page, one, labels)
    for verdict, minutes in stands.verdicts.items():
        which = label_text({"verdict": verdict.name.lower()})
        page.add(objective_metrics.VERDICTS, joined(labels, which), minutes * 60)
    if stands.exhausted_at_s is not None:
        page.add(objective_metrics.EXHAUSTED, labels, stands.exhausted_at_s)
    page.add(objective_metrics.ADJUSTMENTS, labels, len(one.adjustments))
    if one.objective.sla is not None and stands.attainment.ratio is not None:
        share = credit_share(one.objective.sla, stands.attainment.ratio)
        page.add(objective_metrics.CREDIT_SHARE, labels, float(share))
        _add_usd(page, objective_metrics.CREDIT_DUE, labels, due.get(one.key))
        _add_usd(page, objective_metrics.CREDIT_PROJECTED, labels, projected.get(one.key))


def _add_known(page: Page, spec: Spec, labels: str, ratio: Fraction | None) -> None:
    if ratio is not None:
        page.add(spec, labels, float(ratio))


def _add_usd(page: Page, spec: Spec, labels: str, amount: Money | None) -> None:
    if amount is not None and amount.currency == "USD":
        page.add(spec, labels, float(amount.amount))
