"""Growth of tokens: noise and weekends are no fall, and each sum equals a recount of the events."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest

from exporters.daily.commercial.growth import growth_row
from exporters.daily.day.calendar import day_at
from exporters.daily.day.counts import Counts
from exporters.daily.day.facts import BoardTargets, Comparison, GrowthRow
from exporters.daily.day.metrics import values_of
from exporters.daily.day.trends import HISTORY_DAYS
from exporters.daily.render.commercial import GROWTH_TITLES, growth_table
from tests.support.checks import not_none
from tests.support.daily_state import DAY_S, HOUR_S, World
from tests.support.steady_days import DIRECTORY, MIDNIGHT, steady

UTC = ZoneInfo("UTC")
NO_TARGETS = BoardTargets(None, None, None, None, None)
LAST = date(2026, 11, 18)  # a Wednesday
Series = npt.NDArray[np.float64]


def with_weekends(last: date, mean: float = 1e9) -> Series:
    """Tokens of a business: less on Saturdays and Sundays."""
    days = [last - timedelta(days=back) for back in reversed(range(HISTORY_DAYS))]
    return np.array([mean * (0.55 if day.weekday() >= 5 else 1.0) for day in days])


def noise(kind: str, random: np.random.Generator) -> Series:
    """Logarithms of factors around 1: about 5 % a day."""
    if kind == "heavy tails":
        return random.laplace(0, 0.04, HISTORY_DAYS)
    steps = random.normal(0, 0.05, HISTORY_DAYS)
    if kind == "independent":
        return steps
    for at in range(1, HISTORY_DAYS):  # a day resembles the one before
        steps[at] += 0.4 * steps[at - 1]
    return steps


def span_of(row: GrowthRow, span: str) -> Comparison:
    return next(one for one in row.comparisons if one.span == span)


@pytest.mark.parametrize("kind", ["independent", "heavy tails", "dependent"])
def test_a_steady_noisy_series_is_seldom_red(kind: str) -> None:
    """Less than 5 % of the boards, although each has four chances."""
    random = np.random.default_rng(7)
    boards, verdicts = 600, Counter[str]()
    for _ in range(boards):
        last = LAST + timedelta(days=int(random.integers(0, 365)))
        row = growth_row("fleet", "", with_weekends(last) * np.exp(noise(kind, random)), last)
        verdicts["red"] += any(one.verdict == "down" for one in row.comparisons)
        verdicts["judged"] += span_of(row, "week").verdict != "unknown"
    assert verdicts["judged"] == boards
    assert verdicts["red"] < 0.05 * boards


@pytest.mark.parametrize("back", range(7))
def test_a_weekend_is_no_fall_and_no_growth(back: int) -> None:
    last = LAST + timedelta(days=back)
    row = growth_row("fleet", "", with_weekends(last), last)
    assert {one.verdict for one in row.comparisons} == {"noise"}
    assert [one.change_ratio for one in row.comparisons] == pytest.approx([0, 0, 0, 0])


def test_a_fall_and_a_rise_beyond_the_noise_are_told() -> None:
    random = np.random.default_rng(3)
    tokens = with_weekends(LAST) * np.exp(random.normal(0, 0.03, HISTORY_DAYS))
    fallen, grown = tokens.copy(), tokens.copy()
    fallen[-1] *= 0.7
    assert span_of(growth_row("fleet", "", fallen, LAST), "weekday").verdict == "down"
    grown[-18:] *= 1.3
    row = growth_row("fleet", "", grown, LAST)
    assert [span_of(row, span).verdict for span in ("four_weeks", "month")] == ["up", "up"]
    assert span_of(row, "week").verdict == "noise"  # both weeks are after the rise


def test_the_month_is_compared_by_day_and_projected_by_weekday() -> None:
    tokens = with_weekends(LAST)
    row = growth_row("fleet", "", tokens, LAST)
    month = span_of(row, "month")
    assert month.tokens == pytest.approx(tokens[-18:].sum())
    assert month.before == pytest.approx(tokens[-49:-18].sum())  # October
    assert month.change_ratio == pytest.approx(0)
    # November 2026 has 21 working days and 9 of weekends.
    assert row.month_projected == pytest.approx(1e9 * (21 + 9 * 0.55))


def test_days_before_the_first_event_are_not_part_of_a_projection() -> None:
    # Counted since the 21st, so the month will have ten days; a hole in between is made up for.
    series = np.full(HISTORY_DAYS, np.nan)
    series[-9:] = 1e9
    last = date(2026, 11, 29)
    assert growth_row("fleet", "", series, last).month_projected == pytest.approx(10e9)
    series[-4] = np.nan
    assert growth_row("fleet", "", series, last).month_projected == pytest.approx(10e9)


def test_the_day_within_which_counting_began_is_only_part_of_the_sums() -> None:
    # Counted since 20:00 on the 20th.
    series = np.full(HISTORY_DAYS, np.nan)
    series[-10:] = 1e9
    series[-10] /= 6
    complete = np.ones(HISTORY_DAYS, bool)
    complete[-10] = False
    row = growth_row("fleet", "", series, date(2026, 11, 29), complete=complete)
    assert span_of(row, "month").tokens == pytest.approx(9e9 + 1e9 / 6)
    assert row.month_projected == pytest.approx(10e9 + 1e9 / 6)


@pytest.mark.parametrize(("begin_h", "change"), [(0, 0.0), (15, None)])
def test_no_day_is_compared_with_the_one_within_which_counting_began(
    in_world: Callable[..., Any], begin_h: int, change: float | None
) -> None:
    async def use(world: World) -> None:
        begin_s = MIDNIGHT + begin_h * HOUR_S
        await world.add(0, [one for one in steady(0) if one["ended_at"] >= 1e3 * begin_s])
        for number in range(1, 8):
            await world.add(0, steady(number))
        facts = await world.builder().facts(MIDNIGHT + 8 * DAY_S + 12 * HOUR_S)
        fleet = facts.growth[0]
        assert span_of(fleet, "weekday").change_ratio == change
        note = growth_table(facts, GROWTH_TITLES).note
        is_left_out = "From 2026-11-10 15:12 on; the first day is left out" in note
        assert is_left_out == (change is None)

    in_world(use)


def test_unknown_incomplete_and_running_days_are_left_out() -> None:
    tokens = with_weekends(LAST)
    tokens[-3] = np.nan
    tokens[-2] /= 100  # most records were lost
    tokens[-1] /= 4  # and the day is not over
    complete = np.ones(HISTORY_DAYS, bool)
    complete[-2] = False
    row = growth_row("fleet", "", tokens, LAST, complete=complete, is_running=True)
    assert span_of(row, "weekday").verdict == "unknown"
    assert span_of(row, "week").change_ratio == pytest.approx(0)
    assert span_of(row, "month").change_ratio == pytest.approx(0)
    assert row.tokens == pytest.approx(2.5e8)


@pytest.mark.parametrize("known", [0, 1, 8, 20])
def test_a_young_series_is_not_judged(known: int) -> None:
    tokens = with_weekends(LAST)
    tokens[: HISTORY_DAYS - known] = np.nan
    row = growth_row("fleet", "", tokens, LAST)
    assert {one.verdict for one in row.comparisons} == {"unknown"}
    assert (span_of(row, "weekday").change_ratio is None) == (known < 8)


def test_a_name_without_tokens_before_has_no_change() -> None:
    tokens = np.zeros(HISTORY_DAYS)
    tokens[-5:] = 100
    week = span_of(growth_row("customer", "a", tokens, LAST), "week")
    assert (week.tokens, week.before, week.change_ratio) == (500, 0, None)


def test_each_sum_is_a_recount_of_the_events_also_of_days_that_only_are_stored(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        for number in range(-26, 15):
            tokens = 1_000 + 10 * (number % 5) + number
            await world.add(0, steady(number, count=6, input_tokens=tokens))
        end_s = MIDNIGHT + 15 * DAY_S
        await world.tell(end_s + 5 * HOUR_S)
        facts = await world.builder(**DIRECTORY).facts(end_s + 5 * HOUR_S)
        assert (facts.date, facts.day.state) == ("2026-11-24", "sealed")

        def recount(days: int, **only: str) -> int:
            return sum(
                one["input_tokens"] + one["output_tokens"]
                for one in world.within(end_s - days * DAY_S, end_s)
                if all(one[key] == value for key, value in only.items())
            )

        rows = {(row.dimension, row.name): row for row in facts.growth}
        names = {
            ("fleet", ""): {},
            ("model", "large"): {"model": "large"},
            ("segment", "enterprise"): {"customer_id": "acme"},
            ("customer", "Globex"): {"customer_id": "globex"},
        }
        for key, only in names.items():
            row = rows[key]
            assert row.tokens == recount(1, **only)
            assert span_of(row, "week").tokens == recount(7, **only)
            assert span_of(row, "week").before == recount(14, **only) - recount(7, **only)
            assert span_of(row, "month").tokens == recount(24, **only)
        assert [row.name for row in facts.growth if row.dimension == "customer"][-1].startswith(
            "unlisted "
        )
        assert not_none(rows["fleet", ""].month_projected) > recount(24)
        # Once its slices are gone, the growth of a day comes from the stored counts of the days.
        builder = world.builder(**DIRECTORY)
        source = builder._source
        snapshot = await source.snapshot()
        today, last, before = (day_at(end_s - back * DAY_S, UTC) for back in range(3))
        history = await source.days(snapshot, "2026-10-15", last, today, before)
        stored = [day._replace(parts=None) for day in history[:-1]]
        days = [not_none(day.record).day for day in stored[-41:]]
        padding = [replace(days[0], values=values_of(Counts(), NO_TARGETS))] * (len(stored) - 41)
        days = [*padding, *days]
        from_slices = await builder._growth(days, history[:-1])
        assert await builder._growth(days, stored) == from_slices
        assert len(from_slices) == len(facts.growth)
        again = await builder.facts(end_s + 6 * HOUR_S, "2026-11-24")
        assert again.growth == facts.growth

    in_world(use)
