"""Weeks and months of the daily board: each figure is a recount of the events of its days."""

from collections.abc import Callable
from typing import Any

import pytest

from exporters.daily.day.facts import METRICS, DailyFacts, Day, PeriodKind
from exporters.daily.day.final import NAMES_MAX
from exporters.daily.day.metrics import NOT_LISTED
from exporters.daily.render.view import period_of
from tests.support.checks import not_none
from tests.support.daily_state import DAY_S, HOUR_S, World, at, recount, some_traffic
from tests.support.exporter_state import token_of
from tests.support.steady_days import DIRECTORY

BEGIN = at("2026-10-26 00:00")  # a Monday
# Nearest rank on buckets that are at most 0.8 % wide, and never below the exact value.
BUCKET = 1.008


async def fill(world: World, days: int, zone: str = "UTC") -> float:
    """Count random days from BEGIN on, and finalise each in turn; return the end of the last."""
    begin = BEGIN if zone == "UTC" else at("2026-10-26 00:00", zone)
    builder = world.builder(**DIRECTORY)
    for number in range(days):
        start = begin + number * DAY_S
        # Days of unequal size and latency, so that means of days are not those of all requests.
        traffic = some_traffic(number, 20 + 37 * (number % 3), start, start + DAY_S)
        for one in traffic:
            one["ttft_ms"] *= 1 + number % 3
            one["duration_ms"] += 3 * one["ttft_ms"]
        await world.add(number % 2, traffic)
        if zone != "UTC":
            await world.tell(start + DAY_S + 4.2 * HOUR_S, 0, 1)
            await builder.facts(start + DAY_S + 4.2 * HOUR_S)
    return begin + days * DAY_S


def assert_recounted(day: Day, world: World) -> None:
    expected = recount(world.within(day.from_s, day.to_s))
    assert day.values.requests == expected["requests"]
    for metric in METRICS:
        value = day.values.of(metric).value
        if metric.endswith("_s"):
            assert expected[metric] <= value <= expected[metric] * BUCKET, metric
        else:
            assert value == expected[metric], metric


async def assert_edition(
    world: World, now_s: float, kind: PeriodKind, label: str, periods: int
) -> DailyFacts:
    """Return the edition; fail if a figure of it is no recount of the events."""
    facts = await world.builder(**DIRECTORY).facts(now_s, None, kind)
    assert (facts.period, period_of(facts).label, facts.day.state) == (kind, label, "sealed")
    counted = [day for day in facts.days if day.values.requests]
    assert len(counted) == periods
    for day in counted:
        assert_recounted(day, world)
    fleet, *names = facts.growth
    assert fleet.tokens == facts.day.values.tokens.value
    inside = world.within(facts.day.from_s, facts.day.to_s)
    for row in names:
        if row.dimension != "segment":
            field = {"model": "model", "customer": "customer_id"}[row.dimension]
            real = [one for one in inside if not one.get("probe") and named(one[field], row.name)]
            assert row.tokens == recount(real)["tokens"], row
    before = [one for one in not_none(facts.edition).changes if one.span == kind]
    assert [one.metric for one in before] == (list(METRICS) if periods > 1 else [])
    for change in before:
        value = not_none(facts.days[-2].values.of(change.metric).value)
        assert change.value == value
        if change.metric != "tokens":
            assert change.change == not_none(facts.day.values.of(change.metric).value) - value
    return facts


def named(name: str, shown: str) -> bool:
    """True if the board shows a name of the events so."""
    unlisted = f"unlisted {token_of(name)[:6]}"
    return shown in (name, name.capitalize(), unlisted)


@pytest.mark.slow
def test_each_week_and_month_is_a_recount_of_its_days(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        now_s = await fill(world, 38) + 5 * HOUR_S  # to 2 December
        await world.tell(now_s, 0, 1)
        await assert_edition(world, now_s, "week", "2026-W48", 5)
        await assert_edition(world, now_s, "month", "2026-11", 2)
        december = await world.builder().facts(now_s, "2026-12", "month")
        assert december.day.state == "running"
        assert december.headline.startswith("So far, 2 of 31 days: ")
        assert "the month is not over (2 of 31 days)" in december.trust
        assert_recounted(december.day, world)

    in_world(use)


@pytest.mark.slow
def test_days_that_are_only_stored_add_up_as_well(in_world: Callable[..., Any]) -> None:
    async def use(world: World) -> None:
        now_s = await fill(world, 9, "Asia/Kolkata") + 5 * HOUR_S
        await world.tell(now_s, 0, 1)
        await assert_edition(world, now_s + 2 * DAY_S, "week", "2026-W44", 1)

    in_world(use, zone="Asia/Kolkata")


@pytest.mark.parametrize(
    ("zone", "later_d"),
    # Slices that make up a day are kept for 35 days at full hours off UTC, else for six hours.
    [("UTC", 50), ("Asia/Kolkata", 1), ("America/Los_Angeles", 50)],
)
def test_the_segments_of_an_old_week_are_a_recount_in_every_zone(
    in_world: Callable[..., Any], zone: str, later_d: int
) -> None:
    async def use(world: World) -> None:
        builder, begin = world.builder(**DIRECTORY), at("2026-10-26 00:00", zone)
        # More customers than are stored of a day, most of them too small to be stored by name.
        small = [f"small {number}" for number in range(NAMES_MAX + 10)]
        for start in range(int(begin), int(begin) + 7 * DAY_S, DAY_S):
            traffic = some_traffic(start, 4 * len(small), start, start + DAY_S, probe=False)
            for number, one in enumerate(traffic):
                names = ("acme", "globex", *small[number % len(small) :])
                one["customer_id"] = names[number % 3]
            await world.add(0, traffic)
            # The Sunday of Los Angeles has 25 hours.
            await world.tell(start + DAY_S + 5.2 * HOUR_S)
            await builder.facts(start + DAY_S + 5.2 * HOUR_S)
        now_s = begin + (7 + later_d) * DAY_S
        await world.tell(now_s)

        facts = await world.builder(**DIRECTORY).facts(now_s, "2026-W44", "week")

        inside = world.within(facts.day.from_s, facts.day.to_s)
        assert {one.name for one in facts.segments} == {"enterprise", "smb", NOT_LISTED}
        for segment in facts.segments:
            owners = {"enterprise": ["acme"], "smb": ["globex"]}.get(segment.name)
            expected = recount(
                one
                for one in inside
                if (one["customer_id"] in owners if owners else one["customer_id"] in small)
            )
            assert segment.requests == expected["requests"], segment
            assert segment.tokens == expected["tokens"], segment
            assert segment.availability_ratio == expected["availability_ratio"], segment
            assert segment.cache_hit_ratio == expected["cache_hit_ratio"], segment
            is_counted_apart = zone == "UTC"
            assert (segment.customers is not None) == is_counted_apart, segment

    in_world(use, zone=zone)
