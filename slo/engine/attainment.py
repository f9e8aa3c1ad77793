"""Status of an objective: attainment, error budget, burn rates and projections.

Pure and exact. Times are minutes since 1970 unless they end in `_s`. A minute or slice that was not
seen whole is never up and never down: the policy's `unknown` applies to minutes with few requests,
not to missing data.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

import numpy as np

from slo.engine.minute_counts import BLOCK, DAY, Bools, Completeness, MinuteCounts, MinuteSpan
from slo.engine.minute_status import Attainment, MinuteStatus, burn_rate, remaining_budget
from slo.engine.unknown import NAMES_FOLDED, NO_GAPS, CountGaps, UnknownReason, unknown_reason
from slo.policy.burn_rates import BURN_MINUTES
from slo.policy.indicators import (
    LatencyRatio,
    MinuteUptime,
    RequestRatio,
    SlicePercentile,
    SliceRatioMean,
    SliceSpeed,
)
from slo.policy.policy import ErrorBudgetObjective
from slo.policy.scope import CalendarMonth, Period
from streams.state.tables import Ints

PROJECTED_BY = "1d"  # the window whose pace projections carry on
NOTHING = Attainment(Fraction(0), 0)
# A mean of thousands of ratios has a denominator of thousands of digits. Ratios are added up in
# steps of 1e-40 and the sum is rounded to 1e-30: exact wherever the sum has up to 30 decimals.
_FINE, _COARSE = 10**40, 10**10

Stretch = tuple[int, int]  # [begin, end) in minutes


@dataclass(frozen=True, slots=True)
class ObjectiveStatus:
    """One objective, for one name, at one moment."""

    attainment: Attainment
    period: Stretch  # its end lies ahead
    elapsed: int  # minutes of it that are over, or running
    verdicts: Mapping[
        MinuteStatus, int
    ]  # minutes of the period so far; empty for ratios of requests
    budget_left: Fraction | None
    burn: Mapping[str, Fraction]  # by window; absent where nothing is known
    eligible: Mapping[str, int]  # requests by window
    # At the pace of the last day, the present if it is spent already; None: not within the period.
    exhausted_at_s: int | None
    is_budget_spent: bool | None  # of the whole period; None if nothing is known
    projected: Fraction | None  # attainment at the end of a calendar month, at that pace
    unknown: UnknownReason | None = None  # why there is no attainment


def period_of(period: Period, now_s: int) -> Stretch:
    """Return the period that is running at `now_s`. A rolling one ends with the running minute."""
    if not isinstance(period, CalendarMonth):
        end = now_s // 60 + 1
        return end - period.rolling_days * DAY, end
    begin = datetime.fromtimestamp(now_s, period.zone).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0, fold=0
    )
    end_ = (begin.replace(day=28) + timedelta(days=4)).replace(day=1)
    return int(begin.timestamp()) // 60, int(end_.timestamp()) // 60


def last_closed_period(period: Period, now_s: int) -> Stretch:
    """Return the last closed accounting period: calendar month, or UTC day of a rolling one."""
    if isinstance(period, CalendarMonth):
        return period_of(period, period_of(period, now_s)[0] * 60 - 1)
    today = now_s // 60 // DAY * DAY
    return today - DAY, today


def accounting_periods(period: Period, begin: int, now_s: int) -> Iterator[Stretch]:
    """Yield the accounting periods that are over, newest first, down to the minute `begin`.

    The last one is always among them.
    """
    stretch = last_closed_period(period, now_s)
    yield stretch
    while (stretch := last_closed_period(period, stretch[0] * 60))[0] >= begin:
        yield stretch


def objective_status(
    objective: ErrorBudgetObjective,
    minute_counts: MinuteCounts,
    name: str,
    excluded: Sequence[Stretch],
    now_s: int,
    gaps: CountGaps = NO_GAPS,
) -> ObjectiveStatus:
    """Return the status of an objective for one name.

    `excluded`: maintenance. `gaps`: what the workers did not count.
    """
    begin, end = period_of(objective.period, now_s)
    now = now_s // 60 + 1  # the running minute counts as far as requests do
    attained, verdicts = attainment_over(
        objective, minute_counts, name, excluded, (begin, min(now, end)), now_s
    )
    burn: dict[str, Fraction] = {}
    eligible: dict[str, int] = {}
    pace = NOTHING
    for window, minutes in BURN_MINUTES.items():
        stretch = (now - minutes, now)
        if isinstance(objective.indicator, RequestRatio | LatencyRatio):
            recent = attainment_over(objective, minute_counts, name, excluded, stretch, now_s)[0]
        else:  # whole minutes and slices only: the running one is not judged yet
            whole = now_s // 60
            step = _step(objective)
            whole = whole // step * step
            recent = attainment_over(
                objective, minute_counts, name, excluded, (whole - max(minutes, step), whole), now_s
            )[0]
        span = minute_counts.span(name, *stretch)
        counts = span.counts[~excluded_minutes(excluded, span)] if excluded else span.counts
        eligible[window] = int(counts[:, 0].sum(dtype=np.int64))
        if recent.ratio is not None:
            burn[window] = burn_rate(recent.ratio, objective.target)
        if window == PROJECTED_BY:
            pace = recent
    unknown = None
    if minute_counts.is_folded(name, begin):
        unknown = NAMES_FOLDED
    elif attained.ratio is None:
        span = minute_counts.span(name, begin, min(now, end))
        unknown = unknown_reason(objective, span, excluded_minutes(excluded, span), gaps)
    left = None if attained.ratio is None else remaining_budget(attained.ratio, objective.target)
    spent = _spent_ratio(objective, attained, begin, end, now_s)
    return ObjectiveStatus(
        attainment=attained,
        period=(begin, end),
        elapsed=min(now, end) - begin,
        verdicts=verdicts,
        budget_left=left,
        burn=burn,
        eligible=eligible,
        exhausted_at_s=_exhaustion_s(objective, spent, burn, begin, end, now_s),
        is_budget_spent=None if spent is None else spent >= 1,
        projected=_projection(objective, attained, pace, end, now_s),
        unknown=unknown,
    )


def attainment_over(
    objective: ErrorBudgetObjective,
    minute_counts: MinuteCounts,
    name: str,
    excluded: Sequence[Stretch],
    stretch: Stretch,
    now_s: int,
) -> tuple[Attainment, dict[MinuteStatus, int]]:
    """Return the attainment over a stretch of minutes, and the number of minutes by status."""
    # A part of the requests is missing, and may be the bad ones.
    if minute_counts.is_folded(name, stretch[0]):
        return NOTHING, {}
    indicator = objective.indicator
    span = minute_counts.span(name, *stretch)
    if isinstance(indicator, RequestRatio | LatencyRatio):
        minutes, rest = span.counts, span.rest
        if excluded:
            minutes = minutes[~excluded_minutes(excluded, span)]
            rest = rest[~_excluded_blocks(excluded, span)]
        total, bad = (
            int(minutes[:, at].sum(dtype=np.int64)) + int(rest[:, at].sum(dtype=np.int64))
            for at in (0, 1)
        )
        if total < indicator.min_samples:
            return NOTHING, {}
        return Attainment(Fraction(total - bad), total), {}
    end = min(stretch[1], now_s // 60)  # only what is over is judged
    if isinstance(indicator, SliceRatioMean):
        return _ratio_mean(indicator, minute_counts, name, excluded, (stretch[0], end)), {}
    found, seen = minute_statuses(objective, minute_counts, name, excluded, (stretch[0], end))
    step = _step(objective)
    counts = np.bincount(found, minlength=4)
    up, down = int(counts[MinuteStatus.UP]), int(counts[MinuteStatus.DOWN])
    silent = int(((found == MinuteStatus.UNKNOWN) & seen).sum())
    up += silent * (indicator.unknown == "up")
    down += silent * (indicator.unknown == "down")
    by_verdict = {verdict: int(counts[verdict]) * step for verdict in MinuteStatus}
    return Attainment(Fraction(up), up + down), by_verdict


def minute_statuses(
    objective: ErrorBudgetObjective,
    minute_counts: MinuteCounts,
    name: str,
    excluded: Sequence[Stretch],
    stretch: Stretch,
) -> tuple[Ints, Bools]:
    """Return the status of each whole minute or slice of a stretch, and whether it was seen whole.

    For indicators that judge minutes, or slices by a percentile; raises TypeError for others."""
    indicator = objective.indicator
    if isinstance(indicator, MinuteUptime):
        # A run may begin before and end after the stretch.
        wider = minute_counts.span(
            name, stretch[0] - indicator.down_run, stretch[1] + indicator.down_run
        )
        found = _minutes(indicator, wider, excluded)
        low = max(stretch[0], wider.begin) - wider.begin
        high = max(low, min(stretch[1] - wider.begin, len(found)))
        return found[low:high], wider.seen[low:high] == Completeness.WHOLE
    if not isinstance(indicator, SlicePercentile | SliceSpeed):
        raise TypeError(f"{indicator.kind} has no verdicts by minute or slice")
    totals, bads, seen, out = _slices(
        indicator.slice_s // 60, minute_counts, name, excluded, stretch
    )
    # Nearest rank, as `percentile_kept` of tests/support/objective_oracle.py has it.
    rank = -(-indicator.percentile * totals // 100)
    kept = bads < rank if isinstance(indicator, SliceSpeed) else totals - bads >= rank
    found = np.where(kept, MinuteStatus.UP, MinuteStatus.DOWN)
    found[(totals < indicator.min_samples) | ~seen] = MinuteStatus.UNKNOWN
    found[out] = MinuteStatus.EXCLUDED
    return found, seen


def _minutes(indicator: MinuteUptime, span: MinuteSpan, excluded: Sequence[Stretch]) -> Ints:
    total, bad = span.counts.astype(np.int64).T
    above = indicator.down_above
    found = np.where(
        bad * above.denominator > total * above.numerator, MinuteStatus.DOWN, MinuteStatus.UP
    ).astype(np.int64)
    found[(total < indicator.min_samples) | (span.seen != Completeness.WHOLE)] = (
        MinuteStatus.UNKNOWN
    )
    found[excluded_minutes(excluded, span)] = MinuteStatus.EXCLUDED
    # Begin and end of each run of bad minutes, alternating.
    edges = np.flatnonzero(np.diff(found == MinuteStatus.DOWN, prepend=False, append=False))
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - begin < indicator.down_run:
            found[begin:end] = MinuteStatus.UP
    return found


def _slices(
    step: int, minute_counts: MinuteCounts, name: str, excluded: Sequence[Stretch], stretch: Stretch
) -> tuple[Ints, Ints, Bools, Bools]:
    """Return totals, bad counts, seen whole, excluded: one value per whole slice of `step` minutes.

    Excluded minutes of a slice do not count; a slice of excluded minutes does not either.
    """
    low, high = -(-stretch[0] // step) * step, stretch[1] // step * step
    span = minute_counts.span(name, low, max(low, high))
    if (skipped := -span.begin % step) or len(span.seen) % step:
        span = minute_counts.span(
            name, span.begin + skipped, (span.begin + len(span.seen)) // step * step
        )
    out: Bools = excluded_minutes(excluded, span).reshape(-1, step)
    # Excluded minutes are set to 0 before the sum, so that the rest of their slice counts.
    counts = np.where(out.reshape(-1, 1), 0, span.counts).reshape(-1, step, 2)
    sums = counts.sum(axis=1, dtype=np.int64)
    # An excluded minute need not be seen: it cannot change the slice.
    seen: Bools = np.all((span.seen.reshape(-1, step) == Completeness.WHOLE) | out, axis=1)
    whole: Bools = np.all(out, axis=1)
    return sums[:, 0], sums[:, 1], seen, whole


def _ratio_mean(
    indicator: SliceRatioMean,
    minute_counts: MinuteCounts,
    name: str,
    excluded: Sequence[Stretch],
    stretch: Stretch,
) -> Attainment:
    totals, bads, seen, out = _slices(
        indicator.slice_s // 60, minute_counts, name, excluded, stretch
    )
    enough = totals >= indicator.min_samples
    counted = enough & seen & ~out
    silent = int((~enough & seen & ~out).sum())
    # Equal (bad, total) pairs share one division: a month has few distinct ones.
    pairs, times = np.unique(
        np.column_stack((bads[counted], totals[counted])), axis=0, return_counts=True
    )
    failed = sum(
        times_ * ((2 * bad * _FINE + total) // (2 * total))
        for (bad, total), times_ in zip(pairs.tolist(), times.tolist(), strict=True)
    )
    # Round halves up, as each summand was.
    good = int(counted.sum()) - Fraction((failed + _COARSE // 2) // _COARSE, _FINE // _COARSE)
    if indicator.unknown == "excluded":
        silent = 0
    return Attainment(good + silent * (indicator.unknown == "up"), int(counted.sum()) + silent)


def excluded_minutes(excluded: Sequence[Stretch], span: MinuteSpan) -> Bools:
    """Return which minutes of a span are in one of the excluded stretches."""
    out = np.zeros(len(span.seen), np.bool_)
    for begin, end in excluded:
        out[max(begin - span.begin, 0) : max(end - span.begin, 0)] = True
    return out


def _excluded_blocks(excluded: Sequence[Stretch], span: MinuteSpan) -> Bools:
    """Return which blocks lie wholly in one exclusion."""
    out = np.zeros(len(span.rest), np.bool_)
    for begin, end in excluded:
        # Round the begin up and the end down: a block that is only partly excluded counts whole.
        low = -(-(begin - span.first_block) // BLOCK)
        out[max(low, 0) : max((end - span.first_block) // BLOCK, 0)] = True
    return out


def _step(objective: ErrorBudgetObjective) -> int:
    """Return the number of minutes that are judged together."""
    indicator = objective.indicator
    if isinstance(indicator, SlicePercentile | SliceSpeed | SliceRatioMean):
        return indicator.slice_s // 60
    return 1


def _spent_ratio(
    objective: ErrorBudgetObjective, attained: Attainment, begin: int, end: int, now_s: int
) -> Fraction | None:
    """Return how much of the period's error budget is spent, from 0; None if nothing is known."""
    if attained.ratio is None:
        return None
    spent = burn_rate(attained.ratio, objective.target)
    if _is_month(objective):
        # A month's budget is for the whole month; so far only the elapsed part of it was due.
        spent *= Fraction(now_s - begin * 60, (end - begin) * 60)
    return spent


def _exhaustion_s(
    objective: ErrorBudgetObjective,
    spent: Fraction | None,
    burn: Mapping[str, Fraction],
    begin: int,
    end: int,
    now_s: int,
) -> int | None:
    pace = burn.get(PROJECTED_BY)
    if spent is None or not pace:
        return None
    if spent >= 1:
        return now_s
    at_s = now_s + (1 - spent) * (end - begin) * 60 / pace
    # A rolling period forgets as it goes: at a pace of 1 and less nothing is used up.
    is_ahead = at_s < end * 60 if _is_month(objective) else pace > 1
    return round(at_s) if is_ahead else None


def _is_month(objective: ErrorBudgetObjective) -> bool:
    return isinstance(objective.period, CalendarMonth)


def _projection(
    objective: ErrorBudgetObjective, attained: Attainment, pace: Attainment, end: int, now_s: int
) -> Fraction | None:
    if not _is_month(objective) or attained.ratio is None:
        return None
    if pace.ratio is None:
        return attained.ratio
    ahead = pace.counted * Fraction(end * 60 - now_s, BURN_MINUTES[PROJECTED_BY] * 60)
    return (attained.good + pace.ratio * ahead) / (attained.counted + ahead)
