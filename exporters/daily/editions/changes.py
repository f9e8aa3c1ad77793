"""Compare a week or month with the one before, that of four weeks before and that of a year before.

Pure. Tokens are judged by the test of commercial/growth.py; the remaining metrics by the usual
spread of the earlier weeks or months.
"""

from collections.abc import Mapping, Sequence
from datetime import date as Date

import numpy as np

from exporters.daily.commercial.growth import DailyTokens, period_growth_row
from exporters.daily.commercial.token_days import daily_tokens, tokens_by_name
from exporters.daily.day.counts import Groups
from exporters.daily.day.facts import METRICS, Day, GrowthRow, Metric, PeriodChange, Span
from exporters.daily.day.history import DayCounts
from exporters.daily.day.trends import FALLS_WELL, HISTORY_DAYS, NEEDED, SPREADS, WEEK, Base
from exporters.daily.editions.periods import Period
from exporters.reference.customers import Customer
from exporters.windows.incremental import Grouping


def changes_of(
    period: Day, earlier: Mapping[Span, Day], usual: Sequence[Day], growth: Sequence[GrowthRow]
) -> tuple[PeriodChange, ...]:
    """Return the changes of all metrics against each earlier period.

    `usual`: the periods before, whose spread is the usual one. `growth`: that of the tokens.
    """
    # A period with missing days would widen the usual spread, and hide a real change.
    known = tuple(day for day in usual if day.values.requests and day.complete)
    # Of fewer periods the spread is chance; the change is then shown without a judgement.
    base = Base(known) if len(known) >= NEEDED[WEEK] else None
    return tuple(
        _tokens_change(span, before, growth)
        if metric == "tokens"
        else _change(metric, span, period, before, base)
        for metric in METRICS
        for span, before in earlier.items()
    )


def _change(
    metric: Metric, span: Span, period: Day, before: Day, base: Base | None
) -> PeriodChange:
    value, earlier = period.values.of(metric).value, before.values.of(metric).value
    if value is None or earlier is None:
        return PeriodChange(metric, span, earlier, None, None)
    change = value - earlier
    better = None
    if base is not None and abs(change) > SPREADS * base.spread(metric):
        better = (change < 0) == (metric in FALLS_WELL)
    return PeriodChange(metric, span, earlier, change, better)


def _tokens_change(span: Span, before: Day, growth: Sequence[GrowthRow]) -> PeriodChange:
    rows = [row for row in growth if row.dimension == "fleet"]
    of_span = [one for row in rows for one in row.comparisons if one.span == span]
    change, better = None, None
    if of_span:
        change = of_span[0].change_ratio
        better = {"up": True, "down": False}.get(of_span[0].verdict)
    return PeriodChange("tokens", span, before.values.tokens.value, change, better)


def growth_of_period(
    period: Period,
    days: Sequence[Day],
    history: Sequence[DayCounts],
    details: Mapping[str, Groups],
    scopes: Mapping[str, Grouping],
    customers: Mapping[str, Customer],
    year_ago: Sequence[Day],
) -> tuple[GrowthRow, ...]:
    """Return the growth of all traffic, then of the largest models, segments and customers.

    The arguments are those of `tokens_by_name`, the last day that of the period or the running one.
    `year_ago`: the days of the period a year before, of which only all traffic is known.
    """
    last = Date.fromisoformat(days[-1].date)
    complete = np.array([day.complete for day in days[-HISTORY_DAYS:]])
    # NaN for an incomplete day, which would else look like a fall of the tokens.
    fleet_before = np.where([day.complete for day in year_ago], daily_tokens(year_ago), np.nan)
    unknown: DailyTokens = np.full(len(year_ago), np.nan)
    return tuple(
        period_growth_row(
            dimension,
            name,
            tokens,
            last,
            fleet_before if dimension == "fleet" else unknown,
            is_week=period.kind == "week",
            complete=complete,
            is_running=days[-1].state == "running",
        )
        for dimension, name, tokens in tokens_by_name(days, history, details, scopes, customers)
    )
