"""The sum of days: its state, its completeness, and late events."""

from collections.abc import Callable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from exporters.daily.commercial.cache_margin import stored_margin
from exporters.daily.commercial.growth import period_growth_row
from exporters.daily.day.calendar import day_of
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import BoardTargets, CacheMargin, CacheRow, Day, DayState
from exporters.daily.day.final import VERSION, FinalDay, pack_counts
from exporters.daily.day.history import DayCounts
from exporters.daily.day.metrics import values_of
from exporters.daily.editions.periods import period_at
from exporters.daily.editions.totals import PeriodDays, period_day
from streams.state.tables import Table
from tests.support.checks import not_none
from tests.support.daily_state import HOUR_S, World, recount
from tests.support.exporter_state import event

UTC = ZoneInfo("UTC")
WEEK = period_at(date(2026, 11, 11), "week")
TARGETS = BoardTargets(None, None, 0.9, None, None)
AFTER_S = day_of(WEEK.last, UTC).to_s + 9 * HOUR_S


def histogram(*buckets: int) -> Table:
    keys, counts = np.unique(np.array(buckets, np.int64), return_counts=True)
    return Table(keys, counts.astype(np.int64))


def counts_of(requests: int, bucket: int = 500) -> Counts:
    return Counts(
        requests=requests,
        eligible=requests,
        successes=requests - 1,
        input_tokens=100 * requests,
        ttft=histogram(*[bucket] * requests),
    )


def repeated(state: DayState, days: int) -> list[DayState]:
    return [state] * days


def some_days(*states: DayState, counts: Counts | None = None) -> PeriodDays:
    """A week of days of ten requests; final days as they are stored."""
    history, days = [], []
    for at, (on, state) in enumerate(zip(WEEK.days, states, strict=False)):
        calendar, one = day_of(on, UTC), counts or counts_of(10 + at)
        day = Day(
            date=on.isoformat(),
            from_s=calendar.from_s,
            to_s=calendar.to_s,
            state=state,
            complete=state != "absent",
            values=values_of(one, TARGETS),
            note="Late events count until 12:00." if state == "provisional" else "",
            sealed_at_s=calendar.to_s + 9 * HOUR_S if state == "sealed" else None,
        )
        record = None
        if state == "sealed":
            record = FinalDay(VERSION, "UTC", day, TARGETS, (), (), fleet=pack_counts(one))
        fleet = None if state == "absent" else one
        history.append(DayCounts(calendar, None, fleet, record))
        days.append(day)
    return PeriodDays(WEEK, history, days)


def test_a_week_is_final_when_all_its_days_are() -> None:
    final = period_day(some_days(*repeated("sealed", 7)), {}, TARGETS, UTC, AFTER_S)
    assert (final.state, final.complete, final.note, final.corrections) == ("sealed", True, "", ())
    assert final.sealed_at_s == AFTER_S
    assert final.values.requests == sum(range(10, 17))
    open_day = period_day(
        some_days(*repeated("sealed", 6), "provisional"), {}, TARGETS, UTC, AFTER_S
    )
    assert (open_day.state, open_day.sealed_at_s) == ("provisional", None)
    assert open_day.note == "2026-11-15: late events count until 12:00."
    running = period_day(some_days("sealed", "running"), {}, TARGETS, UTC, AFTER_S - 5 * 86_400)
    assert (running.state, running.values.requests) == ("running", 21)
    nothing = period_day(some_days(*repeated("absent", 7)), {}, TARGETS, UTC, AFTER_S)
    assert (nothing.state, nothing.complete, nothing.values.requests) == ("absent", False, 0)


def test_a_day_without_counts_makes_the_week_incomplete() -> None:
    days = some_days(*repeated("sealed", 5), "absent", "absent")
    found = period_day(days, {}, TARGETS, UTC, AFTER_S)
    assert (found.state, found.complete) == ("sealed", False)
    assert found.note == "2 days are incomplete or without data."
    # Of an earlier version, the counts are stored apart from the day.
    old = [
        one if one.record is None else one._replace(record=replace_fleet(one.record), fleet=None)
        for one in days.history
    ]
    apart = {one.day.date: counts_of(3) for one in old if one.record is not None}
    found = period_day(days._replace(history=old), apart, TARGETS, UTC, AFTER_S)
    assert found.values.requests == 15
    found = period_day(days._replace(history=old), {}, TARGETS, UTC, AFTER_S)
    assert (found.values.requests, found.note[:6]) == (0, "7 days")


def replace_fleet(record: FinalDay) -> FinalDay:
    return FinalDay.unpack(record.pack().replace(b'"fleet"', b'"other"'))


def test_a_percentile_is_that_of_all_requests_and_not_a_mean_of_days() -> None:
    quiet, busy = counts_of(1, 900), counts_of(99, 100)
    days = some_days("sealed", "sealed")
    history = [
        one._replace(record=None, fleet=fleet)
        for one, fleet in zip(days.history, (quiet, busy), strict=True)
    ]
    found = period_day(days._replace(history=history), {}, TARGETS, UTC, AFTER_S)
    assert found.values.ttft_p95_s.value == values_of(busy, TARGETS).ttft_p95_s.value
    assert found.values.ttft_p95_s.samples == 100


def test_late_events_are_corrections_of_a_final_week() -> None:
    days = some_days(*repeated("sealed", 7))
    history = [*days.history[:-1], days.history[-1]._replace(fleet=counts_of(40))]
    found = period_day(days._replace(history=history), {}, TARGETS, UTC, AFTER_S)
    assert found.values.requests == sum(range(10, 17))
    assert {one.metric for one in found.corrections} >= {"tokens", "availability_ratio"}
    assert found.corrections[0].words == "late events: 24 requests more"


def test_stored_dollars_add_up_in_total_and_only_if_every_day_has_them() -> None:
    def margin(saved: float | None) -> CacheMargin:
        return CacheMargin(0.4, (CacheRow("fleet", "", 0.5, saved, None),), 7)

    total = not_none(stored_margin([margin(1.5), margin(2.0), margin(None)]))
    assert total.rows == (CacheRow("fleet", "", None, 3.5, None),)
    assert total.unpriced_tokens == 21
    assert stored_margin([margin(1.5), None]) is None


def test_the_running_week_is_compared_with_the_same_days_and_a_year_with_the_same_month() -> None:
    tokens = np.array([[100.0] * 5 + [40.0] * 2] * 9).ravel()[:-3]  # to a Thursday, running
    thursday = date(2026, 11, 12)
    tokens[-4:-1] = 150.0

    def row(last: date, *, is_week: bool, year_ago: list[float]) -> Any:
        known = np.ones(len(tokens), bool)
        return period_growth_row(
            *("fleet", "", tokens, last, np.array(year_ago)),
            is_week=is_week,
            complete=known,
            is_running=True,
        )

    week = row(thursday, is_week=True, year_ago=[75.0] * 7)
    assert week.tokens == 3 * 150 + 100
    assert [(one.span, one.tokens, one.before) for one in week.comparisons] == [
        ("week", 450, 300),
        ("four_weeks_ago", 450, 300),
        ("year", 450, 225),
    ]
    assert [one.verdict for one in week.comparisons] == ["up"] * 3
    month = row(thursday, is_week=False, year_ago=[200.0] * 30)
    assert [one.span for one in month.comparisons] == ["month", "year"]
    assert not_none(month.comparisons[1].change_ratio) < 0
    assert not_none(month.month_projected) > month.tokens
    unknown = row(thursday, is_week=False, year_ago=[float("nan")] * 30)
    assert unknown.comparisons[1].verdict == "unknown"


def test_a_week_that_is_not_over_says_so_on_the_first_day_of_all(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        begin_s = day_of(WEEK.first, UTC).from_s
        await world.add(0, [event(begin_s + 60 * at) for at in range(30)])
        facts = await world.builder().facts(begin_s + HOUR_S, None, "week")
        assert (facts.date, facts.day.state) == ("2026-11-09", "running")
        assert facts.headline.startswith("So far, 0 of 7 days: ")
        expected = recount(world.within(begin_s, begin_s + HOUR_S))
        assert facts.day.values.tokens.value == expected["tokens"]
        assert not_none(facts.edition).changes == ()

    in_world(use)
