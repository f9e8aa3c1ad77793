"""Weeks and months of the calendar, and their names.

Pure. A week begins on Monday and has the number of ISO 8601; both follow the dates of the board's
zone, not its clocks.
"""

import re
from datetime import date as Date
from datetime import timedelta
from typing import NamedTuple

from exporters.daily.day.calendar import read_date
from exporters.daily.day.facts import PeriodKind, Span
from streams.errors import RequestError

SHOWN = 13  # weeks, or months, of one board
# Span -> periods back.
SPANS: dict[PeriodKind, dict[Span, int]] = {
    "week": {"week": 1, "four_weeks_ago": 4, "year": 52},
    "month": {"month": 1, "year": 12},
}
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_MONTH = re.compile(r"(\d{4})-(\d{2})")


class Period(NamedTuple):
    """One week or month."""

    kind: PeriodKind
    first: Date
    last: Date

    @property
    def days(self) -> list[Date]:
        """Return its dates."""
        count = (self.last - self.first).days + 1
        return [self.first + timedelta(days=at) for at in range(count)]

    @property
    def label(self) -> str:
        """Return its short name: `2026-W46`, `2026-11`; of a day, the date."""
        if self.kind == "week":
            # The year of the week, which differs from that of its Monday around New Year.
            year, week, _ = self.first.isocalendar()
            return f"{year}-W{week:02}"
        return f"{self.first:%Y-%m}" if self.kind == "month" else self.first.isoformat()

    @property
    def words(self) -> str:
        """Return its name in a title: `Week 46, 9 to 15 November 2026`, `November 2026`."""
        first, last = self.first, self.last
        if self.kind == "month":
            return f"{first:%B %Y}"
        if self.kind == "day":
            return f"{first:%A}, {first.day} {first:%B %Y}"
        month = "" if first.month == last.month else f" {first:%B}"
        year = "" if first.year == last.year else f" {first:%Y}"
        week = first.isocalendar().week
        return f"Week {week}, {first.day}{month}{year} to {last.day} {last:%B %Y}"

    @property
    def short(self) -> str:
        """Return its name in a table: `week 46`, `October`, `3 November`."""
        match self.kind:
            case "week":
                return f"week {self.first.isocalendar().week}"
            case "month":
                return f"{self.first:%B}"
            case "day":
                return f"{self.first.day} {self.first:%B}"

    def step(self, by: int) -> "Period":
        """Return the period `by` periods later; earlier if it is negative."""
        match self.kind:
            case "month":
                months = self.first.year * 12 + self.first.month - 1 + by
                return period_at(Date(months // 12, months % 12 + 1, 1), "month")
            case "week":
                return period_at(self.first + timedelta(weeks=by), "week")
            case "day":
                return period_at(self.first + timedelta(days=by), "day")


def period_at(date: Date, kind: PeriodKind) -> Period:
    """Return the day, week or month that contains a date."""
    match kind:
        case "day":
            return Period(kind, date, date)
        case "week":
            monday = date - timedelta(days=date.weekday())
            return Period(kind, monday, monday + timedelta(days=6))
        case "month":
            first = date.replace(day=1)
            # No month has more than 31 days, so this is in the next one.
            following = (first + timedelta(days=31)).replace(day=1)
            return Period(kind, first, following - timedelta(days=1))


def read_period(text: str, kind: PeriodKind) -> Period:
    """Return the period of a request: any of its dates, `2026-W46` or `2026-11`.

    Raises RequestError for a text that is none of these.
    """
    date = read_date(text)
    try:
        if kind == "week" and (match := _WEEK.fullmatch(text)):
            date = Date.fromisocalendar(int(match[1]), int(match[2]), 1)
        if kind == "month" and (match := _MONTH.fullmatch(text)):
            date = Date(int(match[1]), int(match[2]), 1)
        if date is not None:
            return period_at(date, kind)
    # A week 54, a month 13, or a period that leaves the calendar.
    except (ValueError, OverflowError):
        pass
    forms = {"week": "a date of it, or as 2026-W46", "month": "a date of it, or as 2026-11"}
    form = forms.get(kind, "as YYYY-MM-DD")
    raise RequestError(f"date: got {text[:40]!r}; write a {kind} {form}")


def default_period(today: Date, first: str, kind: PeriodKind) -> Period:
    """Return the last closed day, week or month; the running one if it is the first with data."""
    running = period_at(today, kind)
    closed = running.step(-1)
    return closed if first <= closed.last.isoformat() else running
