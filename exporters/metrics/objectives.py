"""Samples of the objectives: results of the SLO engine as metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

import redis.asyncio as aioredis

from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue.spec import Spec
from exporters.metrics.exposition import Page, join, label_text
from exporters.reference.customers import Customer, Customers, tokens_with
from slo.engine.credits import credit_share
from slo.engine.engine import Engine
from slo.engine.report import Key, ObjectiveResult, credits
from slo.policy.policy import Policy
from slo.policy.units import Money
from streams.config.settings import Settings


def engine_for(settings: Settings, policies: Sequence[Policy], client: "aioredis.Redis") -> Engine:
    """Return an engine for some policies.

    If one of them names customers, raises ConfigError without the key of the customers' tokens.
    """
    kafka, tiers = settings.kafka, settings.latency.apart_tiers
    tokens = tokens_with(settings)
    return Engine(policies, client, kafka.group, kafka.topic, tokens, tiers)


class ObjectiveSamples:
    """Adds the objectives of the policies to pages."""

    def __init__(self, customers: Mapping[str, Customer]) -> None:
        self._customers = Customers(customers)

    def add(self, page: Page, results: Sequence[ObjectiveResult]) -> None:
        """Add the known values of each objective."""
        fee_of = self._customers.fee_of
        due = credits(results, lambda result: result.status.attainment.ratio, fee_of)
        projected = credits(results, lambda result: result.status.projected, fee_of)
        requests: Counter[tuple[str, str]] = Counter()
        for result in results:
            requests[result.policy.name, result.objective.name] += _recent_requests(result)
        for result in results:
            labels = self._labels(result)
            # Only names of a `per` can be too many.
            if result.objective.scope.per is not None:
                of = requests[result.policy.name, result.objective.name]
                page.rank(labels, _recent_requests(result) / max(of, 1))
            _add(page, result, labels, due, projected)

    def _labels(self, result: ObjectiveResult) -> str:
        scope = result.scope(self._customers.name_of)
        # In one order, so that the labels of an objective are the same text at each refresh.
        own = {name: scope[name] for name in objective_metrics.SCOPE if name in scope}
        return label_text({"policy": result.policy.name, "objective": result.objective.name, **own})


def _recent_requests(result: ObjectiveResult) -> int:
    """Return the requests of the longest window that burn rates are computed over."""
    return max(result.status.eligible.values(), default=0)


def add_status(page: Page, result: ObjectiveResult, labels: str) -> None:
    """Add the status of an objective; unknown values are absent."""
    status = result.status
    page.add(objective_metrics.TARGET, labels, float(result.objective.target))
    _add_ratio(page, objective_metrics.ATTAINMENT, labels, status.attainment.ratio)
    if status.unknown is not None:
        reason = label_text({"reason": status.unknown.code})
        page.add(objective_metrics.UNKNOWN, join(labels, reason), 1)
    _add_ratio(page, objective_metrics.BUDGET_LEFT, labels, status.budget_left)
    _add_ratio(page, objective_metrics.PROJECTED, labels, status.projected)
    for window, rate in status.burn.items():
        page.add(
            objective_metrics.BURN_RATE,
            join(labels, label_text({"window": window})),
            float(rate),
        )
    for window, requests in status.eligible.items():
        page.add(
            objective_metrics.ELIGIBLE,
            join(labels, label_text({"window": window})),
            requests,
        )


def _add(
    page: Page,
    result: ObjectiveResult,
    labels: str,
    due: Mapping[Key, Money],
    projected: Mapping[Key, Money],
) -> None:
    status = result.status
    add_status(page, result, labels)
    for verdict, minutes in status.verdicts.items():
        minute_status = label_text({"verdict": verdict.name.lower()})
        page.add(objective_metrics.VERDICTS, join(labels, minute_status), minutes * 60)
    if status.exhausted_at_s is not None:
        page.add(objective_metrics.EXHAUSTED, labels, status.exhausted_at_s)
    page.add(objective_metrics.ADJUSTMENTS, labels, len(result.adjustments))
    # Without an attainment there is no tier to choose, so a credit is unknown, not 0.
    if result.objective.sla is not None and status.attainment.ratio is not None:
        share = credit_share(result.objective.sla, status.attainment.ratio)
        page.add(objective_metrics.CREDIT_SHARE, labels, float(share))
        _add_usd(page, objective_metrics.CREDIT_DUE, labels, due.get(result.key))
        _add_usd(page, objective_metrics.CREDIT_PROJECTED, labels, projected.get(result.key))


def _add_ratio(page: Page, spec: Spec, labels: str, ratio: Fraction | None) -> None:
    if ratio is not None:
        page.add(spec, labels, float(ratio))


def _add_usd(page: Page, spec: Spec, labels: str, amount: Money | None) -> None:
    # A series has one unit, and the names of these metrics end with it.
    if amount is not None and amount.currency == "USD":
        page.add(spec, labels, float(amount.amount))
