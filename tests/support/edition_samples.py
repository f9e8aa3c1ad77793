"""Weekly and monthly boards made by hand, for the tests of what shows and delivers them."""

import random
from dataclasses import replace
from datetime import date

from exporters.daily.day.facts import (
    METRICS,
    Comparison,
    DailyFacts,
    Day,
    Edition,
    GrowthVerdict,
    PeriodChange,
    PeriodKind,
)
from exporters.daily.day.verdict import headline
from exporters.daily.editions.periods import SHOWN, SPANS, Period, period_at
from tests.support.daily_samples import some_day, some_facts, values


def some_edition(kind: PeriodKind = "week", days_over: int | None = None) -> DailyFacts:
    """Week 44 or October 2026, in which TTFT missed; with `days_over`, it is not over."""
    facts = some_facts()
    chance = random.Random(3)
    period = period_at(date(2026, 10, 28), kind)
    days = [_period_day(chance, period.step(-back)) for back in reversed(range(SHOWN))]
    days[0] = replace(days[0], complete=False, note="3 days are incomplete or without data.")
    missed = values(86.9e9, 0.3142, 0.0361, 0.99953, 0.462, 33_689_131)
    days[-1] = replace(days[-1], values=missed)
    total = len(period.days)
    trust = "Final since 2026-11-02 06:00; no records are known to be missing."
    so_far = "So far: "
    if days_over is not None:
        days[-1] = replace(days[-1], state="running", sealed_at_s=None)
        so_far = f"So far, {days_over} of {total} days: "
        trust = (
            f"Running: the {kind} is not over ({days_over} of {total} days), the numbers reach to "
            "2026-10-29 08:00; no records are known to be missing."
        )
    verdicts: tuple[GrowthVerdict, ...] = ("up", "noise", "down")
    spans = tuple(SPANS[kind])
    growth = tuple(
        replace(
            row,
            tokens=86.9e9 if row.dimension == "fleet" else 7 * (row.tokens or 0),
            comparisons=tuple(
                Comparison(span, 86.9e9, 80e9, -0.086 if verdict == "down" else 0.086, verdict)
                for span, verdict in zip(spans, verdicts, strict=False)
            ),
            month_projected=350e9 if days_over is not None and kind == "month" else None,
        )
        for row in facts.growth
    )
    changes = tuple(
        PeriodChange(metric, span, 80e9, 0.086, None)
        if metric == "tokens"
        else PeriodChange(metric, span, *_change(days[-1], days[-2], metric))
        for metric in METRICS
        for span in spans
    )
    return replace(
        facts,
        period=kind,
        date=days[-1].date,
        headline=headline(days[-1], facts.targets, facts.risks, so_far),
        trust=trust,
        days=tuple(days),
        trends=(),
        growth=growth,
        made_at_s=days[-1].to_s + 8 * 3_600,
        edition=Edition(total, total if days_over is None else days_over, changes),
    )


def _change(now: Day, before: Day, metric: str) -> tuple[float, float, bool | None]:
    value, earlier = getattr(now.values, metric).value, getattr(before.values, metric).value
    return earlier, value - earlier, False if metric == "ttft_p95_s" else None


def _period_day(chance: random.Random, period: Period) -> Day:
    made = values(
        round(82e9 * chance.uniform(0.93, 1.06)),
        round(chance.uniform(0.236, 0.289), 4),
        round(chance.uniform(0.033, 0.041), 5),
        round(1 - chance.lognormvariate(-7.6, 0.5), 6),
        round(chance.uniform(0.43, 0.49), 4),
        round(33e6 * chance.uniform(0.95, 1.05)),
    )
    day = some_day(period.first.isoformat(), made)
    return replace(day, to_s=day.from_s + 86_400 * len(period.days))
