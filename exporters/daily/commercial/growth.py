"""Compare the tokens of a day, a week, four weeks and a month with the time before.

Pure. Both sides of a comparison have the same weekdays, or are evened out by the usual share of
each weekday, so a weekend is no fall. Days that are unknown or incomplete are left out on both
sides.

The test: the changes of single days against the same weekday of the week before, over the last 28
days, have a spread s (median distance from their median, scaled to a standard deviation). The mean
of n days against the mean of m days then changes by chance with a standard deviation of

    s / sqrt(2) * sqrt(1/n + 1/m) * f

where f >= 1 corrects for days that depend on each other: the spread of the changes of whole weeks
against the one that independent days would give. A change beyond SPREADS of these, and beyond
LEAST, is growth or a fall; a smaller one is noise.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date as Date
from datetime import timedelta
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt

from exporters.daily.day.facts import Comparison, GrowthRow, GrowthVerdict, Span

SPREADS = 3
LEAST = log(1.02)
REFERENCE_DAYS = 28
_REFERENCE_NEEDED = 14
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_MONTH_TO_DATE_LEAST = 3  # days; fewer say little about a month
_KNOWN_SHARE_LEAST = 0.7  # of the pairs of days of a comparison

# Tokens of each day, the newest last; NaN if they are not known.
DailyTokens = npt.NDArray[np.float64]


def growth_row(
    dimension: str,
    name: str,
    tokens: DailyTokens,
    last: Date,
    *,
    complete: npt.NDArray[np.bool_] | None = None,
    is_running: bool = False,
) -> GrowthRow:
    """Return the growth of one name; `last`: the date of the last element, the board's day.

    Days that are not `complete`, and a running day, are part of no comparison.
    """
    day = float(tokens[-1])
    closed = tokens.copy() if complete is None else np.where(complete, tokens, np.nan)
    if is_running:
        closed[-1] = np.nan
    spread = _Spread(closed)
    # The two longer comparisons of a running day end with the day before.
    end = len(closed) - int(is_running)
    month, projected = _month(closed, tokens, last, spread)
    # As the month to date elsewhere on the board: with days that are incomplete or running.
    to_date = tokens[-last.day :]
    total = None if np.isnan(to_date).all() else float(np.nansum(to_date))
    month = replace(month, tokens=total)
    return GrowthRow(
        dimension=dimension,
        name=name,
        tokens=None if np.isnan(day) else day,
        comparisons=(
            _against("weekday", closed, len(closed), 1, 7, spread),
            _against("week", closed, end, 7, 7, spread),
            _against("four_weeks", closed, end, 28, 28, spread),
            month,
        ),
        month_projected=projected,
    )


def period_growth_row(
    dimension: str,
    name: str,
    tokens: DailyTokens,
    last: Date,
    year_ago: DailyTokens,
    *,
    is_week: bool,
    complete: npt.NDArray[np.bool_],
    is_running: bool,
) -> GrowthRow:
    """Return the growth of one name in a week or month.

    `last`: the date of the last element: the last day of the week or month, or the running day.
    `year_ago`: the tokens of the days of the week 52 weeks before, or of the month a year before;
    NaN if they are not known. Days that are not `complete`, and a running day, are left out.
    """
    days = last.weekday() + 1 if is_week else last.day
    in_period = tokens[-days:]
    total = None if np.isnan(in_period).all() else float(np.nansum(in_period))
    closed = np.where(complete, tokens, np.nan)
    if is_running:
        closed[-1] = np.nan
    spread = _Spread(closed)
    end, days_over = len(closed) - int(is_running), days - int(is_running)
    if is_week:
        comparisons = (
            _against("week", closed, end, days_over, 7, spread),
            _against("four_weeks_ago", closed, end, days_over, 28, spread),
            _paired("year", closed[end - days_over : end], year_ago[:days_over], spread),
        )
        return GrowthRow(dimension, name, total, comparisons, None)
    month, projected = _month(closed, tokens, last, spread)
    year = _year(closed, last, year_ago, spread)
    return GrowthRow(dimension, name, total, (month, year), projected if is_running else None)


def _year(tokens: DailyTokens, last: Date, year_ago: DailyTokens, spread: "_Spread") -> Comparison:
    """Compare a month with the same one a year before, by tokens a day with weekdays evened out."""
    weights = _weekday_weights(tokens, last)
    first = last.replace(day=1)
    now = tokens[-last.day :]
    first_before = first.replace(year=first.year - 1)
    sides = []
    for values, begin in ((now, first), (year_ago, first_before)):
        known = np.flatnonzero(~np.isnan(values))
        weekdays = [(begin + timedelta(days=int(at))).weekday() for at in known]
        if len(known) < max(_MONTH_TO_DATE_LEAST, _KNOWN_SHARE_LEAST * len(values)):
            return Comparison("year", None, None, None, "unknown")
        total = float(values[known].sum())
        sides.append((total, total / sum(weights[weekday] for weekday in weekdays), len(known)))
    (total, rate, days), (earlier, rate_before, days_before) = sides
    return _judged("year", total, earlier, rate, rate_before, spread.of(days, days_before))


class _Spread:
    """The usual change of a series, as the logarithm of a ratio."""

    def __init__(self, tokens: DailyTokens) -> None:
        # Without the newest change, which is to be judged by the others.
        daily = _changes(tokens)[-REFERENCE_DAYS - 1 : -1]
        self._day = _deviation(daily)
        self._factor = 1.0
        weekly = _changes(_rolling(tokens))[-REFERENCE_DAYS - 1 : -1]
        week = _deviation(weekly)
        if self._day and week is not None:
            self._factor = max(1.0, week * sqrt(7) / self._day)

    def of(self, days: int, days_before: int) -> float | None:
        """Return the deviation of a mean of `days` against `days_before`; None if not known."""
        if self._day is None:
            return None
        # Of one day against one day, the spread was observed as it is.
        factor = self._factor if max(days, days_before) > 1 else 1.0
        return self._day / sqrt(2) * sqrt(1 / days + 1 / days_before) * factor


def _changes(tokens: DailyTokens) -> DailyTokens:
    """Return the log change of each element against the one 7 before; NaN if unknown."""
    # A day without tokens has no logarithm, and is no usual change.
    positive = np.where(tokens > 0, tokens, np.nan)
    return np.log(positive[7:]) - np.log(positive[:-7]) if len(tokens) > 7 else np.empty(0)


def _rolling(tokens: DailyTokens) -> DailyTokens:
    """Return the mean of each 7 days."""
    if len(tokens) < 7:
        return np.empty(0)
    means: DailyTokens = np.lib.stride_tricks.sliding_window_view(tokens, 7).mean(axis=1)
    return means


def _deviation(changes: DailyTokens) -> float | None:
    known = changes[~np.isnan(changes)]
    if len(known) < _REFERENCE_NEEDED:
        return None
    return float(_MAD_TO_DEVIATION * np.median(np.abs(known - np.median(known))))


def _against(
    span: Span, tokens: DailyTokens, end: int, days: int, back: int, spread: _Spread
) -> Comparison:
    """Compare the `days` before the index `end` with the same days `back` days earlier."""
    begin = end - days
    now, before = tokens[begin:end], tokens[max(0, begin - back) : max(0, end - back)]
    # The series may begin later than the earlier days: these are unknown.
    if len(before) < days:
        before = np.concatenate([np.full(days - len(before), np.nan), before])
    return _paired(span, now, before, spread)


def _paired(span: Span, now: DailyTokens, before: DailyTokens, spread: _Spread) -> Comparison:
    """Compare days with as many earlier days, each with the one at its place."""
    # Days that are unknown on one side are left out on both, so that each weekday has its partner.
    both = ~np.isnan(now) & ~np.isnan(before)
    pairs = int(both.sum())
    if not pairs or pairs < _KNOWN_SHARE_LEAST * len(now):
        return Comparison(span, None, None, None, "unknown")
    total, earlier = float(now[both].sum()), float(before[both].sum())
    return _judged(span, total, earlier, total, earlier, spread.of(pairs, pairs))


def _judged(
    span: Span,
    total: float,
    earlier: float,
    level: float,
    level_before: float,
    deviation: float | None,
) -> Comparison:
    """Return the comparison of two totals; `level`: the amounts to compare, of equal length."""
    if not level_before:
        return Comparison(span, total, earlier, None, "unknown")
    ratio = level / level_before
    verdict: GrowthVerdict = "unknown"
    if deviation is not None:
        size = abs(log(ratio)) if ratio else float("inf")
        is_noise = size <= max(SPREADS * deviation, LEAST)
        verdict = "noise" if is_noise else "up" if ratio > 1 else "down"
    return Comparison(span, total, earlier, ratio - 1, verdict)


def _month(
    tokens: DailyTokens, counted_tokens: DailyTokens, last: Date, spread: _Spread
) -> tuple[Comparison, float | None]:
    """Return the month to date against the month before, and its projection to the end.

    `counted_tokens`: with those of days that comparisons leave out.
    """
    weights = _weekday_weights(tokens, last)
    dates = [last - timedelta(days=back) for back in reversed(range(len(tokens)))]
    first = last.replace(day=1)
    first_before = (first - timedelta(days=1)).replace(day=1)
    now = [at for at, date in enumerate(dates) if date >= first and not np.isnan(tokens[at])]
    before = [
        at
        for at, date in enumerate(dates)
        if first_before <= date < first and not np.isnan(tokens[at])
    ]
    unknown = Comparison("month", None, None, None, "unknown")
    if len(now) < _MONTH_TO_DATE_LEAST:
        return unknown, None
    total = float(tokens[now].sum())
    rate = total / sum(weights[dates[at].weekday()] for at in now)
    following = (first + timedelta(days=31)).replace(day=1)
    month = [first + timedelta(days=at) for at in range((following - first).days)]
    counted = {dates[at] for at in now}
    # Days that are not over, or not known any more, are taken at the rate of the known ones; those
    # before the first known day of all had no more traffic than was counted.
    began = dates[int(np.flatnonzero(~np.isnan(tokens))[0])]
    projected = total + sum(
        rate * weights[date.weekday()] for date in month if date >= began and date not in counted
    )
    early = [at for at, date in enumerate(dates) if first <= date < began]
    projected += float(np.nansum(counted_tokens[early]))
    if len(before) < _KNOWN_SHARE_LEAST * (first - first_before).days:
        return Comparison("month", total, None, None, "unknown"), projected
    earlier = float(tokens[before].sum())
    rate_before = earlier / sum(weights[dates[at].weekday()] for at in before)
    deviation = spread.of(len(now), len(before))
    return _judged("month", total, earlier, rate, rate_before, deviation), projected


def _weekday_weights(tokens: DailyTokens, last: Date) -> Sequence[float]:
    """Return the usual tokens of each weekday, Monday first, as a share of the mean day."""
    recent = tokens[-REFERENCE_DAYS:]
    weekdays = [(last - timedelta(days=back)).weekday() for back in reversed(range(len(recent)))]
    means = []
    for weekday in range(7):
        values = [
            float(value)
            for value, day in zip(recent, weekdays, strict=True)
            if day == weekday and value > 0
        ]
        if len(values) < 2:
            return [1.0] * 7
        # Geometric: one day of a large customer's batch moves it less.
        means.append(exp(sum(map(log, values)) / len(values)))
    return [mean / (sum(means) / 7) for mean in means]
