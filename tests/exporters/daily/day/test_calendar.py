"""Calendar days out of slices: every second in one day, and the numbers of a recount."""

import itertools
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.daily.day.calendar import by_hour, day_at, day_of, days_until, fits_slices, read_date
from exporters.daily.day.facts import METRICS, Values
from streams.query.report import Question, make_report
from streams.state.histogram import ERROR_RATIO
from tests.support.daily_state import DAY_S, HOUR_S, World, at, recount, some_traffic
from tests.support.daily_state import day_of as on

ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Asia/Kolkata"),
    *("Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"),
)


# -- the calendar ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "text", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-10-26", 24),
        ("America/Santiago", "2026-09-06", 23),  # its clocks jump over midnight itself
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("UTC", "2026-03-29", 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_say(zone: str, text: str, hours: float) -> None:
    found = day_of(date.fromisoformat(text), ZoneInfo(zone))
    assert found.to_s - found.from_s == hours * HOUR_S


@given(st.dates(date(2000, 1, 1), date(2040, 1, 1)), st.sampled_from(ZONES), st.floats(0, 1))
def test_every_second_lies_in_one_day_and_days_leave_no_gap(
    day: date, zone: str, share: float
) -> None:
    of = ZoneInfo(zone)
    first, second = days_until(day + timedelta(days=1), 2, of)
    assert first.to_s == second.from_s
    if zone == "Pacific/Apia" and first.from_s == first.to_s:
        return  # 2011-12-30 did not take place there
    inside = first.from_s + int(share * (first.to_s - first.from_s - 1))
    assert day_at(inside, of) == first


@given(st.integers(0, 2**31), st.integers(1, 25 * 3_600))
def test_the_hours_of_a_stretch_add_up_to_it(from_s: int, length_s: int) -> None:
    parts = by_hour((from_s, from_s + length_s))
    assert parts[0][0] == from_s
    assert parts[-1][1] == from_s + length_s
    assert all(one[1] == after[0] for one, after in itertools.pairwise(parts))
    assert all(one[1] % HOUR_S == 0 for one in parts[:-1])


@pytest.mark.parametrize("text", ["", "today", "2026-11-31", "20261110", "2026-W46-2", "2026-1-1"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert read_date(text) is None


@pytest.mark.parametrize(
    ("zone", "text", "days_later", "hours_later", "whole"),
    [
        ("UTC", "2026-01-20", 398, 0, True),
        ("UTC", "2026-01-20", 400, 0, False),
        ("Europe/Berlin", "2026-01-20", 33, 0, True),
        ("Europe/Berlin", "2026-01-20", 35, 0, False),  # UTC days are still there, but no hours
        ("Asia/Kolkata", "2026-01-20", 0, 5.5, True),
        ("Asia/Kolkata", "2026-01-20", 0, 6.5, False),  # ten-minute slices are kept for 30 hours
        ("Asia/Kathmandu", "2026-01-20", 0, 0, False),
        # It begins with a full hour and ends with a half: only its last hour is the trouble.
        ("Australia/Lord_Howe", "2026-04-05", 1, 4, True),
        ("Australia/Lord_Howe", "2026-04-05", 1, 7, False),
    ],
)
def test_a_day_fits_slices_out_only_while_its_midnights_fall_on_slices(
    zone: str, text: str, days_later: int, hours_later: float, whole: bool
) -> None:
    day = day_of(date.fromisoformat(text), ZoneInfo(zone))
    watermark_s = day.to_s + days_later * DAY_S + int(hours_later * HOUR_S)
    assert fits_slices(day.stretch, watermark_s) is whole


# -- the numbers -----------------------------------------------------------------------------------


WHOLE_HOURS = ("UTC", "Europe/Berlin")
HALF_HOURS = ("America/St_Johns", "Asia/Kolkata")


@pytest.mark.parametrize(
    "zone",
    [
        pytest.param(zone, marks=() if zone == "Asia/Kolkata" else pytest.mark.slow)
        for zone in (*WHOLE_HOURS, *HALF_HOURS)
    ],
)
def test_every_day_equals_a_recount_also_where_summer_time_ends(
    in_world: Callable[..., Any], zone: str
) -> None:
    # In zones of half hours a day is only known as it was sealed, so they are kept up day by day;
    # in the others nobody looks for a month.
    async def use(world: World) -> None:
        builder = world.builder()
        half_hours = zone in HALF_HOURS
        last = date(2026, 11, 4 if half_hours else 14)
        calendar = days_until(last, 8 if half_hours else 33, ZoneInfo(zone))
        for number, day in enumerate(calendar):
            for partition in range(2):
                seed = number * 2 + partition
                await world.add(partition, some_traffic(seed, 40, day.from_s, day.to_s))
            if half_hours:
                now_s = day.to_s + 4.5 * HOUR_S
                await world.tell(now_s, 0, 1)
                await builder.facts(now_s)
        facts = await world.builder().facts(day.to_s + 4.5 * HOUR_S)
        closed = facts.days[:-1][-len(calendar) :]
        assert [one.date for one in closed] == [one.date for one in calendar[-len(closed) :]]
        for one in closed:
            last_one = one is closed[-1]
            assert one.state == ("provisional" if last_one and not half_hours else "sealed")
            expected = recount(world.within(one.from_s, one.to_s))
            assert expected["requests"] == one.values.requests > 0
            for metric in METRICS:
                found = getattr(one.values, metric).value
                if metric.endswith("p95_s"):  # read from a histogram, never below the true one
                    assert expected[metric] - 1e-9 <= found
                    assert found <= expected[metric] * (1 + ERROR_RATIO) + 1e-9
                else:
                    assert found == expected[metric], (one.date, metric)

    in_world(use, zone=zone)


async def reported(world: World, from_s: int, to_s: int) -> dict[str, Any]:
    """What `tokenpulse report --from --to` says of a range."""
    kafka = world.settings.kafka
    asked = Question(from_s, to_s, step_s=HOUR_S)
    report = await make_report(world.client, kafka.group, kafka.topic, asked)
    total: dict[str, Any] = report["total"]
    return total


def shown(values: Values) -> dict[str, Any]:
    """The same numbers as the board has them."""
    return {
        "requests": values.requests,
        "tokens": values.tokens.value,
        "ttft": (values.ttft_p95_s.samples, values.ttft_p95_s.value),
        "tpot": (values.tpot_p95_s.samples, values.tpot_p95_s.value),
        "availability": values.availability_ratio.value,
        "cache_hit": values.cache_hit_ratio.value,
    }


def as_shown(total: dict[str, Any]) -> dict[str, Any]:
    return {
        "requests": total["requests"],
        "tokens": total["tokens"]["total"],
        "ttft": (total["ttft_seconds"]["count"], total["ttft_seconds"]["p95"]),
        "tpot": (total["tpot_seconds"]["count"], total["tpot_seconds"]["p95"]),
        "availability": total["availability_ratio"],
        "cache_hit": total["cache_hit_ratio"],
    }


@pytest.mark.parametrize("zone", [pytest.param("UTC", marks=pytest.mark.slow), "Europe/Berlin"])
def test_days_and_month_to_date_equal_the_report_of_the_same_range(
    in_world: Callable[..., Any], zone: str
) -> None:
    async def use(world: World) -> None:
        begin, end = at("2026-10-20 00:00", zone), at("2026-11-08 00:00", zone)
        for number in range(19):
            start, stop = begin + number * DAY_S, min(begin + (number + 1) * DAY_S, end)
            await world.add(number % 2, some_traffic(number, 50, start, stop))
        facts = await world.builder().facts(end + HOUR_S)
        for day in facts.days[-19:-1]:
            assert shown(day.values) == as_shown(await reported(world, day.from_s, day.to_s))
        assert (facts.date, facts.month) == ("2026-11-07", "2026-11")
        month = await reported(world, at("2026-11-01 00:00", zone), end)
        assert shown(facts.month_to_date) == as_shown(month)
        earlier = await world.builder().facts(end + HOUR_S, "2026-10-31")
        assert earlier.month == "2026-10"
        assert shown(earlier.month_to_date) == as_shown(
            await reported(world, begin, at("2026-11-01 00:00", zone))
        )

    in_world(use, zone=zone)


def test_the_running_day_follows_the_state_and_costs_only_what_changed(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        builder = world.builder()
        begin = at("2026-11-10 00:00")
        for step in range(6):
            start = begin + step * 3 * HOUR_S
            await world.add(0, some_traffic(step, 30, start, start + 3 * HOUR_S))
            facts = await builder.facts(start + 3 * HOUR_S, "2026-11-10")
            expected = recount(world.events)
            assert facts.day.state == "running"
            assert facts.day.values.requests == expected["requests"]
            assert facts.day.values.cache_hit_ratio.value == expected["cache_hit_ratio"]
            fresh = await world.builder().facts(start + 3 * HOUR_S, "2026-11-10")
            assert asdict(fresh) == asdict(facts)

    in_world(use)


def test_a_day_that_cannot_be_cut_out_says_so_and_gives_no_number(
    in_world: Callable[..., Any],
) -> None:
    async def use(world: World) -> None:
        begin = at("2026-11-08 00:00", "Asia/Kathmandu")
        for number in range(2):
            start = begin + number * DAY_S
            await world.add(0, some_traffic(number, 30, start, start + DAY_S))
        facts = await world.builder().facts(begin + 2 * DAY_S)
        assert facts.day.state == "absent"
        assert not facts.day.complete
        assert facts.day.values.tokens.value is None
        assert "not finalised in time" in facts.day.note
        running = on(facts, "2026-11-10")
        assert running.values.tokens.value is None

    in_world(use, zone="Asia/Kathmandu")
