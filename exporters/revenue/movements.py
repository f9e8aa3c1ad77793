"""Annual run rate, its movements, and retention between two windows.

Pure and exact. The cohort of retention are the accounts with revenue in the first window: accounts
that left stay in it, and new ones are not in it. The segment of an account is the one it had first,
so that growth into another segment flatters neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from exporters.revenue.history import DaySpan, Revenue, sums

YEAR_DAYS = 365
MOVEMENTS = ("new", "reactivation", "expansion", "contraction", "churn")


@dataclass(frozen=True, slots=True)
class Retention:
    """Retained revenue of a cohort; ratios are None if the cohort is empty."""

    accounts: int
    net_ratio: Fraction | None
    gross_ratio: Fraction | None


@dataclass(frozen=True, slots=True)
class Bridge:
    """From the annual run rate of one window to that of another, in US dollars a year."""

    start: DaySpan
    end: DaySpan
    start_arr_usd: Fraction
    end_arr_usd: Fraction
    movements_usd: Mapping[str, Fraction]  # they add up to the difference
    retention: Retention
    retention_by_segment: Mapping[str, Retention]
    history_begin: date  # before it, an account that is called new may have had revenue


def bridge(history: Sequence[Revenue], start: DaySpan, end: DaySpan) -> Bridge:
    """Return the movements between two windows; `history` is not empty.

    Raises RequestError for lines that lie partly in a window.
    """
    before, after = sums(history, start), sums(history, end)
    per_year = {window: Fraction(YEAR_DAYS, window.days) for window in (start, end)}
    earlier = {
        revenue.account
        for revenue in history
        if revenue.span.end <= start.begin and revenue.net_usd > 0
    }
    movements = dict.fromkeys(MOVEMENTS, Fraction(0))
    arr: dict[str, tuple[Fraction, Fraction]] = {}
    for account in before.keys() | after.keys():
        old = before.get(account, Fraction(0)) * per_year[start]
        new = after.get(account, Fraction(0)) * per_year[end]
        arr[account] = old, new
        if old != new:
            kind = _movement(old, new, account in earlier)
            movements[kind] += new - old
    segments = _first_segments(history, start)
    cohort = {account: pair for account, pair in arr.items() if pair[0] > 0}
    return Bridge(
        start,
        end,
        sum((old for old, _ in arr.values()), Fraction(0)),
        sum((new for _, new in arr.values()), Fraction(0)),
        movements,
        _retention(list(cohort.values())),
        {
            segment: _retention(
                [pair for account, pair in cohort.items() if segments[account] == segment]
            )
            for segment in sorted({segments[account] for account in cohort})
        },
        min(revenue.span.begin for revenue in history),
    )


def _movement(old: Fraction, new: Fraction, was_customer: bool) -> str:
    if old <= 0 < new:
        return "reactivation" if was_customer else "new"
    if new <= 0 < old:
        return "churn"
    return "expansion" if new > old else "contraction"


def _first_segments(history: Sequence[Revenue], window: DaySpan) -> dict[str, str]:
    """Return the segment that each account had first in a window."""
    found: dict[str, str] = {}
    for revenue in sorted(history, key=lambda one: one.span.begin):
        if window.contains(revenue.span):
            found.setdefault(revenue.account, revenue.segment)
    return found


def _retention(cohort: Sequence[tuple[Fraction, Fraction]]) -> Retention:
    start = sum((old for old, _ in cohort), Fraction(0))
    if not start:
        return Retention(0, None, None)
    net = sum((new for _, new in cohort), Fraction(0)) / start
    gross = sum((min(old, new) for old, new in cohort), Fraction(0)) / start
    return Retention(len(cohort), net, gross)
