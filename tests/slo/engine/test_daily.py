"""Promises day by day: against a plain recount, and closed days judged once."""

import random
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from slo.engine import attainment
from slo.engine import daily as uptime_days
from slo.engine.daily import DayCache, by_day
from slo.engine.minute_counts import DAY, MinuteCounts
from slo.engine.minute_status import Attainment
from slo.policy.indicators import MinuteUptime, RequestRatio
from slo.policy.loading import as_policy
from slo.policy.policy import ErrorBudgetObjective

TODAY = int(datetime(2026, 11, 10, tzinfo=UTC).timestamp()) // 60 // DAY
NOON_S = (TODAY * DAY + DAY // 2) * 60


def objective(**indicator: Any) -> ErrorBudgetObjective:
    found = as_policy(
        {
            "version": 1,
            "name": "p",
            "objectives": [
                {
                    "name": "o",
                    "indicator": {"kind": "request_ratio"} | indicator,
                    "target": "99%",
                    "period": {"rolling_days": 30},
                }
            ],
        },
        "test",
    )
    return found.error_budget_objectives()[0]


def filled(
    seed: int, days: int = 5, last_minute: int = DAY // 2
) -> tuple[MinuteCounts, dict[int, tuple[int, int]]]:
    """Minute counts of some days up to today, with requests at random minutes, and a list."""
    chance = random.Random(seed)
    minute_counts = MinuteCounts(TODAY + 1 - days, days + 1)
    minute_counts.running = TODAY * DAY + last_minute
    counted = {}
    for _ in range(3_000):
        minute = chance.randrange(minute_counts.begin, minute_counts.running + 1)
        total = chance.randint(1, 50)
        counted[minute] = (total, chance.randint(0, total // 10))
    for minute, pair in counted.items():
        minute_counts.count(minute, {"": pair})
    minute_counts.see(minute_counts.begin, minute_counts.running)
    return minute_counts, counted


def test_each_day_is_a_recount_of_its_minutes() -> None:
    minute_counts, counted = filled(1)
    found = by_day(objective(), minute_counts, "", [], 30, NOON_S)
    assert [one.day for one in found] == list(range(TODAY - 4, TODAY + 1))
    assert [one.is_running for one in found] == [False] * 4 + [True]
    for one in found:
        mine = [pair for minute, pair in counted.items() if minute // DAY == one.day]
        good = sum(total - bad for total, bad in mine)
        assert one.attainment.ratio == Fraction(good, sum(total for total, _ in mine))


@pytest.mark.parametrize("days", [1, 3])
def test_only_so_many_days_are_told(days: int) -> None:
    minute_counts, _ = filled(2)
    found = by_day(objective(), minute_counts, "", [], days, NOON_S)
    assert [one.day for one in found] == list(range(TODAY + 1 - days, TODAY + 1))


def test_a_day_nothing_is_known_of_is_unknown() -> None:
    minute_counts = MinuteCounts(TODAY - 3, 5)
    found = by_day(objective(), minute_counts, "", [], 30, NOON_S)
    assert [one.attainment.ratio for one in found] == [None] * 4


def test_maintenance_does_not_count() -> None:
    minute_counts, counted = filled(3)
    noon = (TODAY - 1) * DAY + 720
    found = by_day(objective(), minute_counts, "", [(noon, noon + 60)], 2, NOON_S)
    mine = {
        minute: pair
        for minute, pair in counted.items()
        if minute // DAY == TODAY - 1 and not noon <= minute < noon + 60
    }
    assert found[0].attainment.counted == sum(total for total, _ in mine.values())


def test_a_run_of_bad_minutes_across_midnight_is_down_on_both_days() -> None:
    #  yesterday 23:57 23:58 23:59 | 0:00 0:01 today      down from 5 in a row: 3 and 2 minutes
    minute_counts = MinuteCounts(TODAY - 2, 4)
    midnight = TODAY * DAY
    minute_counts.running = midnight + DAY // 2
    for minute in range(midnight - DAY, midnight + 600):
        bad = midnight - 3 <= minute < midnight + 2
        minute_counts.count(minute, {"": (10, 10 if bad else 0)})
    minute_counts.see(midnight - DAY, midnight + 600)
    of = objective(kind="minute_verdicts", down_above="5%", down_run=5)
    assert isinstance(of.indicator, MinuteUptime)
    yesterday, today = by_day(of, minute_counts, "", [], 2, NOON_S)
    assert yesterday.attainment.ratio == 1 - Fraction(3, DAY)
    assert today.attainment.ratio == 1 - Fraction(2, 600)


def judged_days(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Days that are judged from now on."""
    days, judged = [], attainment.attainment_over

    def watched(
        of: ErrorBudgetObjective,
        minute_counts: MinuteCounts,
        name: str,
        excluded: list[tuple[int, int]],
        stretch: tuple[int, int],
        now_s: int,
    ) -> tuple[Attainment, dict[Any, Any]]:
        days.append(stretch[0] // DAY - TODAY)
        return judged(of, minute_counts, name, excluded, stretch, now_s)

    monkeypatch.setattr(uptime_days, "attainment_over", watched)
    return days


def test_a_closed_day_is_judged_again_only_when_something_changed_near_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minute_counts, _ = filled(4)
    assert isinstance(objective().indicator, RequestRatio)
    of, cache = objective(), DayCache()
    days = judged_days(monkeypatch)

    def again(excluded: list[tuple[int, int]] | tuple[Any, ...] = ()) -> list[int]:
        days.clear()
        found = by_day(of, minute_counts, "", list(excluded), 30, NOON_S, cache)
        assert found == by_day(
            of, minute_counts, "", list(excluded), 30, NOON_S
        )  # as without a cache
        return sorted(set(days[: len(days) - 5]))

    assert again() == [-4, -3, -2, -1, 0]
    assert again() == [0]
    minute_counts.count((TODAY - 3) * DAY + 7, {"": (10**6, 3)})  # a late event
    assert again() == [-4, -3, -2, 0]
    minute_counts.lose((TODAY - 4) * DAY, (TODAY - 4) * DAY + 5)
    assert again() == [-4, -3, 0]
    noon = (TODAY - 2) * DAY + 720
    assert again([(noon, noon + 60)]) == [-3, -2, -1, 0]
    assert again([(noon, noon + 60)]) == [0]


def test_days_that_leave_the_ledger_leave_the_cache() -> None:
    minute_counts, _ = filled(5)
    cache = DayCache()
    by_day(objective(), minute_counts, "", [], 30, NOON_S, cache)
    assert len(cache.known) == 4
    minute_counts.move(TODAY - 1)
    found = by_day(objective(), minute_counts, "", [], 30, NOON_S, cache)
    assert [one.day for one in found] == [TODAY - 1, TODAY]
    assert {day for _, day in cache.known} == {TODAY - 1}
