"""Weeks and months: their dates, names, and which request means which of them."""

from datetime import date, timedelta

import pytest

from exporters.daily.day.facts import PeriodKind
from exporters.daily.editions.periods import period_at, read_period
from streams.errors import RequestError


@pytest.mark.parametrize("kind", ["day", "week", "month"])
def test_periods_follow_each_other_without_gaps(kind: PeriodKind) -> None:
    period = period_at(date(2024, 1, 1), kind)
    for _ in range(120):
        following = period.step(1)
        assert following.first == period.last + timedelta(days=1)
        assert following.step(-1) == period
        for day in (period.first, period.last):
            assert period_at(day, kind) == period
        assert read_period(period.label, kind) == period
        assert period.days[0] == period.first
        assert period.days[-1] == period.last
        period = following


def test_names() -> None:
    week = period_at(date(2027, 1, 1), "week")
    assert (week.label, week.short) == ("2026-W53", "week 53")
    assert week.words == "Week 53, 28 December 2026 to 3 January 2027"
    assert period_at(date(2026, 11, 11), "week").words == "Week 46, 9 to 15 November 2026"
    month = period_at(date(2026, 11, 11), "month")
    assert (month.label, month.short, month.words) == ("2026-11", "November", "November 2026")
    assert len(month.days) == 30


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("day", "2026-W46"),
        ("week", "2026-11"),
        ("week", "2026-W54"),
        ("week", "0000-W01"),
        ("month", "2026-13"),
        ("month", "2026-W46"),
        ("month", "november"),
        ("month", "9999-12"),
    ],
)
def test_a_request_that_names_no_period_is_one_line(kind: PeriodKind, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_period(text, kind)
    assert text in str(caught.value)
    assert f"write a {kind}" in str(caught.value)
    assert "\n" not in str(caught.value)
