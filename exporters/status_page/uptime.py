"""Ninety days of a component's availability, day by day.

Pure. Days are those of UTC, as the stored slices are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from exporters.status_page.components import Component, StatusPage
from streams.query.report import ReportData
from streams.state.measures import availability

DAYS = 90
DayColour = Literal["no_data", "operational", "degraded", "outage"]


@dataclass(frozen=True, slots=True)
class StatusDay:
    """The requests of a component on one day; `eligible`: those that an SLA counts."""

    start_s: int
    good: int
    eligible: int

    @property
    def ratio(self) -> Fraction | None:
        """Availability; None on a day without eligible requests."""
        return Fraction(self.good, self.eligible) if self.eligible else None

    def colour(self, page: StatusPage) -> DayColour:
        """Return the colour of the day's bar."""
        if self.ratio is None:
            return "no_data"
        # Exact fractions: a day exactly at the limit keeps the better colour.
        if self.ratio < page.outage_below:
            return "outage"
        return "degraded" if self.ratio < page.degraded_below else "operational"


def uptime_days(
    component: Component, steps: Sequence[tuple[int, Mapping[tuple[str, ...], tuple[int, int]]]]
) -> tuple[StatusDay, ...]:
    """Return the days of a component. `steps`: (start, series -> (good, eligible)) a day."""
    days = []
    for start_s, by_series in steps:
        pairs = [pair for series, pair in by_series.items() if component.selects(series)]
        days.append(StatusDay(start_s, sum(good for good, _ in pairs), sum(of for _, of in pairs)))
    return tuple(days)


def availability_steps(
    answer: ReportData, days: range
) -> list[tuple[int, dict[tuple[str, ...], tuple[int, int]]]]:
    """Return (start, series -> (good, eligible)) for each day; `days`: their starts, in seconds.

    A day outside the answer has no series.
    """
    steps = []
    for start_s in days:
        aggregate = answer.steps.get(start_s)
        groups = {} if aggregate is None else answer.groups(aggregate)
        steps.append((start_s, {series: availability(group) for series, group in groups.items()}))
    return steps


def overall(days: Sequence[StatusDay]) -> Fraction | None:
    """Return the availability over all days; None without eligible requests."""
    # Of all requests, never a mean of days: a quiet night counts as little as it was used.
    eligible = sum(day.eligible for day in days)
    return Fraction(sum(day.good for day in days), eligible) if eligible else None
