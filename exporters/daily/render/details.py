"""Corrections, objectives at risk and segments of the daily board in words.

Pure. Texts are plain and unescaped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporters.daily.day.facts import DailyFacts, Day, Risk, Segment
from exporters.daily.day.figures import figure
from exporters.daily.day.verdict import AT_RISK_BUDGET_LEFT, TITLES, is_at_risk
from exporters.daily.render.rows import Marked, mark_budget, objective, short
from exporters.formatting import budget_left, count, counted, exact_percent, known_tokens, percent


@dataclass(frozen=True, slots=True)
class RiskRow:
    """One objective with a budget."""

    name: str  # `default/uptime`
    scope: str
    target: str
    attained: str
    budget: Marked
    credit: str
    adjusted: bool


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Customers of one segment."""

    name: str
    customers: str  # `42 customers`, `customers unknown`
    requests: str
    tokens: str
    availability: str
    cache_hit: str
    tokens_known: str  # `61.3 % known`; empty if it is known for all requests or for none
    cache_known: str


def attempts_words(day: Day, target: float | None) -> str:
    """Return the attempts of a day beside its requests, in one sentence."""
    if day.attempts is None:
        return ""
    return (
        f"Providers: {counted(day.attempts.attempts, 'attempt')} at "
        f"{counted(day.values.requests, 'request')}; they succeeded in "
        f"{percent(day.attempts.availability_ratio, target)} of the attempts that count, the "
        f"customers in {percent(day.values.availability_ratio.value, target)} of the requests."
    )


def metric_corrections(facts: DailyFacts) -> Iterator[str]:
    """Yield one sentence for each metric of a final day that would read otherwise today."""
    for correction in facts.day.corrections:
        metric = correction.metric
        target = facts.targets.of(metric)
        yield (
            f"Correction, {TITLES[metric]}: final as {figure(metric, correction.sealed, target)}, "
            f"today {figure(metric, correction.now, target)} ({correction.words})."
        )


def risk_corrections(facts: DailyFacts) -> Iterator[str]:
    """Yield one sentence about all error budgets and credits that read otherwise."""
    final = {risk.key: risk for risk in facts.risks}
    differences = []
    for risk in facts.risks_corrected:
        before, now = _risk_words(final[risk.key]), _risk_words(risk)
        # A difference that no reader would see is no correction.
        if before != now:
            name = f"{objective(risk)}, {short(risk.scope)}"
            differences.append(f"{name}: final as {before}, today {now}")
    if differences:
        more = f"; {len(differences) - 1} more" if len(differences) > 1 else ""
        yield f"Correction, error budget of {differences[0]} (late events or maintenance{more})."


def _risk_words(risk: Risk) -> str:
    ahead = "" if risk.credit_projected is None else f" and {risk.credit_projected} ahead"
    return f"{budget_left(risk.budget_left_ratio)}{ahead}"


def risk_row(risk: Risk) -> RiskRow:
    """Return the texts of an objective."""
    return RiskRow(
        name=objective(risk),
        scope=short(risk.scope),
        target=exact_percent(risk.target_ratio),
        attained=percent(risk.attained_ratio, risk.target_ratio),
        budget=mark_budget(risk),
        credit=risk.credit_projected or "–",
        adjusted=risk.adjusted,
    )


def risks_note(risks: Sequence[Risk]) -> str:
    """Return the number of objectives that are not at risk, and of those without data."""
    if not risks:
        return "No policy in force has an error budget."
    unknown = sum(risk.budget_left_ratio is None and not is_at_risk(risk) for risk in risks)
    safe = sum(not is_at_risk(risk) for risk in risks) - unknown
    parts = []
    if safe:
        verb = "has" if safe == 1 else "have"
        least = exact_percent(AT_RISK_BUDGET_LEFT)
        parts.append(f"{counted(safe, 'objective')} {verb} at least {least} of the budget left")
    if unknown:
        verb = "has" if unknown == 1 else "have"
        parts.append(f"{counted(unknown, 'objective')} {verb} no data")
    return f"{'; '.join(parts)}." if parts else ""


def segment_row(segment: Segment, facts: DailyFacts) -> SegmentRow:
    """Return the texts of a segment, its ratios on their sides of the targets."""
    targets = facts.targets
    return SegmentRow(
        name=short(segment.name),
        customers=(
            "customers unknown"
            if segment.customers is None
            else counted(segment.customers, "customer")
        ),
        requests=count(segment.requests),
        tokens=known_tokens(segment.tokens, segment.tokens_known_ratio),
        availability=percent(segment.availability_ratio, targets.availability_ratio),
        cache_hit=percent(segment.cache_hit_ratio, targets.cache_hit_ratio),
        tokens_known=_known_share(segment.tokens_known_ratio),
        cache_known=_known_share(segment.cached_known_ratio),
    )


def _known_share(ratio: float | None) -> str:
    # If none of it is known, the value itself is "unknown".
    return f"{percent(ratio)} known" if ratio and ratio < 1 else ""
